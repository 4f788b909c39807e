"""Where an algorithm stands among many: from ranks by hand, and in the headline of a sweep of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        Row(Condition("IID", f"attack {number}"), "A", level, None, rank=(1, 1), place=rank, ranked=ranked)
        for number, rank in enumerate(ranks)
    ]
    return [*own, Row(Condition("IID", "attack 0"), "B", level, None, rank=(1, 1), place=(1, 1), ranked=ranked)]


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
    assert places.headline(rows(*ranks), "A", 2) == said


def test_sentence_names_conditions_and_says_how_many_it_leaves_out() -> None:
    said = places.sentence(rows((2, 5), (1, 6), (3, 3), (1, 1), (1, 2)), "A", 2)
    assert said == (
        "Places of A that the seeds leave possible, corrected for all pairs under all 5 conditions at once: 2–5 of 6 "
        "(IID, attack 0), not distinguishable (IID, attack 1), 3 of 6 (IID, attack 2), 1 of 6 (IID, attack 3), and 1 "
        "more in the statistics table."
    )
    assert places.sentence(rows((1, 6), (1, 6)), "A", 2) == (
        "A is not distinguishable from any of 5 others under all 2 conditions."
    )


@pytest.mark.parametrize(("ranked", "told"), [(2, 2), (3, 3), (6, 6)])
def test_algorithms_that_are_all_told_one_by_one_have_no_places(ranked: int, told: int) -> None:
    found = rows((1, 1), ranked=ranked)
    assert places.headline(found, "A", told) == places.sentence(found, "A", told) == ""
    assert places.headline(found, "A", told - 1) != "" != places.sentence(found, "A", told - 1)


def test_who_was_not_run_has_no_place() -> None:
    assert places.headline(rows((1, 1)), "C", 2) == places.sentence(rows((1, 1)), "C", 2) == ""


def test_a_control_of_one_condition_alone_is_no_field() -> None:
    found = [*rows((1, 4), ranked=4), *rows((1, 3), ranked=3)]
    assert places.headline(found, "A", 3) == places.sentence(found, "A", 3) == ""


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (list(ALGORITHMS)[3:], ""),  # all three are told one by one
        ((), f"; among {len(ALGORITHMS)} algorithms below some"),
        (list(ALGORITHMS)[2:-1], "; among 3 algorithms below some"),  # one rival, which no sentence names
    ],
)
def test_a_sweep_with_rivals_says_where_the_first_stands(
    left_out: Sequence[str], said: str,
    record: Callable[..., RunRecord], partition: dict[str, Any], attack: dict[str, Any],
) -> None:  # fmt: skip
    names = [name for name in ALGORITHMS if name not in left_out]
    noise = np.random.default_rng(0).normal(0, 0.001, (len(names), 6))
    cells = [
        at(record(name, partition["iid"], attack["clean"](), seed, rounds=2), 0.9 - 0.05 * place + noise[place, seed])
        for place, name in enumerate(names)
        for seed in range(6)
    ]
    found = study(cells)
    told = opening(found, compare(found), {}, 0)
    assert told.headline.partition(";")[2] == said.removeprefix(";")
    assert any(f"2 of {len(names)} (IID, no attack)" in text for text in told.answer) == bool(said)
