"""Running some of the runs of an entry again, and what that says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np

from autoflip_secure.errors import InputError
from autoflip_secure.federation.measures import versions
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.board import BoardEntry
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.proven import bounds
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.boards.boards import Board, attacks_of
from autoflip_secure.scenarios.boards.counted_runs import counted_runs
from autoflip_secure.scenarios.boards.entries import numbers_digest
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check_cells, check_inputs
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.ledgers import private, under_conditions

TOLERANCE = 0.05
"""How far an accuracy may be off where bits cannot be equal: on another kind of processor last bits differ, and
training makes more of them."""
_SHOWN = 40  # letters of a version
PROCESSOR = {"kernels", "gpu"}
"""Versions that name the kind of processor."""
Verdict = Literal["verified", "differs", "cannot tell"]


@dataclass(frozen=True)
class Again:
    """One run of an entry, and what it came to here."""

    setting: int
    attack: int | None  # index among the entry's attacks
    seed: int
    claimed: float  # accuracy in the entry
    found: float  # accuracy here
    equal: bool  # every number of the run, to the last bit
    proven: bool  # what the entry says is proven is proven of it

    @property
    def near(self) -> bool:
        """Whether the accuracy is within the tolerance."""
        return abs(self.claimed - self.found) <= TOLERANCE


@dataclass(frozen=True)
class Tuned:
    """One run of the stage in which settings were chosen, and what it came to here."""

    setting: int
    candidate: int  # index among the board's
    seed: int
    claimed: float
    found: float

    @property
    def near(self) -> bool:
        """Whether the accuracy is within the tolerance."""
        return abs(self.claimed - self.found) <= TOLERANCE


@dataclass(frozen=True)
class Verification:
    """What running a sample again came to."""

    runs: list[Again]
    tuned: list[Tuned]  # all of some settings; none where nothing is tuned
    other: dict[str, tuple[str, str]]  # version, or code from outside, that differs: in the entry, here
    alone: bool  # a single run repeats to the last bit, whatever runs beside it: as the entry says
    alone_here: bool  # and as is found here
    unmet: list[str]  # attacks that the defence meets here, and that the entry has not
    private: int = 0  # runs that released something, and are counted

    @property
    def verdict(self) -> Verdict:
        """Equal bits verify whatever they were made with; else it depends on what is the same here."""
        if self.unmet:
            return "cannot tell" if set(self.other) - PROCESSOR else "differs"
        if not all(one.proven for one in self.runs):
            return "differs"
        if all(one.equal for one in self.runs) and all(one.claimed == one.found for one in self.tuned):
            return "verified"
        if set(self.other) - PROCESSOR or self.excused:
            return "cannot tell"
        if PROCESSOR & set(self.other) or not self.alone:
            near = all(one.near for one in self.runs) and all(one.near for one in self.tuned)
            return "verified" if near and self.surplus <= self.allowed else "differs"
        return "differs"

    @property
    def excused(self) -> bool:
        """The entry says of its runs that they do not repeat by themselves, and here, on such a processor, they do."""
        return self.alone_here and not self.alone and not PROCESSOR & set(self.other)

    @property
    def surplus(self) -> float:
        """By how much the entry's accuracies are higher than those here, on average."""
        return fmean(one.claimed - one.found for one in self.runs)

    @property
    def allowed(self) -> float:
        """How much that may be: last bits move accuracies up as often as down, so the mean of more runs by less."""
        return TOLERANCE / sqrt(len(self.runs))


def sample(entry: BoardEntry, count: int, seed: int) -> list[tuple[int, int | None, int]]:
    """(setting, attack, index of the seed) of runs drawn without replacement; the same for the same ``seed``."""
    every = [
        (one.setting, runs.attack, place)
        for one in entry.settings
        for runs in one.runs
        for place in range(len(entry.seeds))
    ]
    chosen = np.random.default_rng(np.random.SeedSequence(seed)).choice(
        len(every), min(count, len(every)), replace=False
    )
    return [every[index] for index in sorted(chosen.tolist())]


