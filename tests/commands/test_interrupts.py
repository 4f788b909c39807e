"""SIGTERM, SIGHUP and a terminal that is closed: like Ctrl-C, nothing finished is lost and nobody is left behind."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from processes import PATIENCE, gone

from autoflip_secure.scenarios.store.reading import read_record

ROOT = Path(__file__).parents[2]
SWEEP = """
name: long
clients: 5
cohort: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
seeds: [11]
sweep: {product: {rounds: [2, 20000], algorithm: [fedavg, autoflip]}}
"""
FIRST = 2  # cells of the short block


def command(workers: int) -> list[str]:
    return ["sweep", "long.yaml", "--out", "out", "--no-report", "--workers", str(workers)]


def finished(folder: Path) -> list[Path]:
    return list((folder / "out" / "cells").glob("*.json"))


def wait_for_the_first_block(folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(finished(folder)) < FIRST and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)


def check_what_is_left(folder: Path) -> None:
    assert len(finished(folder)) == FIRST
    for path in finished(folder):
        read_record(path)
    assert not list((folder / "out").rglob("*.tmp"))


CASES = [
    pytest.param(signal.SIGTERM, 2, False, 143),
    pytest.param(signal.SIGHUP, 1, True, 129, marks=pytest.mark.slow),
    pytest.param(signal.SIGTERM, 1, False, 143, marks=pytest.mark.slow),
    pytest.param(signal.SIGTERM, 2, True, 143, marks=pytest.mark.slow),
    pytest.param(signal.SIGHUP, 2, False, 129, marks=pytest.mark.slow),
    pytest.param(signal.SIGHUP, 2, True, 129, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("number", "workers", "to_all", "code"), CASES)
def test_a_signal_ends_in_order(number: signal.Signals, workers: int, to_all: bool, code: int, tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(SWEEP)
    with forked.start(*command(workers), cwd=tmp_path, session=True) as process:
        wait_for_the_first_block(tmp_path)
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, stderr
    assert stderr.endswith("\ninterrupted: every finished cell is kept; run the same command again to continue\n")
    assert re.fullmatch(r"(\d/4 cells.*\n)*", stderr.removesuffix(stderr[stderr.index("\ninterrupted") :]))  # no more
    assert gone(process.pid), "processes are left behind"
    check_what_is_left(tmp_path)


def in_a_terminal(folder: Path, until: str) -> tuple[forked.Process, int, str]:
    """Start the sweep in a terminal of its own and read until it shows ``until``: process, terminal, what it showed."""
    terminal, inner = pty.openpty()
    process = forked.start(
        *command(1), cwd=folder, env={"TERM": "xterm"}, stdin=inner, stdout=inner, stderr=inner, session=True,
        terminal=True,
    )  # fmt: skip
    os.close(inner)
    shown, deadline = "", time.monotonic() + PATIENCE
    while until not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return process, terminal, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_a_terminal_shows_that_it_starts_and_may_be_closed(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(SWEEP)
    process, terminal, shown = in_a_terminal(tmp_path, "starting")
    assert "starting: 4 cells, 1 worker, exploration first" in shown
    deadline = time.monotonic() + PATIENCE
    while len(finished(tmp_path)) < FIRST and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 4096)
    os.close(terminal)  # the system sends SIGHUP, and writing to the terminal fails from now on
    assert process.wait(PATIENCE) == 129
    assert gone(process.pid)
    check_what_is_left(tmp_path)
    assert not list((tmp_path / "out").glob("*.log"))


@pytest.mark.slow
def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """``nohup`` ignores SIGHUP for its command."""
    (tmp_path / "long.yaml").write_text(SWEEP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        ["nohup", sys.executable, "-m", "autoflip_secure", *command(2)],
        cwd=tmp_path, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for_the_first_block(tmp_path)
        os.killpg(process.pid, signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert gone(process.pid)
