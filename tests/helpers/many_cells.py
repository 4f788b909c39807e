"""A results folder of any size without its training: real cells under other seeds, with the names they have there."""

import copy
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.store.index import FILE, LEAST, CellIndex
from autoflip_secure.scenarios.store.store import Store

BASE: dict[str, Any] = {
    "name": "many", "question": "Is it read?", "clients": 4, "cohort": 2, "rounds": 4, "evaluate_every": 2,
    "training": {"epochs": 1, "batch_size": 64}, "exploration": {"epochs": 1},
    "data": {"kind": "digits", "train_samples": 120, "test_samples": 40}, "model": {"kind": "mlp", "hidden": [8]},
    "sweep": {"product": {"attack": ["none", {"kind": "label_flip", "share": 1.0, "scope": 0.5}],
                          "algorithm": ["fedavg", "autoflip"]}},
}  # fmt: skip


def small_cells(seeds: int) -> Plan:
    """Four cells for each seed, each of a moment."""
    return plan(resolve(Document("many", {**copy.deepcopy(BASE), "seeds": list(range(10, 10 + seeds))})))


def _kind(config: dict[str, Any], algorithm: str) -> str:
    return canonical([config["attack"], algorithm])


def copies(base: Iterable[RunRecord], work: Plan) -> Iterator[RunRecord]:
    """A record for every cell of a plan: that of its attack and algorithm, with accuracies of its own.

    Args:
        base: a record for every attack and algorithm of the plan; partition and seed may be others.
        work: the plan.
    """
    known = {_kind(record.config, record.algorithm): record for record in base}
    jitter = random.Random(0)
    for cell in work.cells:
        real = known[_kind(cell.config, cell.settings.algorithm.name)]
        rounds = [
            one.model_copy(update={"test_accuracy": min(1.0, max(0.0, one.test_accuracy + jitter.gauss(0, 0.02)))})
            if one.test_accuracy is not None
            else one
            for one in real.rounds
        ]
        own = {"cell": cell.key, "config": cell.config, "seed": cell.seed, "axes": cell.axes, "tuning": cell.tuning}
        yield real.model_copy(update={**own, "rounds": rounds, "final_accuracy": rounds[-1].test_accuracy})


def fill(folder: Path, base: Iterable[RunRecord], work: Plan) -> Path:
    """Write them as a sweep does."""
    with Store(folder) as store:
        store.load(work.keys)
        store.claim(work)
        for record in copies(base, work):
            store.save(record)
    return folder


def files(folder: Path) -> list[Path]:
    """Those of its cells."""
    return sorted((folder / "cells").glob("*.json"))


def opened(folder: Path) -> CellIndex:
    """Its index."""
    index = CellIndex.of(folder, LEAST)
    assert index is not None
    return index


def rows(folder: Path) -> int:
    """How many cells the index knows."""
    return int(pq.read_metadata(folder / FILE).num_rows)
