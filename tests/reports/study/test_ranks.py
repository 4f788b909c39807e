"""Ranks of algorithms under each condition, from paired t tests of all pairs and Holm's steps written out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from scipy import stats

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study import comparisons
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import Study, study
from autoflip_secure.reports.tables.statistics import statistics_table

Make = Callable[..., RunRecord]
NAMES = ("fedavg", "autoflip", "autoflip_plus", "agreement_only", "random_weights")


def by_hand(found: Study, place: Any) -> dict[str, tuple[int, int]]:
    own = {a: found.values(place, a) for a in found.algorithms}
    p_values = {}
    for a, b in permutations(own, 2):
        seeds = sorted(own[a])
        sides = [[own[name][seed] for seed in seeds] for name in (a, b)]
        p_values[a, b] = stats.ttest_rel(*sides, alternative="greater")[1]
    above, worst = set(), 0.0
    for place_, (pair, p) in enumerate(sorted(p_values.items(), key=lambda one: one[1])):
        worst = max(worst, (len(p_values) - place_) * p)
        if worst <= 0.05:
            above.add(pair)
    return {a: (1 + sum((b, a) in above for b in own), len(own) - sum((a, b) in above for b in own)) for a in own}


@pytest.fixture
def cells(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    return [
        record(name, partition["iid"], malicious, seed, rounds=4)
        for name in NAMES
        for malicious in (attack["clean"](), attack["noise"](0.5))
        for seed in range(5)
    ]


def test_a_rank_is_what_the_pairs_leave_possible(cells: list[RunRecord]) -> None:
    found = study(cells)
    rows = compare(found)
    for place in found.conditions:
        assert {row.algorithm: row.rank for row in rows if row.condition == place} == by_hand(found, place)
    said = {row.standing for row in rows}
    assert all(row.ranked == len(NAMES) for row in rows)
    assert any(words.endswith("of 5") for words in said)  # under noise scores stand above the mean
    under = {row.algorithm: row.rank for row in rows if row.condition.attack != "no attack"}
    assert under["FedAvg"] is not None
    assert under["AutoFLIP"] is not None
    assert under["AutoFLIP"][1] < under["FedAvg"][0]
    table = statistics_table(rows, found.baseline)
    place = table.columns.index("rank from")
    assert [tuple(line[place : place + 2]) for line in table.rows] == [row.rank for row in rows]
    assert table.columns[place : place + 3] == ["rank from", "rank to", "ranked"]


def test_what_cannot_be_ranked_has_none(cells: list[RunRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    one_seed = compare(study([cell for cell in cells if cell.seed == 0]))
    alone = compare(study([cell for cell in cells if cell.algorithm == "autoflip"]))
    assert {row.standing for row in [*one_seed, *alone]} == {""}
    assert "rank from" not in statistics_table(one_seed, "FedAvg").columns
    two = compare(study([cell for cell in cells if cell.seed < 2 and cell.config["attack"]["kind"] == "none"]))
    assert {row.standing for row in two} == {"not distinguishable"}
    monkeypatch.setattr(comparisons, "MOST_RANKED", 4)
    assert {row.rank for row in compare(study(cells))} == {None}
