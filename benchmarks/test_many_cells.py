"""Sweeps of thousands of cells: planned, checked, taken up, read, reported; and what a long one leaves in memory.

A thousand cells in ``make bench``; ``MANY_CELLS=10000 make bench ARGS="-k many_cells"`` measures what
``docs/performance.md`` says of ten thousand. The cells are real ones of 20 rounds, copied under other seeds and splits.
Whole commands are child processes, measured by the system: processor seconds and peak memory, libraries included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from many_cells import fill

from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.store.index import FILE, CellIndex
from autoflip_secure.scenarios.store.reading import read_record

pytestmark = pytest.mark.timeout(3600)
CELLS = int(os.environ.get("MANY_CELLS", "1000"))
Ratios = Callable[..., None]

ATTACKS = [
    "none", {"kind": "sign_flip", "scope": 0.2},
    *({"kind": "gaussian_noise", "sigma": sigma, "scope": 0.2} for sigma in (0.1, 0.3, 0.5)),
    {"kind": "gaussian_noise", "sigma": 0.5, "scope": 0.4},
    *({"kind": "label_flip", "share": share, "scope": 0.2} for share in (0.3, 0.6, 1.0)),
    {"kind": "label_flip", "share": 1.0, "scope": 0.4},
]  # fmt: skip
ALGORITHMS = [
    "fedavg", "autoflip", "autoflip_plus", "agreement_only", "guidance_only", "random_units", "median", "trimmed_mean",
    "krum", "geometric_median",
]  # fmt: skip
SPLITS = [
    "iid",
    *({"kind": "dirichlet", "alpha": alpha} for alpha in (0.1, 0.2, 0.3, 0.5, 1.0, 3.0)),
    *({"kind": "pathological", "classes_per_client": classes} for classes in (2, 3, 5)),
]


def scenario(cells: int, **other: Any) -> Plan:
    """``cells`` of them, a multiple of 100: attacks × algorithms, ten seeds, and splits for thousands."""
    splits, seeds = max(1, cells // 1000), min(10, cells // 100)
    swept = {"partition": SPLITS[:splits], "attack": ATTACKS, "algorithm": ALGORITHMS}
    written = {
        "name": "many", "question": "How long does it take?", "rounds": 20, "cohort": 5, "training": {"epochs": 1},
        "exploration": {"epochs": 1}, "seeds": list(range(10, 10 + seeds)), "sweep": {"product": swept},
    }  # fmt: skip
    return plan(resolve(Document("many", {**written, **other})))


@cache
def base() -> list[RunRecord]:
    """A real cell for every attack and algorithm."""
    return [record for block in scenario(100).blocks for record in run_block(block)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep."""
    return fill(tmp_path_factory.mktemp("many") / "run", base(), scenario(CELLS))


class Used(NamedTuple):
    """What a process took."""

    seconds: float  # of the processor
    mebibytes: float  # at its peak
    said: str


WAITED = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, *sys.argv[1:]])
_, status, spent = os.wait4(child.pid, 0)
print(spent.ru_utime + spent.ru_stime, spent.ru_maxrss / 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""  # small itself: the peak of a process begins with that of the one that starts it


def used(*arguments: str) -> Used:
    done = subprocess.run([sys.executable, "-c", WAITED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seconds, mebibytes = map(float, done.stderr.splitlines()[-1].split())
    return Used(seconds, mebibytes, done.stdout)


CHECKED = """
import sys
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.checks import check
check(plan(load(sys.argv[1])).blocks)
"""


def _of_goal(cells: int, goal: str) -> str:
    """A goal that was set for a number of cells counts for that number alone."""
    return goal if cells == CELLS else ""


def test_many_cells_are_planned_and_checked(benchmark: BenchmarkFixture, folder: Path, ratios: Ratios) -> None:
    spent = benchmark.pedantic(used, ("-c", CHECKED, str(folder / "scenario.yaml")), rounds=1)
    ratios("planning and checking, s", spent.seconds, _of_goal(10_000, "<= 20"), f"{CELLS} cells, with imports")
    ratios("the same, MiB at the peak", spent.mebibytes, _of_goal(10_000, "<= 1024"), "libraries included")


def test_many_finished_cells_are_taken_up(benchmark: BenchmarkFixture, folder: Path, ratios: Ratios) -> None:
    again = ("-m", "autoflip_secure", "sweep", str(folder / "scenario.yaml"), "--out", str(folder), "--no-report")
    spent = benchmark.pedantic(used, (*again, "--json"), rounds=1)
    assert json.loads(spent.said)["reused"] == CELLS
    ratios("resuming, s", spent.seconds, _of_goal(10_000, "<= 20"), f"all {CELLS} cells finished, with imports")
    ratios("the same, MiB at the peak", spent.mebibytes, _of_goal(10_000, "<= 1024"), "libraries included")


def test_many_finished_cells_are_read(benchmark: BenchmarkFixture, folder: Path, ratios: Ratios) -> None:
    paths = sorted((folder / "cells").glob("*.json"))

    def read() -> float:
        began = time.process_time()
        index = CellIndex.of(folder, len(paths))
        assert len([read_record(path, index) for path in paths]) == CELLS
        return time.process_time() - began

    read()
    quick = benchmark.pedantic(read, rounds=3)
    ratios("finished cells read a second", CELLS / quick, ">= 5000", f"{CELLS} cells, through {FILE}")
    some = paths[:500]
    began = time.process_time()
    for path in some:
        read_record(path)
    slow = (time.process_time() - began) / len(some)
    ratios("parsing a cell / reading it through the index", slow / (quick / CELLS), "", "20 rounds")


def test_many_cells_are_reported(benchmark: BenchmarkFixture, folder: Path, ratios: Ratios) -> None:
    spent = benchmark.pedantic(used, ("-m", "autoflip_secure", "report", str(folder)), rounds=1)
    goal = _of_goal(1000, "<= 60") or _of_goal(10_000, "<= 300")
    ratios("report, s", spent.seconds, goal, f"{CELLS} cells, with imports, tables and figures")
    ratios("report.html, MB", (folder / "report.html").stat().st_size / 1e6, _of_goal(1000, "<= 5"))
    ratios("the same, MiB at the peak", spent.mebibytes)


GROWING = """
import sys
from pathlib import Path
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4

sizes = []
listener = Listener(lambda *_: None, lambda text: None, stored=lambda records: sizes.append(resident()))
run_sweep(plan(load(sys.argv[1])), Path(sys.argv[2]), 1, listener)
begin = len(sizes) // 3
print((sizes[-1] - sizes[begin]) / (12 * (len(sizes) - begin)))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what a process holds is read from /proc")
def test_many_blocks_leave_little_in_memory(benchmark: BenchmarkFixture, tmp_path: Path, ratios: Ratios) -> None:
    small = {
        "data": {"kind": "digits", "train_samples": 200, "test_samples": 50},
        "model": {"kind": "mlp", "hidden": [8]},
    }
    work = scenario(400, clients=10, **small)
    (tmp_path / "many.yaml").write_text(json.dumps(work.written))
    spent = benchmark.pedantic(used, ("-c", GROWING, str(tmp_path / "many.yaml"), str(tmp_path / "run")), rounds=1)
    whole = len(next((tmp_path / "run" / "cells").glob("*.json")).read_bytes()) / 1024
    ratios(
        "KiB a finished cell leaves in memory", float(spent.said), "", f"400 cells of 20 rounds; as JSON {whole:.0f}"
    )
