"""Trackers while a sweep runs: rounds of cells in flight, cells as they are saved, and nothing that waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tracked import SCENARIO

from autoflip_secure.errors import StoreError
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running import live as module
from autoflip_secure.scenarios.running.live import live
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.running.tracker_choice import trackers
from autoflip_secure.scenarios.trackers.base import Tracker, Written
from autoflip_secure.scenarios.trackers.flattened import Begun, track

# MLflow and its database layer warn of their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
Seen = Callable[[], int]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    monkeypatch.setattr(module, "SHARE", 1.0)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def work() -> Plan:
    return plan(resolve(Document.parse(SCENARIO, "here")))


@dataclass
class Recorder(Tracker):
    """Keeps what it is told."""

    live: ClassVar[bool] = True
    heard: list[tuple[Begun, RoundRecord]] = field(default_factory=list)
    parts: list[list[str]] = field(default_factory=list)
    broken: bool = False
    closed: int = 0

    def rounds(self, sweep: str, entries: Sequence[tuple[Begun, RoundRecord]]) -> None:
        if self.broken:
            raise StoreError("the disk is full")
        self.heard += entries

    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        self.parts.append([record.cell for record in records])
        return Written("recorder", "here", len(records), 0, "look")

    def close(self) -> None:
        self.closed += 1


def swept(
    folder: Path, found: Sequence[Tracker], seen: Seen, workers: int = 1
) -> tuple[list[RunRecord], list[Written]]:
    """The sweep waits in its middle, at most a minute, until a tracker shows something; what each wrote in all."""
    until = time.monotonic() + 60
    waited = []

    def wait(done: float, cells: int, left: float | None) -> None:
        while 0 < done < cells and not waited and time.monotonic() < until:
            if seen():
                waited.append(done)
            time.sleep(0.02)

    said: list[str] = []
    with live(found, "tracked", DEFAULT) as showing:
        result = run_sweep(work(), folder, workers, showing.listening(Listener(wait, said.append)))
        written = list(showing.finish(result.records, said.append))
    assert waited, "nothing was shown before the end"
    assert said == []
    return result.records, written


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_round_is_heard_once_and_in_order(tmp_path: Path, workers: int) -> None:
    recorder = Recorder()
    records, _ = swept(tmp_path / "out", [recorder], lambda: len(recorder.heard), workers)
    by_cell: dict[str, list[RoundRecord]] = {}
    for cell, entry in recorder.heard:
        by_cell.setdefault(cell.cell, []).append(entry)
    rounds = {record.cell: record.rounds for record in records}
    assert by_cell
    assert all(entries == rounds[cell][: len(entries)] for cell, entries in by_cell.items())
    names = {track(record).run: (record.cell, track(record)) for record in records}
    for cell, _ in recorder.heard:
        key, item = names[cell.run]
        assert (cell.cell, cell.group, cell.parameters) == (key, item.group, item.parameters)
    groups = {cell.group for cell, _ in recorder.heard}
    assert groups == {track(record).group for record in records if record.cell in by_cell}
    assert recorder.parts[-1] == [record.cell for record in records]
    early = [name for part in recorder.parts[:-1] for name in part]
    assert len(set(early)) == len(early), "a block is written once before the end"
    assert recorder.closed == 1


def test_numbers_do_not_depend_on_who_listens(tmp_path: Path) -> None:
    recorder = Recorder()
    records, _ = swept(tmp_path / "watched", [recorder], lambda: len(recorder.heard))
    alone = run_sweep(work(), tmp_path / "alone", 1, Listener(lambda *_: None, str)).records
    assert [r.numbers() for r in records] == [r.numbers() for r in alone]


def test_a_tracker_that_fails_does_not_end_the_sweep(tmp_path: Path) -> None:
    said: list[str] = []
    broken, whole = Recorder(broken=True), Recorder()
    with live([broken, whole], "tracked", DEFAULT) as showing:
        result = run_sweep(
            work(), tmp_path / "out", 1, showing.listening(Listener(lambda *_: time.sleep(0.05), said.append))
        )
        list(showing.finish(result.records, said.append))
    assert said == ["not shown while the sweep ran: the disk is full"]
    assert whole.heard
    assert [len(part) for part in broken.parts] == [len(result.records)], "it is written as a whole at the end"


def test_who_does_not_ask_is_told_at_the_end_alone(tmp_path: Path) -> None:
    class Quiet(Recorder):
        live: ClassVar[bool] = False

    quiet = Quiet()
    with live([quiet], "tracked", DEFAULT) as showing:
        listening = showing.listening(Listener(lambda *_: None, str))
        assert (listening.rounds, listening.stored) == (None, None)


def series_of_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list(folder.glob("events.*"))) == 1
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_grows_and_ends_with_what_the_record_says(tmp_path: Path) -> None:
    (found,) = trackers(tmp_path / "tb", None, "tracked")
    place = tmp_path / "tb" / "tracked"

    def seen() -> int:
        runs = [run for run in place.glob("*") if not (run / "autoflip.digest").exists() and any(run.iterdir())]
        return bool(runs) and len(series_of_tensorboard(runs[0]))

    records, (written,) = swept(tmp_path / "out", [found], seen)
    assert (written.new, written.kept) == (len(records), 0)
    for item in map(track, records):
        shown = series_of_tensorboard(place / item.run)
        expected = {**item.series, **{name: [(4, value)] for name, value in item.final.items()}}
        assert {name: [(s, pytest.approx(v)) for s, v in known] for name, known in expected.items()} == shown
        assert (place / item.run / "autoflip.digest").read_text() == item.digest
    (again,) = trackers(tmp_path / "tb", None, "tracked")
    assert again.write("tracked", records).kept == len(records)


def test_tensorboard_groups_the_seeds_of_a_setting(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data

    (found,) = trackers(tmp_path / "tb", None, "tracked")
    result = run_sweep(work(), tmp_path / "out", 1, Listener(lambda *_: None, str))
    found.write("tracked", result.records)
    groups: dict[str, set[int]] = {}
    for record in result.records:
        events = EventAccumulator(str(tmp_path / "tb" / "tracked" / track(record).run)).Reload()
        content = events.summary_metadata[SESSION_START_INFO_TAG].plugin_data.content
        groups.setdefault(parse_session_start_info_plugin_data(content).group_name, set()).add(record.seed)
    assert len(groups) == 4
    assert all(seeds == {3, 5} for seeds in groups.values())


def test_mlflow_grows_and_ends_with_what_the_record_says(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    place = (tmp_path / "ml").as_uri()
    (found,) = trackers(None, place, "tracked")
    client = MlflowClient(tracking_uri=place)

    def runs() -> list[Any]:
        experiment = client.get_experiment_by_name("tracked")
        return [] if experiment is None else list(client.search_runs([experiment.experiment_id], max_results=100))

    def seen() -> int:
        try:
            return sum(run.info.status == "RUNNING" and "train/loss" in run.data.metrics for run in runs())
        except ValueError as error:
            if "No data found" in str(error):  # MLflow's folders: a file of metrics is there and has no line yet
                return 0
            raise

    records, (written,) = swept(tmp_path / "out", [found], seen)
    assert (written.new, written.kept) == (len(records), 0)
    by_cell = {run.data.tags["autoflip.cell"]: run for run in runs()}
    assert len(by_cell) == len(runs()) == len(records)
    for record, item in zip(records, map(track, records), strict=True):
        run = by_cell[record.cell]
        assert run.info.status == "FINISHED"
        assert run.data.tags["autoflip.digest"] == item.digest
        assert run.data.tags["autoflip.group"] == item.group
        assert run.data.params == {name: text[:500] for name, text in item.parameters.items()}
        for name, known in item.series.items():
            history = client.get_metric_history(run.info.run_id, name)
            assert sorted((m.step, m.value) for m in history) == [(s, pytest.approx(v)) for s, v in known], name


def test_what_a_killed_sweep_left_is_replaced(tmp_path: Path) -> None:
    """Half a run in TensorBoard, a run that still runs in MLflow: the next sweep puts whole ones in their place."""
    from mlflow.tracking import MlflowClient

    place = (tmp_path / "ml").as_uri()
    result = run_sweep(work(), tmp_path / "out", 1, Listener(lambda *_: None, str))
    first = result.records[0]
    item = track(first)
    half = [(Begun(item.run, item.group, first.cell, item.parameters), first.rounds[0])]
    for found in trackers(tmp_path / "tb", place, "tracked"):
        found.rounds("tracked", half)
    for found in trackers(tmp_path / "tb", place, "tracked"):
        assert found.write("tracked", result.records).new == len(result.records)
    assert len(series_of_tensorboard(tmp_path / "tb" / "tracked" / item.run)["train/loss"]) == 4
    client = MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    left = client.search_runs([experiment.experiment_id], max_results=100)
    assert sorted(run.info.status for run in left) == ["FINISHED"] * len(result.records)
