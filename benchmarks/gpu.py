"""What a GPU is for here, in at most eight minutes and one JSON: ``python benchmarks/gpu.py [--out gpu.json]``.

- many cells against one: a sweep of 1,000 small models, plain, with DP-SGD, and with a robust aggregator under attack
- ResNet-18 on images like those of CIFAR-10, 20 clients with 5 local epochs, against a plain loop over clients
- peak memory of a block, and what was estimated before
- numbers of the GPU beside those of the processor, after one round
- what waits for the GPU: operations that CUDA counts as synchronising, in the steps of training and in a whole block

Where torch finds no GPU, or with ``--small``, it runs a small form, on the processor if need be, and says so: then the
ratios are those of a processor, and what only a GPU can tell stands under ``not_measured``. A part that fails, or that
there is no time left for, says why and stops nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gpu_resnet import Machine, resnet

from autoflip_secure.federation.measures import versions
from autoflip_secure.records.run import RunRecord
from autoflip_secure.runtime.memory import give_back, memory_of
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.cutting import cut_to_fit, needed
from autoflip_secure.training import stacked

SCENARIO = """
name: gpu
clients: 20
cohort: 5
rounds: 3
evaluate_every: 3
training: {epochs: 1, batch_size: 16}
data: {kind: digits, train_samples: 1200, test_samples: 200}
model: {kind: mlp, hidden: [64]}
"""
KINDS = {
    "plain": ["algorithm=fedavg"],
    "dp-sgd": ["algorithm=fedavg", "privacy={kind: sample_level, noise_multiplier: 1.0, clip: 1.0}"],
    "robust": ["algorithm=multi_krum", "attack={kind: sign_flip, scope: 0.2}"],
}


def blocks(machine: Machine, kind: str, cells: int, *more: str) -> list[Block]:
    """A sweep of so many cells, which differ in their seeds, in blocks that fit into memory."""
    own = [*KINDS[kind], f"seeds={{first: 0, count: {cells}}}", f"device={machine.device.type}", *more]
    return [*cut_to_fit(plan(resolve(Document.parse(SCENARIO, "gpu.yaml"), own)).blocks, CellBuilder(), 1)]


def run(work: list[Block], builder: CellBuilder | None = None) -> list[RunRecord]:
    """All cells of some blocks."""
    return [record for block in work for record in run_block(block, builder=builder)]


def sweeps(machine: Machine) -> dict[str, Any]:
    """Seconds of one cell and of many, in rounds of every kind; the share of many that is local training."""
    many, found = 24 if machine.small else 1000, dict[str, Any]()
    for kind in KINDS:
        try:
            found[kind] = sweep(machine, kind, many)
        except RuntimeError as error:  # memory, above all
            found[kind] = {"not_measured": str(error).splitlines()[0]}
    return found


def sweep(machine: Machine, kind: str, many: int) -> dict[str, Any]:
    """One kind of sweep."""
    builder, one, some = CellBuilder(), blocks(machine, kind, 1), blocks(machine, kind, many // 8)
    run(one, builder)  # libraries are loaded, kernels chosen, the model tried
    alone = machine.seconds(lambda: run(one, builder), 3)
    few = machine.seconds(lambda: run(some, builder))
    found: dict[str, Any] = {"one_cell_s": alone, f"{many // 8}_cells_s": few}
    if 8 * few > machine.left() / 2:
        return {**found, "not_measured": f"{many} cells would take about {8 * few:.0f} s"}
    every = blocks(machine, kind, many)
    with training_timed(machine) as spent:
        took = machine.seconds(lambda: run(every, builder))
    return {
        **found, f"{many}_cells_s": took, "ratio": took / alone, "cells": many, "training_share": sum(spent) / took,
    }  # fmt: skip


@contextlib.contextmanager
def training_timed(machine: Machine) -> Iterator[list[float]]:
    """Seconds that the trainer takes, each time."""
    train, spent = stacked.StackedTrainer.train, list[float]()

    def timed(self: Any, *given: Any) -> Any:
        machine.wait()
        began = time.perf_counter()
        result = train(self, *given)
        machine.wait()
        spent.append(time.perf_counter() - began)
        return result

    stacked.StackedTrainer.train = timed  # type: ignore[method-assign, assignment]
    try:
        yield spent
    finally:
        stacked.StackedTrainer.train = train  # type: ignore[method-assign]


def memory(machine: Machine) -> dict[str, Any]:
    """Peak of a block of cells with 75,010 weights and 40 clients, above that of one cell, and what is estimated."""
    many, wide = 8 if machine.small else 128, ("model.hidden=[1000]", "clients=40", "cohort=40", "rounds=1")
    run(blocks(machine, "plain", 1, *wide))
    before = peak(machine)
    (block, *_) = blocks(machine, "plain", many, *wide)
    run([block])
    fixed, each = needed(block, CellBuilder())
    return {
        "cells": len(block.cells), "peak_mib": peak(machine) / 2**20,
        "above_one_cell_mib": (peak(machine) - before) / 2**20,
        "estimated_above_one_cell_mib": (len(block.cells) - 1) * each / 2**20, "estimated_fixed_mib": fixed / 2**20,
        "device_mib": (memory_of(machine.device) or 0) / 2**20,
    }  # fmt: skip


def peak(machine: Machine) -> int:
    """Bytes, of the GPU where there is one."""
    if machine.on_gpu:
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # a program that a large one started begins there


def equality(machine: Machine) -> dict[str, Any]:
    """Largest difference between GPU and processor after one round, in accuracy and loss, by kind of round."""
    if not machine.on_gpu:
        machine.missing.append("numbers of a GPU beside those of a processor")
        return {}
    here = Machine(torch.device("cpu"), machine.small, machine.ends)
    found = {}
    for kind in ("plain", "robust"):  # private noise is another one on another device
        sides = [run(blocks(where, kind, 12)) for where in (machine, here)]
        pairs = list(zip(*sides, strict=True))
        found[kind] = {
            "train_loss": max(abs((a.rounds[0].train_loss or 0) - (b.rounds[0].train_loss or 0)) for a, b in pairs),
            "step_norm": max(abs(a.rounds[0].step_norm / b.rounds[0].step_norm - 1) for a, b in pairs),
            "final_accuracy": max(abs(a.final_accuracy - b.final_accuracy) for a, b in pairs),
        }
    return found


def waiting(machine: Machine) -> dict[str, Any]:
    """Operations of a block of 12 cells, three rounds, that wait for the GPU, and those of the steps of training."""
    if not machine.on_gpu:
        machine.missing.append(
            "what waits for a GPU (tests/autoflip_secure/training/test_waiting.py watches operations)"
        )
        return {}
    inside, loop = list[int](), stacked._Stack.run

    def counted(self: Any, *given: Any) -> None:
        before = len(caught)
        loop(self, *given)
        inside.append(len(caught) - before)

    found = {}
    for kind in KINDS:
        work, builder = blocks(machine, kind, 12), CellBuilder()
        run(work, builder)
        inside.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            stacked._Stack.run = counted  # type: ignore[method-assign, assignment]
            try:
                run(work, builder)
            finally:
                stacked._Stack.run = loop  # type: ignore[method-assign]
                torch.cuda.set_sync_debug_mode("default")
        found[kind] = {"block": len(caught), "steps": sum(inside)}
    return found


def goals(found: dict[str, Any], machine: Machine) -> list[dict[str, Any]]:
    """What the project set itself, and what was found; None: not measured here."""
    many = {kind: one for kind, one in found["sweeps"].items() if isinstance(one, dict)}
    rows = [
        {
            "goal": f"{one.get('cells', 1000):,} cells in at most 10 times the time of one, {kind}",
            "measured": one.get("ratio"), "bound": 10.0,
        }
        for kind, one in many.items()
    ]  # fmt: skip
    tried = [one["loop / ours"] for one in found["resnet"].values() if isinstance(one, dict)]
    best = max(tried, default=None)
    rows.append({"goal": "ResNet-18 at least 5 times a plain loop", "measured": best, "bound": 5.0})
    for row in rows:
        value, bound = row["measured"], row["bound"]
        if machine.small or not machine.on_gpu:
            row["met"] = None
        elif value is not None:
            row["met"] = value <= bound if bound == 10.0 else value >= bound
    return rows


PARTS = {"memory": memory, "sweeps": sweeps, "resnet": resnet, "equality": equality, "waiting": waiting}


def main() -> None:
    """Measure, write, and say the most important."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--small", action="store_true", help="the small form, also where there is a GPU")
    parser.add_argument("--seconds", type=float, default=460, help="that it may take")
    given = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    machine = Machine(device, given.small or not on_gpu, time.monotonic() + given.seconds)
    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        began = time.monotonic()
        try:
            found[name] = part(machine) if machine.left() > 0 else {"not_measured": "no time left"}
        except Exception as error:  # of a library, a driver, or memory: the other parts go on
            found[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            machine.missing.append(f"{name}: {found[name]['failed']}")
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        give_back(device)
    if not on_gpu:
        machine.missing.insert(0, "anything on a GPU: torch finds none here; these are a processor's ratios")
    elif machine.small:
        machine.missing.insert(0, "the goals: this is the small form")
    document = {
        "device": str(device), "small": machine.small, "versions": versions(str(device)), **found,
        "goals": goals(found, machine), "not_measured": machine.missing,
    }  # fmt: skip
    given.out.write_text(json.dumps(document, indent=1) + "\n")
    for row in document["goals"]:
        print(f"{row['goal']}: {row['measured']} ({'not decided here' if row.get('met') is None else row['met']})")
    print(f"{given.out}: {'; '.join(machine.missing) or 'everything was measured'}")


if __name__ == "__main__":
    main()
