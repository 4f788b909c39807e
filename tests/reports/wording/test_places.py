"""Where an algorithm stands among many: from ranks by hand, and in the headline of a sweep of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planted import at
from synthetic_records import ALGORITHMS

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.comparisons import Row, compare
from autoflip_secure.reports.study.study import Condition, study
from autoflip_secure.reports.wording import places
from autoflip_secure.reports.wording.verdict import opening


def rows(*ranks: tuple[int, int], ranked: int = 6) -> list[Row]:
    """Of "A" under one condition after another, and of another algorithm that is above all."""
    level = Interval(0.5, 0.4, 0.6, 5)
    own = [
        Row(Condition("IID", f"attack {number}"), "A", level, None, rank=rank, ranked=ranked)
        for number, rank in enumerate(ranks)
    ]
    return [*own, Row(Condition("IID", "attack 0"), "B", level, None, rank=(1, 1), ranked=ranked)]


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([(1, 1)], "among 6 algorithms above all others"),
        ([(1, 1), (1, 1)], "among 6 algorithms above all others under all 2 conditions"),
        ([(1, 6), (1, 6)], "not distinguishable among 6 algorithms"),
        ([(1, 5), (1, 6)], "among 6 algorithms shown to be below none"),
        ([(2, 5), (1, 6)], "among 6 algorithms below some under 1 of 2 conditions"),
        ([(2, 5)], "among 6 algorithms below some"),
        ([(2, 5), (1, 1)], "among 6 algorithms above all others under 1 of 2 conditions and below some under 1 of 2 "
         "conditions"),
        ([(1, 1), (1, 3)], "among 6 algorithms above all others under 1 of 2 conditions and shown to be below none"),
    ],
)  # fmt: skip
def test_headline_by_hand(ranks: list[tuple[int, int]], said: str) -> None:
    assert places.headline(rows(*ranks), "A") == said


def test_sentence_names_conditions_and_says_how_many_it_leaves_out() -> None:
    said = places.sentence(rows((2, 5), (1, 6), (3, 3), (1, 1), (1, 2)), "A")
    assert said == (
        "Places of A that the seeds leave possible, corrected for all pairs: 2–5 of 6 (IID, attack 0), not "
        "distinguishable (IID, attack 1), 3 of 6 (IID, attack 2), 1 of 6 (IID, attack 3), and 1 more in the statistics "
        "table."
    )
    assert places.sentence(rows((1, 6), (1, 6)), "A") == (
        "A is not distinguishable from any of 5 others under all 2 conditions."
    )


def test_few_algorithms_are_told_one_by_one() -> None:
    assert places.headline(rows((1, 1), ranked=4), "A") == places.sentence(rows((1, 1), ranked=4), "A") == ""
    assert places.headline(rows((1, 1)), "C") == ""


@pytest.mark.parametrize("many", [4, 6])
def test_a_sweep_of_many_says_where_the_first_stands(
    many: int, record: Callable[..., RunRecord], partition: dict[str, Any], attack: dict[str, Any]
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, (many, 6))
    names = list(ALGORITHMS)[:many]
    cells = [
        at(record(name, partition["iid"], attack["clean"](), seed, rounds=2), 0.9 - 0.05 * place + noise[place, seed])
        for place, name in enumerate(names)
        for seed in range(6)
    ]
    found = study(cells)
    told = opening(found, compare(found), {}, 0)
    assert told.headline.endswith("; among 6 algorithms below some") == (many == 6)
    assert any("2 of 6 (IID, no attack)" in text for text in told.answer) == (many == 6)
