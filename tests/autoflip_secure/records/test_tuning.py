"""A choice against the rule by hand: the best mean, the first of equal ones, an end of what was tried is said."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.tuning import TuningRecord, choose

GOLDEN = Path(__file__).parents[2] / "golden" / "record.json"


def chosen(curves: list[list[float]], values: list[object]) -> TuningRecord:
    """The choice among ``values`` whose accuracies over seeds are ``curves``."""
    cells = [[f"{i} {j}" for j in range(len(curve))] for i, curve in enumerate(curves)]
    return choose(
        [{"training.lr": value} for value in values],
        cells,
        {f"{i} {j}": accuracy for i, curve in enumerate(curves) for j, accuracy in enumerate(curve)},
        seeds=range(len(curves[0])),
        outcome="last",
        combinations=len(values),
    )


@given(st.integers(1, 4).flatmap(lambda seeds: st.lists(st.lists(st.integers(0, 450), min_size=seeds, max_size=seeds),
                                                         min_size=2, max_size=6)))  # fmt: skip
def test_the_best_mean_is_taken_and_of_equal_ones_the_first(counts: list[list[int]]) -> None:
    """In whole numbers of correct answers, where equal is equal."""
    means = [Fraction(sum(own), len(own)) for own in counts]
    best = means.index(max(means))
    found = chosen([[count / 450 for count in own] for own in counts], list(range(len(counts))))
    assert found.chosen == {"training.lr": best}
    assert found.best is found.tried[best]


def test_equal_means_of_other_accuracies_are_equal() -> None:
    """As many right answers of 450; their means differ in the last bit."""
    one, other = ([count / 450 for count in counts] for counts in ((432, 197, 388), (446, 183, 388)))
    assert fmean(one) < fmean(other)
    assert chosen([one, other], [5, 6]).chosen == {"training.lr": 5}
    assert chosen([other, one], [5, 6]).chosen == {"training.lr": 5}


@pytest.mark.parametrize(
    ("best", "values", "edge"),
    [
        (2, [0.1, 0.2, 0.4], {"training.lr": "largest"}),
        (0, [0.1, 0.2, 0.4], {"training.lr": "smallest"}),
        (1, [0.1, 0.2, 0.4], {}),
        (0, [0.4, 0.2, 0.1], {"training.lr": "largest"}),
        (1, ["sgd", "adam"], {}),
        (0, [True, False], {}),
        (1, [None, 0.2], {}),
        (1, [0.1, 0.2, None], {"training.lr": "largest"}),
    ],
)
def test_an_end_of_what_was_tried_is_said(best: int, values: list[object], edge: dict[str, str]) -> None:
    found = chosen([[float(i == best)] for i in range(len(values))], values)
    assert found.at_edge == edge


@pytest.mark.parametrize(
    ("means", "edge"),
    [
        ([0.5, 0.5, 0.5], {}),  # it has no influence
        ([0.9, 0.9, 0.5], {}),  # a value inside does as well
        ([0.9, 0.5, 0.9], {}),
        ([0.9, 0.5, 0.6], {"training.lr": "smallest"}),
    ],
)
def test_an_end_that_others_equal_is_none(means: list[float], edge: dict[str, str]) -> None:
    found = chosen([[mean] for mean in means], [0.1, 0.2, 0.4])
    assert (found.chosen, found.at_edge) == ({"training.lr": 0.1}, edge)


def test_each_of_several_settings_has_its_own_ends() -> None:
    grid = [{"training.lr": rate, "training.epochs": epochs} for rate in (0.1, 0.2, 0.4) for epochs in (1, 2)]
    cells = [[str(number)] for number in range(len(grid))]
    means = {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.9, "4": 0.5, "5": 0.4}
    found = choose(grid, cells, means, seeds=[1], outcome="last", combinations=6)
    assert found.chosen == {"training.lr": 0.2, "training.epochs": 2}
    assert found.at_edge == {"training.epochs": "largest"}


def test_the_whole_curve_is_kept() -> None:
    found = chosen([[0.5, 0.7], [0.9, 0.8]], [0.1, 0.2])
    assert [(one.values, one.mean, one.accuracies, one.cells) for one in found.tried] == [
        ({"training.lr": 0.1}, pytest.approx(0.6), [0.5, 0.7], ["0 0", "0 1"]),
        ({"training.lr": 0.2}, pytest.approx(0.85), [0.9, 0.8], ["1 0", "1 1"]),
    ]
    assert (found.seeds, found.budget, found.combinations, found.outcome) == ([0, 1], 2, 2, "last")
    assert TuningRecord.model_validate_json(found.model_dump_json()) == found


def test_a_record_from_before_there_was_tuning_is_read_and_written_as_it_was() -> None:
    old = json.loads(GOLDEN.read_text())[0]
    record = RunRecord.model_validate({**old, "versions": {}, "timing": {}, "guidance": None})
    assert record.tuning is None
    assert "tuning" not in record.model_dump(mode="json")
    tuned = record.model_copy(update={"tuning": chosen([[0.5], [0.9]], [0.1, 0.2])})
    assert RunRecord.model_validate_json(tuned.model_dump_json()) == tuned
    assert tuned.numbers()["tuning"]["chosen"] == {"training.lr": 0.2}
