"""Blocks through an executor of the user's own: the same records, and refused where they would be others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.executors import elsewhere, far
from autoflip_secure.scenarios.running.executors.elsewhere import Elsewhere
from autoflip_secure.scenarios.running.executors.local import Local
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep

SMALL = """
name: small
clients: 5
cohort: 2
rounds: 2
training: {epochs: 1, batch_size: 16}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: fedavg
seeds: [1, 2]
"""
POOLS = '''
import importlib, sys
from pathlib import Path
from concurrent.futures import Future, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

SENT, MOST, STOPPED = [], [0], []

class Here(Executor):
    """Runs what it is sent when it is asked for, and counts."""
    def submit(self, function, block, *others):
        SENT.append(block.index)
        MOST[0] = max(MOST[0], len(SENT))
        future = Future()
        try:
            future.set_result(function(block, *others))
        except Exception as error:
            future.set_exception(error)
        return future
    def shutdown(self, wait=True, *, cancel_futures=False):
        STOPPED.append((wait, cancel_futures))

def here():
    return Here()

def processes(workers):
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

def nothing():
    return 7

def fails():
    raise OSError("no such queue")

class Bare(Here):
    """A machine that has neither the data nor the module of the model."""
    def submit(self, function, block, *others):
        for path in Path(__file__).parent.glob("own*"):
            path.unlink()
        sys.modules.pop("own_model", None)
        importlib.invalidate_caches()
        return super().submit(function, block, *others)

class Broken(Here):
    def submit(self, function, block, *others):
        future = Future()
        future.set_exception(BrokenProcessPool("a node is gone"))
        return future
'''


@pytest.fixture(autouse=True)
def _pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cluster_pools.py").write_text(POOLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "cluster_pools", raising=False)


def work(text: str = "sweep: {product: {rounds: [1, 2, 3]}}", *overrides: str) -> Plan:
    return plan(resolve(Document.parse(SMALL + text, "small.yaml"), overrides))


def run(one: Plan, folder: Path, pool: str | None, workers: int | None = 1, **more: Any) -> SweepResult:
    where = Local() if pool is None else Elsewhere(f"cluster_pools:{pool}")
    return run_sweep(one, folder, workers, Listener(lambda *_: None, print), executor=where, **more)


def numbers(result: SweepResult) -> list[dict[str, Any]]:
    return [record.numbers() for record in result.records]


PRIVATE = "privacy: {kind: client_level, noise_multiplier: 1}"


@pytest.mark.parametrize("text", ["sweep: {product: {rounds: [1, 2, 3]}}", PRIVATE])
def test_the_records_are_those_of_this_process(text: str, tmp_path: Path) -> None:
    import cluster_pools  # type: ignore[import-not-found]

    expected = run(work(text), tmp_path / "a", None)
    found = run(work(text), tmp_path / "b", "here")
    assert numbers(found) == numbers(expected)
    assert [block.index for block in work(text).blocks] == cluster_pools.SENT
    assert cluster_pools.STOPPED == [(True, False)]
    assert run(work(text), tmp_path / "b", "here").reused == len(found.records)


@pytest.mark.slow
def test_processes_that_share_nothing_with_this_one_give_the_same(tmp_path: Path) -> None:
    expected, found = run(work(), tmp_path / "a", None), run(work(), tmp_path / "b", "processes", 2)
    assert numbers(found) == numbers(expected)


def test_what_was_sent_before_a_failure_is_kept_and_nothing_more_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cluster_pools

    original = elsewhere._run

    def second(block: Any, *others: Any) -> Any:
        if block.index == 2:
            raise RuntimeError("the node is on fire")
        return original(block, *others)

    monkeypatch.setattr(elsewhere, "_run", second)
    with pytest.raises(AutoflipError, match=r"block 2 .* failed: RuntimeError: the node is on fire"):
        run(work(), tmp_path / "out", "here")
    assert cluster_pools.SENT == [1, 2]
    assert cluster_pools.STOPPED == [(False, True)]
    assert len(list((tmp_path / "out" / "cells").glob("*.json"))) == 2
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert numbers(run(work(), tmp_path / "out", None)) == numbers(run(work(), tmp_path / "whole", None))


def test_a_broken_executor_is_named(tmp_path: Path) -> None:
    with pytest.raises(AutoflipError, match=r"executor broke while it ran block 1 .*a node is gone.*same command"):
        run(work(), tmp_path / "out", "Broken")


def test_a_machine_with_other_software_or_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = far.conditions
    monkeypatch.setattr(far, "conditions", lambda: {**real(), "torch": "9.9"})
    with pytest.raises(InputError, match=r"has another torch, so its private noise would not be that of the ledger"):
        run(work(PRIVATE), tmp_path / "private", "here")
    assert run(work(""), tmp_path / "plain", "here").records
    monkeypatch.setattr(far, "input_digests", lambda *_: {})
    with pytest.raises(InputError, match=r"the machine that was to run it .*, data .*digits.* is not the same"):
        run(work(""), tmp_path / "data", "here")


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("data={kind: npz, path: PLACE/own.npz}", r".*own\.npz: no such file.*"),
        ('model="own_model:make"', "model.factory .*own_model.*"),
    ],
)
def test_a_machine_without_the_data_or_the_model_is_named(override: str, why: str, tmp_path: Path) -> None:
    """The file is there where the sweep is started, so that without the machine's name nobody would know."""
    draws = np.random.default_rng(0)
    arrays = {f"x_{name}": draws.normal(size=(60, 64)).astype(np.float32) for name in ("train", "test")}
    np.savez(tmp_path / "own.npz", **arrays, y_train=np.arange(60) % 3, y_test=np.arange(60) % 3)
    (tmp_path / "own_model.py").write_text(
        "from torch import nn\ndef make(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    one = work("", override.replace("PLACE", str(tmp_path)))
    with pytest.raises(
        InputError, match=rf"block 1 .*: the machine that was to run it .* cannot read .* \({why}\); put"
    ):
        run(one, tmp_path / "out", "Bare")
    assert not list((tmp_path / "out" / "cells").glob("*.json"))


@pytest.mark.parametrize(
    ("pool", "workers", "more", "text", "message"),
    [
        ("here", None, {}, "", r"give --workers N too"),
        ("here", 1, {"keep_models": True}, "", r"leave out --keep-models"),
        ("here", 1, {}, "secure_sum: {parties: 2, updates: true}", r"secure_sum reaches its parties from this machine"),
        ("nowhere", 1, {}, "", r"cluster_pools has no 'nowhere'"),
    ],
)
def test_refused_before_there_is_a_folder(
    pool: str, workers: int | None, more: dict[str, Any], text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run(work(text), tmp_path / "out", pool, workers, **more)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("pool", "message"), [("nothing", r"gave a int, expected"), ("fails", r"no such queue; mend")])
def test_what_is_no_executor_is_named(pool: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run(work(""), tmp_path / "out", pool)
