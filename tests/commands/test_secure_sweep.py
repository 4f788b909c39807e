"""Whole sweeps over party processes from the command line: killed, interrupted, resumed; nobody is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from processes import PATIENCE, helpers

from autoflip_secure.defenses.secure_aggregation.certificates import make_certificates
from autoflip_secure.scenarios.store.reading import read_record

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

SWEEP = """
name: secret
clients: 10
cohort: 4
rounds: 30
training: {epochs: 1}
exploration: {epochs: 2, method: linear}
data: {kind: digits, train_samples: 400, test_samples: 100}
model: {kind: mlp, hidden: [16]}
secure_sum: {parties: 2, updates: true, timeout: 20}
seeds: {first: 0, count: 18}
sweep: {product: {algorithm: [guidance_only], partition: [iid, dirichlet]}}
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "autoflip_secure", "sweep", "s.yaml", "--out", "out", "--no-report", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def finish(folder: Path, *arguments: str) -> dict[str, dict[str, object]]:
    with start(folder, *arguments) as process:
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    return records(folder)


def records(folder: Path) -> dict[str, dict[str, object]]:
    return {path.stem: read_record(path).numbers() for path in (folder / "out" / "cells").glob("*.json")}


def scenario(folder: Path, text: str = SWEEP) -> Path:
    folder.mkdir()
    (folder / "s.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What the sweep comes to when nothing happens to it."""
    found = finish(scenario(tmp_path_factory.mktemp("whole") / "here"), "--workers", "1")
    assert len(found) == 36
    return found


def parties_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Parties are started before workers."""
    return helpers(process.pid)


def wait_for_cells(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the first block is saved."""
    while not ((folder / "out" / "cells").is_dir() and any((folder / "out" / "cells").glob("*.json"))):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)


def group_is_gone(group: int) -> bool:
    for _ in range(150):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, 0)
            time.sleep(0.1)
            continue
        return True
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_party_killed_in_the_middle_is_named_and_the_sweep_continues(
    workers: str, tmp_path: Path, whole: dict[str, dict[str, object]]
) -> None:
    folder = scenario(tmp_path / "here")
    with start(folder, "--workers", workers) as process:
        wait_for_cells(folder, process)
        parties_of(process)[1].kill()
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "party 1 (/" in stderr
    assert "finished cells are kept, run the same command again" in stderr
    assert group_is_gone(process.pid)
    kept = records(folder)
    assert 0 < len(kept) < len(whole)
    assert finish(folder, "--workers", workers) == whole


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_or_interrupted_no_process_is_left(
    how: signal.Signals, tmp_path: Path, whole: dict[str, dict[str, object]]
) -> None:
    folder = scenario(tmp_path / "here")
    with start(folder, "--workers", "2") as process:
        wait_for_cells(folder, process)
        assert len(parties_of(process)) == 4
        if how == signal.SIGINT:
            os.killpg(process.pid, how)  # as a terminal sends it: to the whole group
        else:
            process.send_signal(how)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert group_is_gone(process.pid), "a party or a worker is left behind"
    if how == signal.SIGINT:
        assert "interrupted: every finished cell is kept" in stderr
    assert finish(folder, "--workers", "1") == whole


@contextlib.contextmanager
def elsewhere(host: str, certificates: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A party that somebody started by hand."""
    own = str(certificates / f"party-{host}")
    command = [sys.executable, "-m", "autoflip_secure", "party", "--host", host, "--certificates", own]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE
    ) as party:
        try:
            assert party.stdout is not None
            yield party, int(party.stdout.readline().split(f"{host}:")[1].split()[0])
        finally:
            party.kill()


def test_two_sweeps_at_once_over_the_same_parties_on_other_addresses(
    tmp_path: Path, whole: dict[str, dict[str, object]]
) -> None:
    sealed = tmp_path / "sealed"
    make_certificates(sealed, [["127.0.0.2"], ["127.0.0.3"]], 1)
    with elsewhere("127.0.0.2", sealed) as (_, first), elsewhere("127.0.0.3", sealed) as (second_party, second):
        parties = [{"host": "127.0.0.2", "port": first}, {"host": "127.0.0.3", "port": second}]
        there = f"parties: {json.dumps(parties)}, certificates: {json.dumps(str(sealed / 'server'))}"
        text = SWEEP.replace("parties: 2", there)
        folders = [scenario(tmp_path / name, text) for name in ("one", "other")]
        running = [start(folder, "--workers", "2") for folder in folders]
        for process in running:
            _, stderr = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, stderr
        for folder in folders:
            assert records(folder) == whole
        again = scenario(tmp_path / "again", text)
        with start(again, "--workers", "1") as process:
            wait_for_cells(again, process)
            second_party.kill()
            _, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 3  # in the middle of a block, or between two, when nobody answers there
        assert f"party 1 (127.0.0.3:{second})" in stderr
        with start(again, "--workers", "1", "--set", "secure_sum.timeout=1") as process:
            _, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 3
        assert f"party 1 (127.0.0.3:{second}) cannot be reached within 1 s (Connection refused)" in stderr
    assert finish(scenario(tmp_path / "here"), "--workers", "1") == whole
    (again / "s.yaml").write_text(SWEEP)  # the parties are elsewhere now: the same cells
    assert finish(again, "--workers", "1") == whole
