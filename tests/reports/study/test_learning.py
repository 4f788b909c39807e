"""What is said of training that failed: divergence, chance level, and what was lost again."""

from collections.abc import Callable

import pytest
from learned import BAD, GOOD, SCALED, TABLE, only, said

from autoflip_secure.records.run import FeatureScale, RunRecord


def test_training_that_worked_needs_no_word(small: list[RunRecord], cell: Callable[..., RunRecord]):
    assert said(small) == []
    assert said([cell(s) for s in range(3)]) == []
    earlier = [r.model_copy(update={"data": None}) for r in small]
    assert said(earlier) == []


@pytest.mark.parametrize(
    ("losses", "sign"),
    [
        ([2.0, 1e5, 1e14, 1e32], "the loss rises from 2 to "),
        ([2.0, 1.0, None, None], "a loss is not finite, first in round 3"),
        ([60.0, 40.0, 90.0, 95.0], "the loss rises from 60 to 75 (guessing: 2.30)"),
    ],
)
@pytest.mark.parametrize("accuracy", [0.1, 0.9])
def test_divergence_is_named_with_its_numbers(
    cell: Callable[..., RunRecord], losses: list[float | None], sign: str, accuracy: float
):
    found = only([cell(s, losses if s else GOOD, accuracy) for s in range(3)])
    assert (found.kind, found.refuses) == ("diverged", True)
    assert found.text.startswith("Training diverged, FedAvg without attack in IID: 2 of 3 runs; ")
    assert sign in found.text
    assert ("10.0 % accuracy, where answering the largest class gives 10.0 %" in found.text) is (accuracy == 0.1)
    assert "more rounds" not in found.text


def test_losses_that_fall_from_very_far_are_divergence_where_nothing_was_learned(cell: Callable[..., RunRecord]):
    losses = [9000.0, 800.0, 700.0, 600.0]
    found = only([cell(s, losses, 0.1) for s in range(2)])
    assert "2 of 2 runs; the loss is 700 in the end (guessing: 2.30)" in found.text
    assert "more rounds" not in found.text
    assert said([cell(s, losses, 0.5) for s in range(2)]) == []  # late, but it learns


def test_rounds_without_one_update_are_divergence(cell: Callable[..., RunRecord]):
    cells = [cell(s) for s in range(2)]
    dead = [e.model_copy(update={"rejected": e.participants}) for e in cells[1].rounds]
    cells[1] = cells[1].model_copy(update={"rounds": [*cells[1].rounds[:1], *dead[1:]]})
    assert "1 of 2 runs; every update was left out in 3 of 4 rounds" in only(cells).text


@pytest.mark.parametrize(
    ("features", "advice"),
    [
        (
            TABLE,
            "column 5 (of 6, from 0) has root mean square 1e6 (the median column 1, a standardised one 1). Scale the",
        ),
        (SCALED, "Lower training.lr (0.1 here); the features are scaled (root mean square at most 1.3)."),
        (None, "Scale the features, or lower training.lr (0.1 here)."),
    ],
)
def test_the_way_out_of_divergence_is_the_right_one(
    cell: Callable[..., RunRecord], features: FeatureScale | None, advice: str
):
    text = only([cell(s, [2.0, 1e9, None, None], features=features) for s in range(2)]).text
    assert advice in text
    assert "lower training.lr (0.1 here)" in text.lower()


@pytest.mark.parametrize(
    ("losses", "features", "advice"),
    [
        ([2.3, 2.2, 2.1, 2.0], SCALED, "Losses go from 2.30 to 2.10: more rounds would help."),
        (
            [2.0, 2.1, 2.1, 2.1],
            SCALED,
            "Losses go from 2.00 to 2.10, so they rise: lower training.lr (0.1 here).",
        ),
        (
            BAD,
            SCALED,
            "Losses go from 2.31 to 2.31, so they do not change: try a smaller and a larger training.lr (0.1 here).",
        ),
        (
            [8.0, 7.0, 6.5, 6.0],
            SCALED,
            "Losses go from 8.00 to 6.50, well above the 2.30 of guessing: lower training.lr",
        ),
        ([2.3, 2.2, 2.1, 2.0], TABLE, "The features are not scaled: column 5"),
        (
            [1.9],
            SCALED,
            "Losses go from 2.30 to 1.90: more rounds would help.",
        ),  # one test: guessing is what it began with
    ],
)
def test_the_way_out_of_chance_level_follows_the_losses(
    cell: Callable[..., RunRecord], losses: list[float], features: FeatureScale, advice: str
):
    found = only([cell(s, losses, 0.12, features=features) for s in range(2)])
    assert (found.kind, found.refuses) == ("unlearned", len(losses) > 1), "after one round nobody expects more"
    assert "12.0 % accuracy, where answering the largest class gives 10.0 %" in found.text
    assert advice in found.text
    assert ("more rounds would help" in found.text) is advice.endswith("more rounds would help.")


@pytest.mark.parametrize(
    ("classes", "largest", "accuracy", "failed"),
    [
        (10, 0.1, 0.18, True),
        (10, 0.1, 0.2, False),
        (2, 0.76, 0.77, True),  # a table of which three quarters are of one class
        (2, 0.76, 0.85, False),
        (100, 0.01, 0.025, True),
        (100, 0.01, 0.06, False),  # six times as often right as guessing
    ],
)
def test_chance_is_the_share_of_the_largest_class(
    cell: Callable[..., RunRecord], classes: int, largest: float, accuracy: float, failed: bool
):
    cells = [cell(s, accuracy=accuracy, classes=classes, largest_class=largest) for s in range(2)]
    assert [one.kind for one in said(cells)] == (["unlearned"] if failed else [])


def test_what_was_lost_again_is_told(cell: Callable[..., RunRecord]):
    cells = [cell(s, BAD, 0.1) for s in range(2)]
    high = [c.rounds[0].model_copy(update={"test_accuracy": 0.7}) for c in cells]
    cells = [c.model_copy(update={"rounds": [h, *c.rounds[1:]]}) for c, h in zip(cells, high, strict=True)]
    assert "10.0 % accuracy, where answering the largest class gives 10.0 %, after up to 70.0 %" in only(cells).text
