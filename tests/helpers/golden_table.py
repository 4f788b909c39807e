"""A few numbers of a tiny run of every attack against every aggregator, in ``tests/golden/attacks_by_aggregators.csv``.

``make golden`` renews the file: rows that are missing are added, those that have changed are written anew, those of
plug-ins that are gone go, and it says how many. A row that still agrees stays as it is to the last digit, so that
another processor does not rewrite it. After ``rm`` of the file all rows are made anew: the same file, on the same
machine.

**How far rounding may move a row.** Other processors and kernels round otherwise. On most rows that comes to a few
units in the eighth digit. But where two candidates of a search do the same harm, a subset has a rival of the same
diameter, or a weight lies at the threshold of the mask, a decision turns, and what follows are other numbers. So each
row is run again from initial weights that are moved by 1e-6 of themselves, several times what rounding comes to (with
kernels of AVX2, and of neither AVX, the norm moved by 7e-9 in the median of 864 rows), and the file says how far each
of its numbers moved at most. A row agrees that is within :data:`LEAST` and twice that.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import CellSpec, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.tables import AGGREGATORS, ATTACKS
from autoflip_secure.scenarios.config.yaml_text import write_flow
from autoflip_secure.scenarios.running.build import CellBuilder

FILE = Path(__file__).resolve().parents[1] / "golden" / "attacks_by_aggregators.csv"
RENEW = "`make golden` renews it; read what has changed before you commit it"
SEEDS = (0, 1)
MOVED, TIMES = 1e-6, 6  # how far initial weights are moved, and how often
SCENARIO = """
name: golden
data: {kind: digits, train_samples: 320, test_samples: 200}
partition: {kind: dirichlet, alpha: 0.5}
model: {kind: mlp, hidden: [16]}
clients: 8
cohort: 6
rounds: 3
evaluate_every: 3
training: {epochs: 4, lr: 0.3, batch_size: 10}
exploration: {epochs: 1}
"""
_BLOCK = 200


class Key(NamedTuple):
    """A row: kinds, with their default options, and a seed."""

    attack: str
    aggregator: str
    seed: int


class Numbers(NamedTuple):
    """What is kept of a run."""

    accuracy: float  # at the end
    norm: float  # of the final weights
    trust: float  # of malicious clients, together, mean over rounds
    filtered: float  # how often a participant was not trusted at all


LEAST = Numbers(accuracy=0.01, norm=1e-4, trust=1e-3, filtered=0)
"""How far a row may be from what is kept, at least; ``norm`` relative."""


class Row(NamedTuple):
    """What is kept under a key."""

    numbers: Numbers
    moved: Numbers  # how far they moved at most, ``norm`` relative

    def differences(self, found: Numbers) -> list[str]:
        """What is not within the tolerance."""
        apart = distance(self.numbers, found)
        return [
            f"{name} {old:.6g} -> {new:.6g}"
            for name, old, new, by, least, moved in zip(
                Numbers._fields, self.numbers, found, apart, LEAST, self.moved, strict=True
            )
            if not by <= least + 2 * moved
        ]


def distance(one: Numbers, other: Numbers) -> Numbers:
    """Number by number; ``norm`` relative."""
    apart = Numbers(*(abs(a - b) for a, b in zip(one, other, strict=True)))
    return apart._replace(norm=apart.norm / one.norm)


def keys() -> list[Key]:
    """Every attack against every aggregator."""
    return [Key(*one) for one in product(ATTACKS, AGGREGATORS, SEEDS)]


def diagonal() -> list[Key]:
    """A part in which every attack meets an aggregator, every aggregator an attack, and both seeds occur."""
    attacks, aggregators = list(ATTACKS), list(AGGREGATORS)
    return [
        Key(attacks[place % len(attacks)], aggregators[place % len(aggregators)], SEEDS[place // 2 % len(SEEDS)])
        for place in range(max(len(attacks), len(aggregators)))
    ]


# ---------------------------------------------------------------------------------------------- running


class _Norms(Watcher):
    """The norm of every cell's latest global model."""

    def __init__(self) -> None:
        self.of = dict[int, float]()

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        """Note it."""
        self.of[id(cell)] = float(state.weights.double().norm())


def _specs(wanted: Sequence[Key], seed: int) -> list[CellSpec]:
    """Cells of one seed, in order."""
    attacks = [{"kind": one.attack, **({} if one.attack == "none" else {"scope": 0.25})} for one in wanted]
    pruner = {"kind": "threshold", "refine_every": 1}
    algorithms = [{"name": one.aggregator, "pruner": pruner, "aggregator": {"kind": one.aggregator}} for one in wanted]
    sweep = {"zip": {"attack": attacks, "algorithm": algorithms}}
    document = Document.parse(f"{SCENARIO}seeds: [{seed}]\nsweep: {write_flow(sweep)}\n", "golden.yaml")
    return list(plan(resolve(document, [])).cells)


def _possible(wanted: list[Key], seed: int) -> dict[Key, CellSpec]:
    """Cells of those that a scenario may ask for."""
    if not wanted:
        return {}
    try:
        return dict(zip(wanted, _specs(wanted, seed), strict=True))
    except InputError:
        half = len(wanted) // 2
        return {} if not half else _possible(wanted[:half], seed) | _possible(wanted[half:], seed)


