"""kill -9 in the middle of a private cell: what was announced stays announced, a resumed sweep never counts less."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import forked
import pytest
from processes import PATIENCE

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.store.reading import read_record

SWEEP = """
name: private
clients: 6
cohort: 3
seeds: [31]
algorithm: autoflip
exploration: {epochs: 1}
training: {epochs: 1}
data: {kind: digits, train_samples: 300, test_samples: 50}
model: "net:make"
privacy: {kind: sample_level, noise_multiplier: 1.0}
sweep: {product: {rounds: [1, 250]}}
"""
NET = """
from torch import nn

def make(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""
OTHER_VERSION = """
import autoflip_secure
from autoflip_secure.federation import measures  # where it is written down
autoflip_secure.__version__ = measures.__version__ = "99.0"
from autoflip_secure.__main__ import main
main()
"""


def start(folder: Path, code: str | None = None) -> forked.Process:
    arguments = ["sweep", "private.yaml", "--out", "out", "--workers", "1", "--no-report"]
    return forked.start(*arguments, cwd=folder, code=code, stdout=subprocess.DEVNULL, session=True)


def finish(folder: Path, code: str | None = None) -> dict[int, RunRecord]:
    """Run to the end; rounds -> record."""
    with start(folder, code) as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    return records(folder)


def records(folder: Path) -> dict[int, RunRecord]:
    found = [read_record(path) for path in (folder / "out" / "cells").glob("*.json")]
    return {record.config["rounds"]: record for record in found}


def ledgers(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "out" / "ledger").glob("*.json")}


def prepared(folder: Path) -> Path:
    folder.mkdir()
    (folder / "private.yaml").write_text(SWEEP)
    (folder / "net.py").write_text(NET)
    return folder


def killed_in_the_long_cell(folder: Path) -> None:
    process = start(folder)
    deadline = time.monotonic() + PATIENCE
    while not records(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.4)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    assert list(records(folder)) == [1], "the kill has to come in the middle of the long cell"


def server_steps(record: RunRecord) -> int:
    assert record.privacy is not None
    return sum(r.steps for g in record.privacy.guarantees for r in g.releases if g.observer == "server")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunRecord]:
    """The sweep without anybody killing it."""
    return finish(prepared(tmp_path_factory.mktemp("whole") / "w"))


@pytest.mark.slow
def test_everything_is_announced_before_it_is_released_and_counted_once(
    whole: dict[int, RunRecord], tmp_path: Path
) -> None:
    folder = prepared(tmp_path / "f")
    killed_in_the_long_cell(folder)
    announced = ledgers(folder)
    for record in whole.values():
        planned = announced[record.cell]["attempts"][0]["planned"]
        assert sum(r["steps"] for r in planned if r["observer"] == "server") == server_steps(record)
        assert len(announced[record.cell]["attempts"]) == 1
    resumed = finish(folder)
    for rounds, record in resumed.items():
        assert record.numbers() == whole[rounds].numbers()
        assert record.privacy is not None
        assert whole[rounds].privacy is not None
        assert record.privacy.guarantees == whole[rounds].privacy.guarantees  # the same releases once more
    assert {rounds: r.privacy.attempts for rounds, r in resumed.items() if r.privacy} == {1: 1, 250: 2}


@pytest.mark.slow
def test_resumed_by_other_software_it_counts_again(whole: dict[int, RunRecord], tmp_path: Path) -> None:
    folder = prepared(tmp_path / "f")
    killed_in_the_long_cell(folder)
    resumed = finish(folder, OTHER_VERSION)
    assert server_steps(resumed[250]) == 2 * server_steps(whole[250])
    assert resumed[250].privacy is not None
    assert whole[250].privacy is not None
    assert (resumed[250].privacy.epsilon() or 0) > (whole[250].privacy.epsilon() or 0)
    assert server_steps(resumed[1]) == server_steps(whole[1])  # finished before, not run again
    versions = {a["versions"]["autoflip-secure"] for a in ledgers(folder)[resumed[250].cell]["attempts"]}
    assert len(versions) == 2


@pytest.mark.slow
def test_resumed_with_another_model_behind_the_same_name_it_counts_again(
    whole: dict[int, RunRecord], tmp_path: Path
) -> None:
    """Nothing was finished, so the folder is free for the other model; what was released is released."""
    folder = prepared(tmp_path / "f")
    (folder / "private.yaml").write_text(SWEEP.replace("[1, 250]", "[250]"))
    process = start(folder)
    deadline = time.monotonic() + PATIENCE
    while not ledgers(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    assert not records(folder)
    (folder / "net.py").write_text(NET.replace("ReLU", "Tanh"))
    assert server_steps(finish(folder)[250]) == 2 * server_steps(whole[250])
