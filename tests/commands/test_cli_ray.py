"""``sweep --engine ray``: a cluster that is started for a sweep, what is said, how it ends, and who is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import forked
import psutil
import pytest
from processes import PATIENCE

from autoflip_secure.scenarios.store.store import read_record

WHY = "Ray is not among the test tools, for it is large: pip install '.[ray]'"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason=WHY)]

SWEEP = """
name: clustered
clients: 5
cohort: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
seeds: [11]
sweep: {product: {rounds: [2, MOST], algorithm: [fedavg, autoflip]}}
"""


def command(folder: Path, most: int, *more: str) -> forked.Process:
    (folder / "clustered.yaml").write_text(SWEEP.replace("MOST", str(most)))
    arguments = ["sweep", "clustered.yaml", "--out", "out", "--no-report", "--engine", "ray", "--workers", "2", *more]
    return forked.start(*arguments, cwd=folder, session=True)


def cells(folder: Path) -> list[Path]:
    return list((folder / "out" / "cells").glob("*.json"))


def left_behind(group: int, agents: bool = True) -> list[str]:
    """Processes of a group of which all started, in a minute at most; ``agents``: those too that Ray has for itself."""
    deadline = time.monotonic() + PATIENCE
    while (left := [*of_group(group, agents)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def of_group(group: int, agents: bool) -> Iterator[str]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            name = " ".join(process.cmdline())
            alive = process.status() != psutil.STATUS_ZOMBIE
            if os.getpgid(process.pid) == group and alive and (agents or "Agent" not in name):
                yield name


def test_a_cluster_of_this_machine_is_started_and_stopped_and_says_nothing(tmp_path: Path) -> None:
    with command(tmp_path, 3, "--json") as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    answer = json.loads(stdout)
    assert (answer["run"], answer["workers"]) == (4, 2)
    assert re.fullmatch(r"(\d+/4 cells.*\n|note: Hardly better than chance, .*\n)*", stderr), stderr
    assert not left_behind(process.pid)


@pytest.mark.parametrize(
    ("number", "to_all", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143), (signal.SIGTERM, True, 143)],
)
def test_a_signal_ends_in_order(number: signal.Signals, to_all: bool, code: int, tmp_path: Path) -> None:
    """``to_all``: as a terminal sends Ctrl-C, to the processes of Ray too."""
    with command(tmp_path, 20000) as process:
        deadline = time.monotonic() + PATIENCE
        while len(cells(tmp_path)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, stderr
    assert stderr.endswith("\ninterrupted: every finished cell is kept; run the same command again to continue\n")
    assert re.fullmatch(r"(\d+/4 cells.*\n)*", stderr[: stderr.index("\ninterrupted")]), stderr
    assert len([read_record(path) for path in cells(tmp_path)]) == 2
    assert not left_behind(process.pid)


def test_killed_without_a_chance_it_leaves_no_process_behind(tmp_path: Path) -> None:
    process = command(tmp_path, 20000)
    deadline = time.monotonic() + PATIENCE
    while len(cells(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    assert not left_behind(process.pid, agents=False), "nothing that computes; Ray's own agents notice later"