def _numbers(record: RunRecord, norm: float) -> Numbers:
    held = [
        sum(trust for trust, malicious in zip(one.trust, one.malicious, strict=True) if malicious)
        for one in record.rounds
    ]
    return Numbers(
        accuracy=record.final_accuracy,
        norm=norm,
        trust=sum(held) / len(held),
        filtered=sum(trust == 0 for one in record.rounds for trust in one.trust),
    )


def run(wanted: Iterable[Key], moved: int = 0) -> dict[Key, Numbers]:
    """The numbers now; ``moved``: which of the draws that initial weights are moved by, 0 = none."""
    found, wanted = dict[Key, Numbers](), list(wanted)
    for seed in SEEDS:
        cells = list(_possible([one for one in wanted if one.seed == seed], seed).items())
        for start in range(0, len(cells), _BLOCK):
            found |= _run_block(dict(cells[start : start + _BLOCK]), moved)
    return found


def _run_block(wanted: Mapping[Key, CellSpec], moved: int) -> dict[Key, Numbers]:
    builder, norms, specs = CellBuilder(), _Norms(), list(wanted.values())
    trainer = builder.trainer(specs[0])
    cells = [builder.cell(spec, specs[0], torch.device("cpu")) for spec in specs]
    if moved:
        draws = torch.randn(cells[0].problem.initial.shape, generator=torch.Generator().manual_seed(moved))
        cells = [replace(one, problem=replace(one.problem, **_moved(one, draws))) for one in cells]
    records = run_cells(cells, trainer, watch=norms)
    assert all(record.trainer.bits == "stack" for record in records), "rows depend on the rows beside them"
    return {key: _numbers(record, norms.of[id(cell)]) for key, cell, record in zip(wanted, cells, records, strict=True)}


def _moved(cell: Cell, draws: torch.Tensor) -> dict[str, Any]:
    return {"initial": cell.problem.initial * (1 + MOVED * draws)}


# ---------------------------------------------------------------------------------------------- the file


def read() -> dict[Key, Row | None]:
    """What is kept; None: no scenario may ask for it."""
    if not FILE.exists():
        return {}
    with FILE.open(newline="") as lines:
        head, *rows = csv.reader(lines)
    assert head == _HEAD, f"{FILE.name} has other columns; delete it, and {RENEW}"
    return {Key(row[0], row[1], int(row[2])): _row(row[3:]) for row in rows}


_HEAD = [*Key._fields, *Numbers._fields, *(f"{name}_moved" for name in Numbers._fields)]
_COUNT = len(Numbers._fields)


def _row(values: list[str]) -> Row | None:
    if values[0] == "refused":
        return None
    numbers = [float(value) for value in values]
    return Row(Numbers(*numbers[:_COUNT]), Numbers(*numbers[_COUNT:]))


def as_text(table: Mapping[Key, Row | None]) -> str:
    """The file."""
    lines = io.StringIO()
    write = csv.writer(lines, lineterminator="\n").writerow
    write(_HEAD)
    for key, row in sorted(table.items()):
        if row is None:
            write([*key, "refused"])
        else:
            write([*key, *(f"{one:.8g}" for one in row.numbers), *(f"{one:.1e}" if one else "0" for one in row.moved)])
    return lines.getvalue()


def differences(found: Mapping[Key, Numbers], wanted: Iterable[Key]) -> dict[Key, list[str]]:
    """What of the rows that were wanted is not as it is kept; ``found``: of those that could be run."""
    kept = read()
    said = {key: _compared(kept.get(key), found.get(key), key in kept) for key in wanted}
    return {key: sentences for key, sentences in said.items() if sentences}


def _compared(kept: Row | None, found: Numbers | None, known: bool) -> list[str]:
    if not known:
        return ["no such row"]
    if kept is None or found is None:
        return [] if kept is found is None else ["refused -> runs" if kept is None else "runs -> refused"]
    return kept.differences(found)


def said_of(found: Mapping[Key, list[str]]) -> list[str]:
    """A line for every row that differs."""
    return [f"{key.attack} against {key.aggregator}, seed {key.seed}: {'; '.join(said)}" for key, said in found.items()]


def renew() -> str:
    """Write the file; says what has changed."""
    wanted, kept = keys(), read()
    base = run(wanted)
    stale = differences(base, wanted)
    moves = [run(stale, number) for number in range(1, TIMES + 1)]
    table: dict[Key, Row | None] = {key: kept[key] for key in wanted if key not in stale}
    for key in stale:
        apart = [distance(base[key], one[key]) for one in moves if key in base]
        table[key] = Row(base[key], Numbers(*map(max, zip(*apart, strict=True)))) if key in base else None
    FILE.write_text(as_text(table))
    new = sum(key not in kept for key in stale)
    gone = len(kept.keys() - set(wanted))
    return f"{FILE.name}: {len(wanted)} rows, {new} new, {len(stale) - new} changed, {gone} gone"


def main() -> None:
    """``golden_table.py`` renews the file, ``golden_table.py check`` says what differs from it."""
    if sys.argv[1:] == ["check"]:
        print(torch.backends.cpu.get_cpu_capability(), "kernels")
        found = differences(run(keys()), keys())
        print("\n".join(said_of(found)))
        raise SystemExit(bool(found))
    print(renew())


if __name__ == "__main__":
    main()
