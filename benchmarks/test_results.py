"""Records and reports: writing and reading cells, taking up a finished sweep, drawing the report of 24 cells."""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parent))
from workloads import SWEEP, finished_sweep

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.report import render
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.store import Store
from autoflip_secure.scenarios.trackers.flattened import track

QUIET = Listener(lambda *_: None, lambda text: None)


def saved(folder: Path) -> list[Path]:
    with Store(folder) as store:
        store.claim(plan(resolve(Document("benchmark", dict(SWEEP)))))
        for record in finished_sweep():
            store.save(record)
    return sorted((folder / "cells").glob("*.json"))


def test_encoding_of_records(benchmark: BenchmarkFixture) -> None:
    """Without the disk, whose fsync says more about the machine than about the code."""
    records = finished_sweep()
    texts = benchmark.pedantic(lambda: [record.model_dump_json() for record in records], rounds=7, warmup_rounds=1)
    assert RunRecord.model_validate_json(texts[0]) == records[0]


def test_writing_of_records(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    paths = saved(tmp_path / "results")

    def write() -> None:
        with Store(tmp_path / "results") as store:
            for record in finished_sweep():
                store.save(record)

    benchmark.pedantic(write, rounds=15, warmup_rounds=1)
    assert len(paths) == len(finished_sweep())


def test_reading_of_records(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    paths = saved(tmp_path / "results")
    records = benchmark.pedantic(lambda: [read_record(path) for path in paths], rounds=7, warmup_rounds=1)
    assert len(records) == len(finished_sweep())


def test_taking_up_a_finished_sweep(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    saved(tmp_path / "results")
    again = benchmark.pedantic(
        lambda: run_sweep(plan(resolve(Document("benchmark", dict(SWEEP)))), tmp_path / "results", 1, QUIET),
        rounds=9, warmup_rounds=1,
    )  # fmt: skip
    assert again.reused == len(finished_sweep())


def test_series_for_trackers(benchmark: BenchmarkFixture) -> None:
    records = finished_sweep()
    tracks = benchmark.pedantic(lambda: [track(record) for record in records], rounds=7, warmup_rounds=1)
    assert len({item.run for item in tracks}) == len(records)


def test_rendering_of_the_report(benchmark: BenchmarkFixture) -> None:
    page = benchmark.pedantic(render, (finished_sweep(), SWEEP), rounds=2, warmup_rounds=1)
    assert "</html>" in page
