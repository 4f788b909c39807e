"""Personal accuracy in reports: named, with worst client and spread beside it, and absent where nobody asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from synthetic_records import CLEAN, TWO_CLASSES

from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.personal import ClientAccuracies, ClientStateRecord, PersonalAccuracy
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.report import write_report
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.test_set import samples
from autoflip_secure.reports.tables.cells import cells_table
from autoflip_secure.reports.tables.cells_frame import cells_frame
from autoflip_secure.reports.tables.frames import tidy
from autoflip_secure.reports.tables.statistics import statistics_table
from autoflip_secure.reports.wording.caveats import caveats_of
from autoflip_secure.scenarios.trackers.flattened import track

MINE = ClientStateRecord(bytes_per_client={"mask": 348})
ROWS = ClientStateRecord(bytes_per_client={"importances": 348})


def personal(record: RunRecord) -> RunRecord:
    rounds = []
    for entry in record.rounds:
        accuracy = entry.test_accuracy
        own = None
        if accuracy is not None:
            own = PersonalAccuracy(
                mean=accuracy, worst=accuracy / 2, spread=0.01 * (1 + record.seed), global_accuracy=0.9 * accuracy
            )
        rounds.append(entry.model_copy(update={"personal": own}))
    last = ClientAccuracies(clients=[0, 1], held_out=[4, 5], accuracy=[0.25, 0.8])
    config = record.config | {"evaluation": "personal"}
    return record.model_copy(update={"rounds": rounds, "personal": last, "config": config})


@pytest.fixture(scope="module")
def runs(record: Callable[..., RunRecord]) -> list[RunRecord]:
    algorithms = ("fedavg", "random_weights")
    return [record(a, TWO_CLASSES, CLEAN, seed, rounds=12) for a in algorithms for seed in (1, 2, 3)]


def test_worst_client_and_spread_are_means_over_the_evaluations_that_count_and_seeds(runs: list[RunRecord]) -> None:
    own = [personal(run) for run in runs]
    found, rule = study(own), OutcomeRule()
    table = statistics_table(compare(found), found.baseline)
    for line, algorithm in zip(table.rows, ("fedavg", "random_weights"), strict=True):
        cells = dict(zip(table.columns, line, strict=True))
        counted = [rule.counted(run) for run in own if run.algorithm == algorithm]
        worst = fmean(fmean(entry.personal.worst for entry in some if entry.personal) for some in counted)
        assert cells["worst client (%)"] == pytest.approx(100 * worst)
        assert cells["spread over clients (points)"] == pytest.approx(3.0)
        assert cells["accuracy (%)"] == pytest.approx(200 * worst)
        assert cells["test samples"] is None, "no one set of samples is behind a mean over clients"
    assert samples(found) == {}
    assert {"worst client (%)", "spread over clients (points)"} <= set(cells_table(found).columns)
    frame = cells_frame(own)
    assert frame["outcome_worst_client"].tolist() == pytest.approx((frame["outcome_accuracy"] / 2).tolist())
    rounds = tidy(own).dropna(subset=["test_accuracy"])
    assert rounds["global_accuracy"].tolist() == pytest.approx((0.9 * rounds["test_accuracy"]).tolist())
    worsts = [entry.personal.worst for entry in own[0].rounds if entry.personal]
    assert [value for _, value in track(own[0]).series["test/worst_client"]] == worsts


def test_nothing_is_said_of_clients_where_the_global_model_is_tested(runs: list[RunRecord]) -> None:
    found = study(runs)
    assert found.measured == "test accuracy"
    everything = [*statistics_table(compare(found), found.baseline).columns, *cells_table(found).columns]
    everything += [*cells_frame(runs).columns, *tidy(runs).columns, *track(runs[0]).series]
    assert not [name for name in everything if ("client" in name and "worst" in name) or "spread" in name]
    caveats = caveats_of(found, [], compare(found), 0)
    assert not [text for text in caveats if "personal" in text or "own" in text.split()]


def test_caveats_say_which_model_is_tested_and_whose_masks_are_averaged(runs: list[RunRecord]) -> None:
    own = [personal(run).model_copy(update={"client_state": MINE}) for run in runs[3:]]
    found = study([*map(personal, runs[:3]), *own])
    assert found.measured == "personal accuracy"
    said = " ".join(caveats_of(found, [], compare(found), 0))
    assert "Accuracy is personal: the mean over honest clients of each one's own model on rows of its own" in said
    assert re.search("andom[ _]weights: every client has a mask of its own", said)
    assert "what is tested is the server's mean" not in said
    shared = study([*runs[:3], *(run.model_copy(update={"client_state": MINE}) for run in runs[3:])])
    said = " ".join(caveats_of(shared, [], compare(shared), 0))
    assert re.search(
        "andom[ _]weights: what is tested is the server's mean of all clients' models.*no client uses", said
    )
    remembers = study([run.model_copy(update={"client_state": ROWS}) for run in runs])
    assert "mask of its own" not in " ".join(caveats_of(remembers, [], compare(remembers), 0))
    mixed = study([*runs, *map(personal, runs)])
    assert mixed.measured == "accuracy"
    assert len(mixed.facets) == 2
    assert "In 6 runs of 12, accuracy is personal" in " ".join(caveats_of(mixed, [], compare(mixed), 0))


@pytest.mark.slow
def test_the_page_says_which_model_is_tested(runs: list[RunRecord], tmp_path: Path) -> None:
    own = [
        personal(run).model_copy(update={"client_state": MINE if run.algorithm == "random_weights" else None})
        for run in runs
    ]
    page = write_report(own, {"name": "x"}, tmp_path / "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", page)
    assert "Personal accuracy is the mean of the last 5 evaluations of a run." in text
    assert "Accuracy is personal: the mean over honest clients of each one's own model" in text.replace("&#39;", "'")
    assert re.search("random[ _]weights: every client has a mask of its own", text)
    assert re.search(r"Personal accuracy \(%\)\s+Worst client \(%\)\s+Spread \(points\)", text)
    assert "Personal accuracy by round" in text


def test_an_earlier_record_is_read_as_one_that_says_nothing_of_clients(runs: list[RunRecord]) -> None:
    old: dict[str, Any] = runs[0].model_dump(mode="json")
    assert not {"personal", "client_state"} & old.keys()
    assert not [entry for entry in old["rounds"] if "personal" in entry]
    assert RunRecord.model_validate(old) == runs[0]
