"""What engines cost beside each other: overhead per block, and efficiency on as many workers as there are cores.

Run as a script: ``python benchmarks/engines.py [BLOCKS]``; half as many are of the larger size. Everything is
measured in one run, in turns, on equal blocks; the first ones of each turn, which import torch and bring data, are left
out.

- *overhead*: short blocks one after the other on one worker; from one block's end to the next one's, less the same in
  this process, which has no engine around it. In seconds (the quickest turns say most where others use the machine),
  and in processor seconds of all processes of the engine.
- *efficiency*: on N workers, with blocks of about half a second, which is short for a block of a real sweep: (time of a
  block in this process) × (blocks a second) / N; and the share of the engine's processor time that the blocks would
  take in this process, which other programs hardly change.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import statistics
import sys
import time
from concurrent.futures import Executor as Futures
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.executors.base import Executor, Task
from autoflip_secure.scenarios.running.executors.elsewhere import Elsewhere
from autoflip_secure.scenarios.running.executors.local import Here, cores
from autoflip_secure.scenarios.running.executors.ray_engine import Ray
from autoflip_secure.scenarios.running.executors.workers import Workers
from autoflip_secure.scenarios.store.fingerprints import input_digests

TURNS = 2
SKIPPED = 4  # blocks of each turn
SCENARIO = """
name: engines
clients: 10
cohort: 5
rounds: ROUNDS
training: {epochs: 1, batch_size: 32}
data: {kind: digits, train_samples: 600, test_samples: 100}
model: {kind: mlp, hidden: [32]}
algorithm: fedavg
evaluate_every: 10
seeds: {first: 1, count: COUNT}
"""


def loky(workers: int) -> Futures:
    """joblib's pool of processes, for ``--executor engines:loky``."""
    from joblib.externals.loky import ProcessPoolExecutor

    class Pool(ProcessPoolExecutor):  # type: ignore[misc]
        """With the signature that the standard library's has."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=wait, kill_workers=cancel_futures)

    pool: Futures = Pool(max_workers=workers)
    return pool


def blocks_of(count: int, cells: int, rounds: int) -> tuple[Block, ...]:
    """So many equal blocks of so many cells and rounds."""
    text = SCENARIO.replace("COUNT", str(count * cells)).replace("ROUNDS", str(rounds))
    return plan(resolve(Document.parse(text, "engines")), block_cells=cells).blocks


@dataclass(frozen=True)
class Turn:
    """One sweep of equal blocks."""

    seconds: list[float]  # from the end of one block to that of the next
    processor: float  # seconds a block, of this process and all that it started


def turn(where: Executor, blocks: tuple[Block, ...], workers: int) -> Turn:
    """Run ``blocks``; the first :data:`SKIPPED` of them are not counted."""
    builder = CellBuilder()
    inputs = input_digests((spec.settings for block in blocks for spec in block.cells), builder.data)
    ends: list[float] = []
    used: list[dict[int, float]] = []
    with contextlib.closing(where.run(blocks, workers, Task(builder=builder, inputs=inputs))) as stream:
        for _ in stream:
            ends.append(time.perf_counter())
            if len(ends) in (SKIPPED, len(blocks)):
                used.append(processor())
    kept = ends[SKIPPED - 1 :]
    seconds = [after - before for before, after in itertools.pairwise(kept)]
    before, after = used
    return Turn(seconds, sum(spent - before.get(pid, 0.0) for pid, spent in after.items()) / len(seconds))


def processor() -> dict[int, float]:
    """Seconds of this process and of those that it started, by their numbers."""
    found, own = {}, psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def main(count: int = 40) -> None:
    """Print two tables."""
    there: dict[str, Executor] = {"here": Here(), "workers": Workers(), "loky": Elsewhere("engines:loky")}
    with contextlib.ExitStack() as stack:
        if find_spec("ray") is not None:
            there["ray"] = stack.enter_context(Ray().open())
            there["ray"].workers(cores(), blocks_of(2, 1, 1), CellBuilder())  # starts its cluster
        stack.enter_context(one_thread())
        for cells, rounds, workers, number in ((1, 3, 1, count), (12, 30, cores(), count // 2)):
            blocks = blocks_of(number, cells, rounds)
            turns: dict[str, list[Turn]] = {name: [] for name in there}
            for _ in range(TURNS):
                for name, where in there.items():
                    turns[name].append(turn(where, blocks, 1 if name == "here" else workers))
            show(turns, cells, workers)


def show(turns: dict[str, list[Turn]], cells: int, workers: int) -> None:
    """One table."""
    alone = [value for one in turns["here"] for value in one.seconds]
    used = min(one.processor for one in turns["here"])
    print(
        f"{platform.machine()}, {cores()} cores, load {os.getloadavg()[0]:.1f}; blocks of {cells} cells, {workers} at "
        f"once; a block here: {1e3 * min(alone):.0f} ms at best, {1e3 * statistics.median(alone):.0f} median, "
        f"{1e3 * used:.0f} ms of processor"
    )
    for name, found in turns.items():
        seconds = [value for one in found for value in one.seconds]
        processors = min(one.processor for one in found)
        if workers == 1:
            best, usual = (1e3 * (of(seconds) - of(alone)) for of in (min, statistics.median))
            print(
                f"  {name:8} overhead a block: {best:6.1f} ms at best, {usual:6.1f} median, "
                f"{1e3 * (processors - used):6.1f} ms of processor"
            )
        else:
            rates = [len(one.seconds) / sum(one.seconds) for one in found]
            best = statistics.median(alone) * max(rates) / workers
            print(f"  {name:8} efficiency: {best:.2f} at best; {used / processors:.2f} of the processor time is blocks")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    main(*(int(x) for x in sys.argv[1:]))
