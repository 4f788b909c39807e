"""Which claims open a report: those that the sweep was made for, with what became of each, on planted records."""

from collections.abc import Callable
from typing import Any

import pytest
from planted import at
from planted_claims import WOBBLE, accuracies

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.stability import Stability
from autoflip_secure.reports.claims.paper import claims
from autoflip_secure.reports.pages.first_screen import FirstScreen, opened
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]
MEASURED = {"measures": ["stability"]}


def screen(cells: list[RunRecord], scenario: dict[str, Any]) -> FirstScreen:
    found = study(cells)
    return opened(found, scenario, 0, weighed=claims(found))


@pytest.fixture
def cell(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> Callable[..., RunRecord]:
    def make(name: str, seed: int, accuracy: float = 0.8, attacked: Any = None) -> RunRecord:
        return at(record(name, partition["two_classes"], attacked or attack["clean"](), seed, rounds=8), accuracy)

    return make


def measured(run: RunRecord, value: float | None, between: float) -> RunRecord:
    one = Stability(
        rank_correlation=value, cosine=value, top_overlap=value, between_clients=between, successive=0.5,
        mask_overlap=1.0,
    )  # fmt: skip
    return run.model_copy(update={"rounds": [e.model_copy(update={"stability": one}) for e in run.rounds]})


@pytest.fixture
def stable(cell: Callable[..., RunRecord]) -> list[RunRecord]:
    """The map keeps its ranks, and clients drift apart more than under FedAvg, by a cosine of 0.05."""
    base = [measured(cell("fedavg", s), None, 0.2) for s in range(5)]
    own = [measured(cell("autoflip", s), 0.9 + WOBBLE[s], 0.15 + WOBBLE[s]) for s in range(5)]
    return base + own


def test_a_sweep_that_measures_stability_says_whether_the_map_is_stable(stable: list[RunRecord]) -> None:
    opening = screen(stable, MEASURED).opening
    assert opening.headline == (
        "The map explored before round 1 still describes late updates: holds; clients drift apart less than under "
        "FedAvg: does not hold"
    )
    assert opening.answer[0].startswith(
        "The map explored before round 1 still describes late updates: holds. 2 classes"
    )
    assert [number.value for number in opening.numbers] == ["0.90"]
    assert opening.numbers[0].label == "Rank correlation of the map with late updates, 2 classes per client"
    assert opening.pictures[0] == "stability"


def test_who_did_not_ask_for_it_reads_of_accuracy(stable: list[RunRecord]) -> None:
    assert screen(stable, {}).opening.headline.startswith("AutoFLIP against FedAvg: ")


def test_a_map_that_loses_accuracy_and_beats_one_control_only(cell: Callable[..., RunRecord]) -> None:
    means = {"fedavg": 0.8, "guidance_only": 0.7, "random_weights": 0.6}
    cells = accuracies(cell, **means)
    opening = screen(cells, {}).opening
    told = {claim.slug: claim for claim in claims(study(cells))}
    assert told["map-random-weights"].evidence
    assert opening.headline == (
        "Pruning by the initial map keeps accuracy: does not hold; the map chooses better than random weights: holds"
    )
    assert opening.numbers[0].value == "−10.0 points"
    assert opening.pictures[0] == "paired-differences"


def test_under_attack_or_when_something_else_is_compared_the_question_is_another(
    cell: Callable[..., RunRecord], attack: dict[str, Any]
) -> None:
    cells = accuracies(cell, fedavg=0.8, guidance_only=0.7, random_weights=0.6)
    attacked = [*cells, *(cell("fedavg", s, 0.5, attack["noise"](0.5)) for s in range(5))]
    for runs, scenario in ((attacked, {}), (cells, {"compare": "algorithm"})):
        assert "keeps accuracy" not in screen(runs, scenario).opening.headline
