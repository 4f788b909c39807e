"""What engines cost beside each other: overhead per block, and efficiency on as many workers as there are cores.

Run as a script: ``python benchmarks/engines.py [BLOCKS]``. Everything is measured in one run, in turns, on equal
blocks:

- *overhead*: blocks one after the other on one worker; the time from one block's end to the next one's, less the same
  in this process, which has no engine around it. The first blocks, which import torch and bring data, are left out.
- *efficiency*: on N workers, (time of a block in this process) × (blocks a second) / N.

On a machine that others use, the quickest of several turns says most; the median is shown beside it.
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
from importlib.util import find_spec
from pathlib import Path

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

TURNS = 3
SCENARIO = """
name: engines
clients: 10
cohort: 5
rounds: 6
training: {epochs: 1, batch_size: 32}
data: {kind: digits, train_samples: 600, test_samples: 100}
model: {kind: mlp, hidden: [32]}
algorithm: fedavg
evaluate_every: 6
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


def blocks_of(count: int, cells: int) -> tuple[Block, ...]:
    """So many equal blocks of so many cells."""
    text = SCENARIO.replace("COUNT", str(count * cells))
    return plan(resolve(Document.parse(text, "engines")), block_cells=cells).blocks


def ends(where: Executor, blocks: tuple[Block, ...], workers: int) -> list[float]:
    """When each block ended, from the start."""
    began, found = time.perf_counter(), []
    builder = CellBuilder()
    inputs = input_digests((spec.settings for block in blocks for spec in block.cells), builder.data)
    with contextlib.closing(where.run(blocks, workers, Task(builder=builder, inputs=inputs))) as stream:
        for _ in stream:
            found.append(time.perf_counter() - began)
    return found


def intervals(times: list[float]) -> list[float]:
    """From one end to the next, without the first two blocks."""
    return [after - before for before, after in itertools.pairwise(times[1:])]


def main(count: int = 40) -> None:
    """Print two tables."""
    there = [Workers(), Elsewhere("engines:loky")]
    with contextlib.ExitStack() as stack:
        if find_spec("ray") is not None:
            ray = Ray()
            stack.enter_context(ray.open())
            ray.workers(cores(), blocks_of(2, 1), CellBuilder())  # starts its cluster
            there.append(ray)
        names = ["workers", "loky", "ray"][: len(there)]
        stack.enter_context(one_thread())
        small, large = blocks_of(count, 1), blocks_of(count, 12)
        alone: list[float] = []
        with_engine: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(TURNS):
            alone += intervals(ends(Here(), small, 1))
            for name, where in zip(names, there, strict=True):
                with_engine[name] += intervals(ends(where, small, 1))
        print(f"{platform.machine()}, {cores()} cores, load {os.getloadavg()[0]:.1f}; {count} blocks, {TURNS} turns")
        print(
            f"a block of 1 cell, in this process: {1e3 * min(alone):.0f} ms at best, {1e3 * median(alone):.0f} median"
        )
        for name, found in with_engine.items():
            best, usual = (1e3 * (of(found) - of(alone)) for of in (min, median))
            print(f"  {name:8} overhead a block: {best:6.1f} ms at best, {usual:6.1f} median")
        workers, rates, seconds = cores(), dict[str, list[float]]((name, []) for name in names), []
        for _ in range(TURNS):
            seconds += intervals(ends(Here(), large, 1))
            for name, where in zip(names, there, strict=True):
                times = ends(where, large, workers)
                rates[name].append((len(times) - workers) / (times[-1] - times[workers - 1]))
        one = median(seconds)
        print(f"a block of 12 cells, in this process: {1e3 * one:.0f} ms; {workers} workers:")
        for name, found in rates.items():
            best, usual = (one * of(found) / workers for of in (max, median))
            print(f"  {name:8} efficiency: {best:.2f} at best, {usual:.2f} median")


def median(values: list[float]) -> float:
    """Of several."""
    return statistics.median(values)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    main(*(int(x) for x in sys.argv[1:]))
