"""What worker processes of our own are for, property by property, and how joblib's pool of processes, loky, does there.

Of a future version of loky that does as well, a test here says so by failing: then ours may go.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing

import psutil
import pytest
from processes import PATIENCE, helpers

from autoflip_secure.errors import AutoflipError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.executors.base import Rounds, Task
from autoflip_secure.scenarios.running.executors.workers import Workers

TINY = """
clients: 5
cohort: 2
training: {epochs: 1, batch_size: 64}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: fedavg
seeds: [1]
sweep: {product: {rounds: [ROUNDS]}}
"""


def blocks(*rounds: int) -> tuple[Block, ...]:
    text = TINY.replace("ROUNDS", ", ".join(map(str, rounds)))
    return plan(resolve(Document.parse(text, "tiny.yaml"))).blocks


def test_ours_tell_rounds_of_blocks_that_still_run() -> None:
    heard: list[tuple[str, int]] = []

    def rounds(entries: Rounds) -> None:
        heard.extend((key, entry.round) for key, entry in entries)

    work = blocks(250, 251)
    with closing(Workers().run(work, 2, Task(rounds=rounds))) as stream:
        next(stream)
        assert heard, "before any block has ended"
    assert len(set(heard)) == len(heard)
    assert {key for key, _ in heard} <= {block.keys[0] for block in work}


def test_ours_name_the_block_of_a_process_that_dies_and_the_signal() -> None:
    def kill(block: Block, share: float) -> None:
        if block.index == 2:
            helpers()[-1].send_signal(signal.SIGKILL)

    done = []
    with pytest.raises(AutoflipError, match=r"the worker process on block 2 .* died \(SIGKILL"), closing(
        Workers().run(blocks(2, 20_000), 2, Task(progress=kill))
    ) as stream:  # fmt: skip
        done.extend(block.index for block, _ in stream)
    assert done in ([], [1])


# ------------------------------------------------------------------------------------------------ loky


POOL = """
import os, signal, time
from joblib.externals.loky import ProcessPoolExecutor

def deadly():
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)

pool = ProcessPoolExecutor(max_workers=2)
first = pool.submit(os.getpid).result()
"""
STOPPED = """
running, began = pool.submit(time.sleep, 60), time.monotonic()
time.sleep(0.5)
pool.shutdown(wait=True, kill_workers=True)
print(type(running.exception()).__name__, time.monotonic() - began < 20)
"""
LOST = """
healthy, dying = pool.submit(time.sleep, 30), pool.submit(deadly)
errors = [one.exception() for one in (healthy, dying)]
print(*(type(error).__name__ for error in errors), str(errors[0]) == str(errors[1]))
print("SIGKILL" in str(errors[0]), "deadly" in str(errors[1]))
"""
LEFT = """
pool.submit(time.sleep, 60)
time.sleep(0.5)
print(first, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def loky(program: str) -> tuple[int, list[str]]:
    """How a program with a pool of loky's ends, and what it prints (into a file: a pipe waits for all who hold it)."""
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            [sys.executable, "-c", POOL + program],
            stdout=said,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=PATIENCE,
        )
        said.seek(0)
        return done.returncode, said.read().split()


@pytest.mark.slow
def test_loky_can_be_stopped_in_the_middle() -> None:
    assert loky(STOPPED) == (0, ["ShutdownExecutorError", "True"])


@pytest.mark.slow
def test_loky_names_the_signal_that_a_process_died_of_and_not_what_it_was_on() -> None:
    code, said = loky(LOST)
    assert code == 0
    assert said[:2] == ["TerminatedWorkerError"] * 2, "the other one too"
    assert said[2:] == ["True", "True", "False"], "one sentence for both: the signal, and not the task"


@pytest.mark.slow
def test_loky_outlives_a_parent_that_is_killed() -> None:
    code, said = loky(LEFT)
    assert code == -signal.SIGKILL
    left = psutil.Process(int(said[0]))
    try:
        time.sleep(3)
        assert left.is_running()
        assert left.status() != psutil.STATUS_ZOMBIE
    finally:
        left.kill()
