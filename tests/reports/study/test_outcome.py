"""What a run came to: by hand on planted curves, one number everywhere, and never two kinds of it in one comparison."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from older_baselines import older
from planted import along

from autoflip_secure.errors import InputError
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import effective_margins, make_baseline, read_baseline
from autoflip_secure.reports.pages.report import render, write_report
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.study import Condition, study

Make = Callable[..., RunRecord]
LAST = OutcomeRule(1)
IID, CLEAN = {"kind": "iid"}, {"kind": "none"}


def run(record: Make, *accuracies: float | None, algorithm: str = "fedavg", seed: int = 0) -> RunRecord:
    return along(record(algorithm, IID, CLEAN, seed, rounds=len(accuracies)), accuracies)


@pytest.mark.parametrize(
    ("accuracies", "most", "counted"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 5, [0.6, 0.7, 0.8, 0.9, 1.0]),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 2, [0.9, 1.0]),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 5, [0.4, 0.5, 0.6]),  # a short run: nothing of its first half
        ((0.1, 0.2, 0.3, 0.4, 0.5), 5, [0.3, 0.4, 0.5]),
        ((0.5,), 5, [0.5]),
        ((None, 0.2, None, 0.4, None, 0.6, None, 0.8), 5, [0.6, 0.8]),  # every second round: half of the rounds
        ((None, None, 0.7), 5, [0.7]),
        ((0.1, 0.2, 0.9), 1, [0.9]),
    ],
)
def test_the_evaluations_that_count(
    record: Make, accuracies: tuple[float | None, ...], most: int, counted: list[float]
):
    rule, one = OutcomeRule(most), run(record, *accuracies)
    assert [entry.test_accuracy for entry in rule.counted(one)] == counted
    assert rule.accuracy(one) == pytest.approx(sum(counted) / len(counted))
    assert rule.loss(one) == pytest.approx(1 - sum(counted) / len(counted))


def test_the_last_is_the_record_s_own_number_and_a_loss_that_is_not_finite_is_none(record: Make):
    one = run(record, 0.1, 0.2, 0.3, 0.4)
    assert LAST.accuracy(one) == one.final_accuracy == 0.4
    lost = one.rounds[2].model_copy(update={"test_loss": None})
    diverged = one.model_copy(update={"rounds": [*one.rounds[:2], lost, one.rounds[3]]})
    assert DEFAULT.loss(diverged) is None
    assert LAST.loss(diverged) == pytest.approx(0.6)


def test_spellings():
    for text, rule in (
        ("last", LAST),
        ("mean of the last 5", DEFAULT),
        ("mean of the last 12 evaluations", OutcomeRule(12)),
    ):
        assert OutcomeRule.parse(text) == rule == OutcomeRule.parse(str(rule))
    for wrong in (
        5,
        "mean",
        "mean of the last 1",
        "mean of the last 0",
        "mean of the last 1000",
        "Last",
        None,
        "last 5",
    ):
        with pytest.raises(InputError, match="should be 'last', or 'mean of the last 5' with a number from 2 to 999"):
            OutcomeRule.parse(wrong)
    assert OutcomeRule.of({}) == DEFAULT
    assert OutcomeRule.of({"outcome": "last"}) == LAST


@pytest.fixture
def jumpy(record: Make) -> list[RunRecord]:
    """Five seeds of two algorithms; every evaluation jumps by its own 6 points, AutoFLIP is 10 points ahead."""
    jumps = np.random.default_rng(4).normal(0, 0.06, (5, 12))
    return [
        run(record, *(level + jumps[seed]), algorithm=name, seed=seed)
        for name, level in (("fedavg", 0.6), ("autoflip", 0.7))
        for seed in range(5)
    ]


@pytest.mark.slow
def test_one_outcome_in_every_file_of_the_report(jumpy: list[RunRecord], scenario: dict[str, Any], tmp_path: Path):
    """The page, the Markdown, the CSV: whichever is chosen, its number is there and the other one's is nowhere."""
    texts = {}
    for rule in (DEFAULT, LAST):
        folder = tmp_path / str(rule.evaluations)
        folder.mkdir()
        path = write_report(jumpy, {**scenario, "outcome": str(rule)}, folder / "report.html")
        told = [f"{100 * sum(map(rule.accuracy, half)) / 5:.1f}" for half in (jumpy[:5], jumpy[5:])]
        texts[rule] = path.read_text() + path.with_suffix(".md").read_text(), told
        with (folder / "results.csv").open() as file:
            rows = {(row["cell"], float(row["outcome_accuracy"]), row["outcome"]) for row in csv.DictReader(file)}
        assert rows == {(r.cell, rule.accuracy(r), str(rule)) for r in jumpy}
    for rule, other in ((DEFAULT, LAST), (LAST, DEFAULT)):
        text, told = texts[rule]
        assert all(number in text for number in told)
        assert rule.words in text
        assert other.words not in text
        assert not set(texts[other][1]) & set(told)
        assert not any(f"{number}\u00a0%" in text for number in texts[other][1])


def test_intervals_of_a_jumpy_run_narrow(jumpy: list[RunRecord]):
    def width(rule: OutcomeRule) -> float:
        values = study(jumpy, rule).values(Condition("IID", "no attack"), "FedAvg")
        interval = mean_interval(list(values.values()))
        assert interval.low is not None
        assert interval.high is not None
        return interval.high - interval.low

    assert width(DEFAULT) < 0.7 * width(LAST)


def test_an_outcome_that_is_none_ends_the_report(jumpy: list[RunRecord], scenario: dict[str, Any]):
    with pytest.raises(InputError, match=r"outcome = 'best': should be 'last', or"):
        render(jumpy, {**scenario, "outcome": "best"}, figures=False)


def test_a_baseline_without_a_word_on_it_stands_on_the_last(record: Make, tmp_path: Path):
    made = make_baseline([run(record, 0.5, 0.6, 0.9)], "test", "then", effective_margins({}, []))
    assert json.loads(made.text())["outcome"] == "mean of the last 5 evaluations"
    path, document = tmp_path / "old.json", older(made, 2)
    assert "outcome" not in document
    path.write_text(json.dumps(document))
    assert read_baseline(path).rule == LAST
    path.write_text(json.dumps({**document, "outcome": "best"}))
    with pytest.raises(InputError, match="is damaged"):
        read_baseline(path)
