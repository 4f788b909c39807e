"""Weights & Biases, offline: one run a cell, grouped, written once. Only where the library is installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tracked import SCENARIO

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.tracker_choice import trackers
from autoflip_secure.scenarios.trackers.flattened import Begun, track

pytest.importorskip(
    "wandb", reason="Weights & Biases is not among the test tools: pip install 'autoflip-secure[wandb]'"
)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return [record for block in plan(resolve(Document.parse(SCENARIO, "here"))).blocks for record in run_block(block)]


def said(folder: Path) -> Iterator[Any]:
    """What is in the file of an offline run: a log as LevelDB writes them, of protocol buffers, after seven bytes."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("*.wandb")
    data, place, whole = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:  # no header fits into what is left of a block
            place += room
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # in one piece, or the last
            entry = wandb_internal_pb2.Record()
            entry.ParseFromString(whole)
            whole = b""
            yield entry


def read(folder: Path) -> tuple[str, str, dict[str, list[tuple[int, float]]]]:
    """Name, group and series of an offline run."""
    name, group, series = "", "", dict[str, list[tuple[int, float]]]()
    for entry in said(folder):
        if entry.WhichOneof("record_type") == "run":
            name, group = entry.run.display_name, entry.run.run_group
        if entry.WhichOneof("record_type") == "history":
            for item in entry.history.item:
                key = item.key or ".".join(item.nested_key)
                if not key.startswith("_"):
                    series.setdefault(key, []).append((int(entry.history.step.num), json.loads(item.value_json)))
    return name, group, series


def folders(place: Path) -> list[Path]:
    return [path for path in (place / "wandb").glob("offline-run-*") if not path.is_symlink()]


def test_one_run_a_cell_grouped_and_written_once(records: list[RunRecord], tmp_path: Path) -> None:
    (found,) = trackers(None, None, "tracked", wandb=tmp_path)
    item, first = track(records[0]), records[0]
    for entry in first.rounds[:2]:  # while it runs
        found.rounds("tracked", [(Begun(item.run, item.group, first.cell, item.parameters), entry)])
    assert len(folders(tmp_path)) == 1
    assert found.write("tracked", records).new == len(records)
    found.close()
    runs = {name: (group, series) for name, group, series in map(read, folders(tmp_path))}
    assert len(runs) == len(records)
    for record in records:
        expected = track(record)
        group, series = runs[expected.run]
        assert group == expected.group
        assert series == {n: [(s, pytest.approx(v)) for s, v in known] for n, known in expected.series.items()}
    (again,) = trackers(None, None, "tracked", wandb=tmp_path)
    assert again.write("tracked", records).kept == len(records)
    changed = [first.model_copy(update={"final_accuracy": 0.123})]
    assert again.write("tracked", changed).new == 1
    assert len(folders(tmp_path)) == len(records), "the older run of that cell is gone"


def test_an_interrupted_run_is_replaced(records: list[RunRecord], tmp_path: Path) -> None:
    (found,) = trackers(None, None, "tracked", wandb=tmp_path)
    item, first = track(records[0]), records[0]
    found.rounds("tracked", [(Begun(item.run, item.group, first.cell, item.parameters), first.rounds[0])])
    found.close()
    (again,) = trackers(None, None, "tracked", wandb=tmp_path)
    assert again.write("tracked", [first]).new == 1
    assert len(folders(tmp_path)) == 1