def verify(
    entry: BoardEntry,
    board: Board,
    chosen: Sequence[tuple[int, int | None, int]],
    settings: Sequence[int],
    places: Mapping[str, Any],
    folder: Path,
    tell: Callable[[Again], None],
) -> Verification:
    """Run ``chosen`` again, and what was tried in ``settings`` before.

    Args:
        entry: held against ``board`` before.
        board: of the entry.
        chosen: of :func:`sample`.
        settings: of :func:`settings_to_tune`.
        places: where data lie here, config path -> value.
        folder: results folder whose ledgers count private runs (:func:`.counted_runs`).
        tell: called after each run.

    Raises:
        InputError: the defence or the data are not here, or the data are others.
        StoreError: private runs cannot be counted.
    """
    cells = [_cell(entry, board, places, *one) for one in chosen]
    builder, blocks = CellBuilder(), [Block(number, (cell,)) for number, cell in enumerate(cells, start=1)]
    check_inputs(blocks, builder)
    inputs = input_digests((cell.settings for cell in cells), builder.data)
    blocks = under_conditions(blocks, inputs)
    check_cells(blocks, builder)
    data = next(value for what, value in inputs.items() if what.startswith("data "))
    if data != entry.data:
        raise InputError(
            f"the data here are others than those of the entry (fingerprints {data[:16]} and {entry.data[:16]}); "
            "nothing can be compared: give the same ones, with --set data.root=FOLDER where they lie elsewhere"
        )
    rule, found, bits = OutcomeRule.parse(board.terms.outcome), list[Again](), set[str | None]()
    scenario = board.scenario(entry.algorithm, places=places)
    with counted_runs(scenario, blocks, inputs, builder, folder) as keep:
        for block, (number, attack, place) in zip(blocks, chosen, strict=True):
            record = run_block(block, builder=builder)[0]
            keep(block, record)
            bits.add(record.trainer.bits)
            runs = entry.settings[number].runs[0 if attack is None else attack + 1]
            claimed, here = runs.accuracies[place], rule.accuracy(record)
            same = claimed == here and runs.digests[place] == numbers_digest(record)
            found.append(Again(number, attack, entry.seeds[place], claimed, here, same, _proven(entry, record)))
            tell(found[-1])
    repeat = all(_repeats(cell, moved=bool(places)) for cell in cells)
    return Verification(
        found,
        [one for setting in settings for one in _tuned(entry, board, places, setting, builder)],
        _others(entry, inputs, record.trainer.device),
        alone=repeat and entry.bits == "stack",
        alone_here=repeat and bits == {"stack"},
        unmet=_unmet(entry, board),
        private=sum(map(private, cells)),
    )


def settings_to_tune(entry: BoardEntry, seed: int, count: int) -> list[int]:
    """Of which settings the tuning is run again; the same for the same ``seed``, and with more, more."""
    every = len(entry.settings)
    first = int(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).integers(every))
    return [(first + place) % every for place in range(min(count, every))]


def _tuned(
    entry: BoardEntry, board: Board, places: Mapping[str, Any], setting: int, builder: CellBuilder
) -> list[Tuned]:
    """Every candidate on every tuning seed of a setting: what was chosen there follows from all of them."""
    scenario = board.scenario(entry.algorithm, places=places)
    if scenario.tuning is None:
        return []
    rule, cells = OutcomeRule.parse(board.terms.outcome), {cell.key: cell for cell in scenario.tuning.stage.cells}
    wanted = board.terms.settings[setting]
    choice = next(one for one in scenario.tuning.choices if board.setting(cells[one[0][0]].config) == wanted)
    return [
        Tuned(setting, candidate, seed, claimed, rule.accuracy(run_block(Block(1, (cells[key],)), builder=builder)[0]))
        for candidate, (tried, keys) in enumerate(zip(entry.settings[setting].tried, choice, strict=True))
        for seed, claimed, key in zip(board.terms.tuning_seeds, tried.accuracies, keys, strict=True)
    ]


def _unmet(entry: BoardEntry, board: Board) -> list[str]:
    """Attacks that the board has for the defence, as its code here names them, and that the entry has not met."""
    met = {canonical(one.config) for one in entry.attacks}
    return [str(one["kind"]) for one in attacks_of(board.scenario(entry.algorithm)) if canonical(one) not in met]


def _repeats(cell: CellSpec, *, moved: bool) -> bool:
    """Whether a run draws the same again: private ones have where data lie in their draws, or draw from the system."""
    return not (private(cell) and (moved or getattr(cell.settings.privacy, "noise_source", "") == "system"))


def _proven(entry: BoardEntry, record: RunRecord) -> bool:
    """Whether a run has, against every observer that the entry names, a bound that is no larger."""
    found = bounds(record.privacy)
    return all(
        any(
            (one.observer, one.relation) == (said.observer, said.relation)
            and one.epsilon <= said.epsilon
            and one.delta <= said.delta
            for one in found
        )
        for said in entry.privacy
    )


def _others(entry: BoardEntry, inputs: Mapping[str, str], device: str) -> dict[str, tuple[str, str]]:
    """What made the entry and is not the same here."""
    code = {what: value for what, value in inputs.items() if not what.startswith("data ")}
    then = {**entry.versions, **{what: entry.sources.get(what, "not there") for what in code}}
    now = {**versions(device), **code}
    gpus = {what: "none" for what in ("gpu",) if what in then or what in now}
    return {
        what: (one[:_SHOWN], now.get(what, "not there")[:_SHOWN])
        for what, one in {**gpus, **then}.items()
        if one != now.get(what)
    }


def _cell(
    entry: BoardEntry, board: Board, places: Mapping[str, Any], setting: int, attack: int | None, place: int
) -> CellSpec:
    """One run of the entry as a cell of the board, its tuned values set."""
    runs = entry.settings[setting]
    wanted = {"kind": "none"} if attack is None else entry.attacks[attack].config
    scenario = board.scenario(entry.algorithm, runs.chosen, places)
    for cell in scenario.cells:
        if (
            cell.seed == entry.seeds[place]
            and board.setting(cell.config) == board.terms.settings[setting]
            and canonical(cell.config["attack"]) == canonical(wanted)
        ):
            return cell
    raise InputError(
        f"the defence here is not made to meet {wanted.get('kind')!r:.120}, as the one of the entry was: its code is "
        "another one; get that of the entry"
    )
