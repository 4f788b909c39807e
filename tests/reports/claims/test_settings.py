"""Claims about one setting of an algorithm, and about controls, on planted records."""

from collections.abc import Callable
from typing import Any

import pytest
from planted_claims import WOBBLE, answers

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.findings import Answer
from autoflip_secure.reports.claims.paper import asked_by_review
from autoflip_secure.reports.claims.settings import PAPERS_THRESHOLD
from autoflip_secure.reports.claims.subjects import pruned_pair, subject
from autoflip_secure.reports.study.study import study

Cell = Callable[..., RunRecord]


def changed(run: RunRecord, part: str, **settings: Any) -> RunRecord:
    config = dict(run.config)
    if part == "exploration":
        config["exploration"] = {**config["exploration"], **settings}
    else:
        algorithm = dict(config["algorithm"])
        config["algorithm"] = {**algorithm, "pruner": {**algorithm["pruner"], **settings}}
    name = f"{run.cell}{sorted(settings.items())}"
    return run.model_copy(update={"config": config, "cell": name, "exploration": _explored(run)})


def _explored(run: RunRecord) -> Any:
    assert run.exploration is not None
    return run.exploration


def series(
    cell: Cell, part: str, key: str, means: dict[Any, float], noise: float = 1.0, **place: Any
) -> list[RunRecord]:
    """Five seeds for every value; the first value's seeds carry the wobble."""
    found = []
    for number, (value, mean) in enumerate(means.items()):
        own = WOBBLE if number == 0 else [0.0] * 5
        for s in range(5):
            run = cell("autoflip", s, accuracy=mean + 0.02 * s + noise * own[s], **place)
            found.append(changed(run, part, **{key: value}))
    return found


@pytest.mark.parametrize(
    ("gain", "noise", "answer"),
    [(0.0, 1.0, Answer.HOLDS), (0.01, 1.0, Answer.DOES_NOT_HOLD), (0.005, 5.0, Answer.CANNOT_TELL)],
)
def test_exploring_again(cell: Cell, gain: float, noise: float, answer: Answer) -> None:
    cells = series(cell, "exploration", "every", {None: 0.8, 5: 0.8 + gain}, noise)
    found = answers(cells)["exploring-again"]
    assert found.answer is answer
    assert (
        found.evidence[0].where == "2 classes per client, every 5 rounds" or found.evidence[0].where == "every 5 rounds"
    )
    assert found.evidence[0].interval.mean == pytest.approx(-gain)
    assert "of uplink bytes more" in found.evidence[0].text


def test_what_the_paper_claims_is_about_the_run_that_explores_once(cell: Cell) -> None:
    cells = series(cell, "exploration", "every", {5: 0.9, None: 0.8, 10: 0.85})
    cells += [cell("agreement_only", s, accuracy=0.8 + 0.02 * s) for s in range(5)]
    found = study(cells)
    name = subject(found)
    assert name is not None
    assert found.variants[name]["exploration.every"] is None
    pair = pruned_pair(found)
    assert pair is not None
    assert pair.pruned == name


@pytest.mark.parametrize(
    ("means", "answer"),
    [
        ({20: 0.80, 5: 0.801, 1: 0.80}, Answer.HOLDS),
        ({20: 0.80, 5: 0.80, 1: 0.75}, Answer.DOES_NOT_HOLD),
    ],
)
def test_explorers(cell: Cell, means: dict[int, float], answer: Answer) -> None:
    found = answers(series(cell, "exploration", "explorers", means))["explorers"]
    assert found.answer is answer
    assert {e.where.rpartition(", ")[2] for e in found.evidence} == {"5 explorers", "1 explorer"}


def test_all_clients_are_the_most_explorers(cell: Cell) -> None:
    found = answers(series(cell, "exploration", "explorers", {None: 0.8, 20: 0.8}))["explorers"]
    assert found.notes == ("Compared with all clients.",)


@pytest.mark.parametrize(
    ("others", "answer"), [(0.795, Answer.HOLDS), (0.81, Answer.DOES_NOT_HOLD), (0.805, Answer.CANNOT_TELL)]
)
def test_thresholds(cell: Cell, others: float, answer: Answer) -> None:
    means = {PAPERS_THRESHOLD: 0.8, 0.1: others, 0.5: 0.7}
    found = answers(series(cell, "pruner", "threshold", means))["thresholds"]
    assert found.answer is answer
    assert [e.answer for e in found.evidence][1] is Answer.HOLDS


@pytest.mark.parametrize(
    ("control", "answer"), [(0.78, Answer.HOLDS), (0.802, Answer.DOES_NOT_HOLD), (0.7999, Answer.CANNOT_TELL)]
)
def test_the_map_against_random_weights(cell: Cell, control: float, answer: Answer) -> None:
    noise = 8.0 if answer is Answer.CANNOT_TELL else 1.0
    cells = [cell("guidance_only", s, accuracy=0.8 + 0.02 * s + noise * WOBBLE[s]) for s in range(5)]
    cells += [cell("random_weights", s, accuracy=control + 0.02 * s) for s in range(5)]
    found = answers(cells)["map-random-weights"]
    assert found.answer is answer
    assert found.evidence[0].interval.mean == pytest.approx(0.8 - control)
    assert "densities 0.31 and 0.31" in found.evidence[0].text


def test_unequal_counts_are_set_aside(cell: Cell) -> None:
    def half(run: RunRecord) -> RunRecord:
        return run.model_copy(update={"rounds": [e.model_copy(update={"density": 0.5}) for e in run.rounds]})

    cells = [cell("guidance_only", s) for s in range(5)] + [half(cell("random_weights", s)) for s in range(5)]
    found = next(c for c in asked_by_review(study(cells)) if c.slug == "map-random-weights")
    assert found.answer is Answer.NOT_TESTED
    assert found.notes[0].startswith("Not compared, because densities differ")
    assert found.needs


def test_nothing_of_it_in_a_sweep_that_varies_none(cell: Cell) -> None:
    cells = [cell(name, s) for name in ("fedavg", "autoflip") for s in range(5)]
    for claim in asked_by_review(study(cells)):
        assert claim.answer is Answer.NOT_TESTED
        assert claim.needs
