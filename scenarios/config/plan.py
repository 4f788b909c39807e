"""Cells -> blocks: cells that can be one program, in chunks of a fixed size.

A block is fixed by the scenario alone, never by what is left to do: a resumed block is run whole, with its finished
cells, so that what is computed together never changes. Records therefore do not depend on workers, resumes or order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.choices import chosen
from autoflip_secure.scenarios.config.loading import CellSpec, LoadedScenario
from autoflip_secure.scenarios.config.messages import kind_of
from autoflip_secure.scenarios.config.protocols import protocol
from autoflip_secure.terminal.counting import count_of

BLOCK_CELLS = 12
BLOCK_CELLS_ON_GPU = 512
"""Cells of a block at most, where the scenario says ``device: cuda``: a GPU wants much at once. With ``auto`` it is the
other number, so that a plan is the same on every machine."""


@dataclass(frozen=True)
class Block:
    """Cells of one model shape and schedule, run in lockstep."""

    index: int
    cells: tuple[CellSpec, ...]
    of: int | None = None  # cells of the whole block, where this is a part that fits into memory; None: it is whole

    @property
    def keys(self) -> tuple[str, ...]:
        """Content hashes of the cells."""
        return tuple(cell.key for cell in self.cells)

    @property
    def label(self) -> str:
        """For messages: number, data, model."""
        data, model = (kind_of(type(part)) for part in (self.cells[0].settings.data, self.cells[0].settings.model))
        cells = count_of(len(self.cells), "cell") if self.of is None else f"{len(self.cells)} of {self.of} cells"
        return f"block {self.index} ({cells} of {data}, {model})"


@dataclass(frozen=True)
class Shard:
    """One of ``of`` parts of a plan's blocks, which are disjoint and together all of them; ``number`` from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """``3/16``.

        Raises:
            InputError: it is no such pair of whole numbers, or the first is not between 1 and the second.
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(f"--shard {text:.40}: should be K/N, as in 3/16: part K of N, 1 <= K <= N <= 999999")
        return cls(int(match[1]), int(match[2]))

    def holds(self, block: Block) -> bool:
        """Whether a block is run by this part: every ``of``-th is, so that parts are of about one size."""
        return (block.index - 1) % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class Plan:
    """What a scenario comes to."""

    name: str
    question: str
    outcome: OutcomeRule
    written: dict[str, Any]  # the scenario as data; see LoadedScenario
    blocks: tuple[Block, ...]
    tuning: TuningPlan | None = None
    """The stage before, if there is one; what ``blocks`` are until then says :class:`.LoadedScenario`."""

    @property
    def cells(self) -> tuple[CellSpec, ...]:
        """All cells, block by block."""
        return tuple(cell for block in self.blocks for cell in block.cells)

    @property
    def keys(self) -> list[str]:
        """Content hashes of all cells."""
        return [cell.key for cell in self.cells]

    def part(self, shard: Shard | None) -> list[Block]:
        """The blocks of a shard, or all."""
        return [block for block in self.blocks if shard is None or shard.holds(block)]

    def manifest(self) -> dict[str, Any]:
        """What the results folder says about itself."""
        cells = [
            {
                "cell": c.key, "algorithm": c.settings.algorithm.name, "seed": c.seed, "axes": c.axes,
                **({"tuning": digest(c.tuning.model_dump(mode="json"))} if c.tuning else {}),
            }
            for c in self.cells
        ]  # fmt: skip
        return {"name": self.name, "cells": cells, "blocks": [list(block.keys) for block in self.blocks]}


@dataclass(frozen=True)
class TuningPlan:
    """The stage in which settings are chosen, as a plan of its own, and what the choice leads to."""

    stage: Plan
    scenario: LoadedScenario
    block_cells: int | None

    def chosen(self, records: Iterable[RunRecord]) -> Plan:
        """The plan of the cells to report, from the records of the whole stage."""
        return plan(chosen(self.scenario, records), self.block_cells)


def plan(scenario: LoadedScenario, block_cells: int | None = None) -> Plan:
    """Group the cells by everything that must be equal to compute together, then cut each group into chunks.

    Args:
        scenario: its cells.
        block_cells: of a chunk at most; None: :data:`BLOCK_CELLS`, on a GPU that is asked for more.
    """
    groups: dict[str, list[CellSpec]] = {}
    for cell in scenario.cells:
        groups.setdefault(_shape(cell), []).append(cell)
    chunks = [
        tuple(group[start : start + most])
        for group in groups.values()
        for most in [block_cells or _most(group[0])]
        for start in range(0, len(group), most)
    ]
    blocks = tuple(Block(index, chunk) for index, chunk in enumerate(chunks, start=1))
    header, tuning = scenario.header, scenario.tuning
    before = None if tuning is None else TuningPlan(plan(tuning.stage, block_cells), scenario, block_cells)
    return Plan(header.name, header.question, OutcomeRule.parse(header.outcome), scenario.written, blocks, before)


def _most(cell: CellSpec) -> int:
    return BLOCK_CELLS_ON_GPU if cell.settings.device == "cuda" else BLOCK_CELLS


def _shape(cell: CellSpec) -> str:
    """What must be equal: :func:`problem_key` and :meth:`.Protocol.block_key`.

    Partition, clients, attack and algorithm may differ.
    """
    return canonical([problem_key(cell), protocol(cell.settings).block_key()])


def problem_key(cell: CellSpec) -> list[Any]:
    """What makes the problem of a cell, split and labels apart, and who trains it where."""
    config = cell.config
    shared = [config[key] for key in ("data", "model", "device", "trainer")]
    return [*shared, cell.settings.privacy.replace_unsupported_layers]  # it changes the model
