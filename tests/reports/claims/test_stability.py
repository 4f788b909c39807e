"""What is answered to the reviewer's questions about the map, on planted measures."""

from collections.abc import Callable
from typing import Any

import pytest
from planted_claims import WOBBLE, answers

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.stability import Stability
from autoflip_secure.reports.claims.findings import Answer
from autoflip_secure.reports.claims.paper import asked_by_review
from autoflip_secure.reports.figures.stability import stability
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.study.study import study


def measured(run: RunRecord, first: float | None, last: float | None, between: float) -> RunRecord:
    """The rank correlation falls from ``first`` to ``last`` in the last two rounds."""

    def one(number: int) -> Stability:
        value = last if number > len(run.rounds) - 2 else first
        return Stability(
            rank_correlation=value,
            cosine=value,
            top_overlap=value,
            between_clients=between,
            successive=0.5,
            mask_overlap=1.0,
        )

    return run.model_copy(update={"rounds": [e.model_copy(update={"stability": one(e.round)}) for e in run.rounds]})


def runs(cell: Callable[..., RunRecord], name: str, last: float, between: float = 0.2, **place: Any) -> list[RunRecord]:
    return [measured(cell(name, s, **place), 0.95, last + WOBBLE[s], between + WOBBLE[s]) for s in range(5)]


@pytest.mark.parametrize(
    ("last", "answer"), [(0.75, Answer.HOLDS), (0.4, Answer.DOES_NOT_HOLD), (0.6, Answer.CANNOT_TELL)]
)
def test_one_map_is_stable(cell: Callable[..., RunRecord], last: float, answer: Answer) -> None:
    found = answers(runs(cell, "agreement_only", last))["stable-map"]
    assert found.answer is answer
    assert found.evidence[0].interval.mean == pytest.approx(last)
    assert f"0.95 in round 1, {last:.2f}" in found.evidence[0].text
    assert found.notes[0] == "Measured on agreement only."


def test_one_partition_in_which_it_is_lost_refutes(cell: Callable[..., RunRecord]) -> None:
    cells = runs(cell, "agreement_only", 0.9) + runs(cell, "agreement_only", 0.4, split="iid")
    assert answers(cells)["stable-map"].answer is Answer.DOES_NOT_HOLD


def test_an_unpruned_run_is_asked_before_a_pruned_one(cell: Callable[..., RunRecord]) -> None:
    cells = runs(cell, "autoflip", 0.2) + runs(cell, "agreement_only", 0.9)
    assert answers(cells)["stable-map"].answer is Answer.HOLDS
    assert answers(runs(cell, "autoflip", 0.2))["stable-map"].answer is Answer.DOES_NOT_HOLD


@pytest.mark.parametrize(
    ("gain", "answer"), [(0.05, Answer.HOLDS), (-0.01, Answer.DOES_NOT_HOLD), (0.001, Answer.CANNOT_TELL)]
)
def test_clients_drift_apart_less(cell: Callable[..., RunRecord], gain: float, answer: Answer) -> None:
    noisy = 10.0 if answer is Answer.CANNOT_TELL else 1.0
    base = [measured(cell("fedavg", s), None, None, 0.2) for s in range(5)]
    own = [measured(cell("autoflip", s), 0.9, 0.9, 0.2 + gain + noisy * WOBBLE[s]) for s in range(5)]
    found = answers(base + own)["drift"]
    assert found.answer is answer
    assert found.evidence[0].interval.mean == pytest.approx(gain)


def test_without_measures_the_report_has_no_word_of_it_and_who_asks_is_told_what_is_missing(
    cell: Callable[..., RunRecord],
) -> None:
    plain = [cell("autoflip", s) for s in range(5)]
    assert not {"stable-map", "drift"} & set(answers(plain))
    asked = {c.slug: c for c in asked_by_review(study(plain))}
    for claim in (asked["stable-map"], asked["drift"]):
        assert claim.answer is Answer.NOT_TESTED
        assert "measures: [stability]" in claim.needs


def test_the_figure_has_every_measure_and_every_number(cell: Callable[..., RunRecord]) -> None:
    cells = runs(cell, "agreement_only", 0.9) + [measured(cell("fedavg", s), None, None, 0.2) for s in range(5)]
    found = study(cells)
    with drawing():
        picture = stability(found, Palette(found))
    assert picture is not None
    rows = {(row[0], row[2], row[3]): row[4] for row in picture.table.rows}
    assert rows["rank correlation", "agreement only", 8] == pytest.approx(0.9)
    assert ("rank correlation", "FedAvg", 8) not in rows
    assert rows["between clients", "FedAvg", 1] == pytest.approx(0.2)
    assert stability(study([cell("autoflip", 0)]), Palette(found)) is None
