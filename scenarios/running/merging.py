"""Results folders of one scenario -> one: the shards of a sweep, or what several machines ran of it.

Every folder says which plan it is of. Cells are taken from whichever folder has them; one that several have has to have
the same numbers in all. The attempts at a private cell are those of all ledgers, each once, so its record counts what
was released anywhere. Everything is looked at before anything is written, and the folders that are read stay as they
are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoflip_secure.errors import StoreError
from autoflip_secure.files.regular_files import gone
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.config.plan import plan as make_plan
from autoflip_secure.scenarios.running.attempts import with_attempts
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.store.checkpoints import models_file, read_metadata, trajectory_digest
from autoflip_secure.scenarios.store.devices import OneDevice
from autoflip_secure.scenarios.store.ledgers import (
    attempts_at,
    counted_attempts,
    ledger_file,
    refuse_without_ledger,
    united,
    write_attempts,
)
from autoflip_secure.scenarios.store.manifest import MORE_SEEDS, begun_cells, cell_files, read_manifest, scenario_file
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.results import name_foreign
from autoflip_secure.scenarios.store.store import Store
from autoflip_secure.scenarios.store.tuning import TUNING
from autoflip_secure.terminal.counting import count_of, some

_NAMED = 3
_ELSEWHERE = "give another folder with --into"


@dataclass(frozen=True)
class Merged:
    """What several folders came to."""

    folder: Path
    plan: Plan
    records: list[RunRecord]  # in the order of the plan
    new: int  # cells that the folder did not have

    @property
    def missing(self) -> int:
        """Cells of the plan that none of the folders has."""
        return len(self.plan.keys) - len(self.records)


@dataclass
class _Found:
    """What the folders of one stage hold together."""

    plan: Plan
    sources: Sequence[Path]
    cells: dict[str, tuple[RunRecord, Path]] = field(default_factory=dict)
    ledgers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    inputs: dict[str, tuple[str, Path]] = field(default_factory=dict)  # what was read -> its fingerprint, and where
    begun: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    device: OneDevice = field(default_factory=OneDevice)


def merge(folders: Sequence[Path], into: Path, note: Callable[[str], None]) -> Merged:
    """Put what ``folders`` hold into ``into``, a new folder or one of the same scenario.

    Args:
        folders: of sweeps, finished or not; at least one that is not ``into``.
        into: is made when absent.
        note: is told what was left out.

    Raises:
        StoreError: a folder is none of a sweep, or of another scenario; two have a cell with other numbers, or were
            made from other data, or on other kinds of devices where the scenario names none; a ledger is gone or a file
            damaged: then nothing was written. Or ``into`` cannot be.
        InputError: a cell was begun in several folders, and the data by which its guarantee is counted anew are gone.
    """
    sources = [folder for folder in dict.fromkeys(folders) if folder.resolve() != into.resolve()]
    if not sources:
        raise StoreError(f"{into}: is the only folder; name the folders of the shards, and another one with --into")
    everywhere = [*([into] if _holds_something(into) else []), *sources]
    looked = _look(everywhere)
    inside = [more for folder in everywhere if not gone((more := folder / MORE_SEEDS) / "scenario.yaml")]
    besides = _look(inside) if inside else None
    for found in (looked, besides):
        if found is not None and found.cells.foreign:
            note(name_foreign(sorted(found.cells.foreign)))
    records, new = _write_all(looked, into)
    if besides is not None:
        _write_all(besides, into / MORE_SEEDS)
    return Merged(into, looked.cells.plan, records, new)


def _holds_something(into: Path) -> bool:
    """Whether it is a results folder, whole or not: what is there is held against the rest, or refused."""
    return not gone(into / "scenario.yaml") or any(any(into.glob(f"{name}/*.json")) for name in ("cells", "ledger"))


@dataclass(frozen=True)
class _Looked:
    """What the folders hold together, of which nothing has been written yet."""

    cells: _Found
    stage: _Found | None  # in which settings are chosen


def _look(everywhere: Sequence[Path]) -> _Looked:
    """Read all folders, and hold them against each other."""
    plan, stage = _plan_of(everywhere), None
    if plan.tuning is not None:
        stage = _gather(plan.tuning.stage, [place for f in everywhere if (place := f / TUNING).is_dir()])
        if len(stage.cells) < len(stage.plan.keys):
            lacking = count_of(len(stage.plan.keys) - len(stage.cells), "cell")
            raise StoreError(
                f"{everywhere[0]}: {lacking} of the tuning stage in none of the folders; run one of the shards again, "
                "which completes it"
            )
        plan = plan.tuning.chosen([stage.cells[key][0] for key in stage.plan.keys])
    return _Looked(_gather(plan, everywhere), stage)


def _write_all(looked: _Looked, into: Path) -> tuple[list[RunRecord], int]:
    if looked.stage is not None:
        with Store(into, _ELSEWHERE):  # makes the folder, if nobody writes to it
            _write(looked.stage, into / TUNING)
    return _write(looked.cells, into)


def _plan_of(folders: Sequence[Path]) -> Plan:
    """The plan that all folders are of, before settings are chosen.

    Raises:
        StoreError: one is of another scenario; says what differs.
    """
    first, *others = [(folder, make_plan(load(_scenario_of(folder)))) for folder in folders]
    for folder, plan in others:
        if _blocks(plan) != _blocks(first[1]):
            raise StoreError(
                Store(first[0]).difference(plan, f"merge folders of one scenario; {folder} is of another one")
            )
    return first[1]


def _scenario_of(folder: Path) -> Path:
    cell_files(folder)  # says what is wrong with a folder that is none
    return scenario_file(folder)


def _blocks(plan: Plan) -> list[list[tuple[str, ...]]]:
    stages = [plan] if plan.tuning is None else [plan, plan.tuning.stage]
    return [[block.keys for block in stage.blocks] for stage in stages]


def _gather(plan: Plan, sources: Sequence[Path]) -> _Found:
    """Read one stage of every folder, and hold them against each other; nothing is written."""
    found = _Found(plan, sources)
    for folder in sources:
        files, manifest = cell_files(folder), read_manifest(folder)
        if manifest["blocks"] != plan.manifest()["blocks"]:
            raise StoreError(
                Store(folder).difference(plan, "it is of other cells than the rest, which it chose or reads otherwise")
            )
        found.begun |= (begun := begun_cells(manifest))
        found.foreign |= set(files) - set(plan.keys)
        for what, digest in manifest.get("inputs", {}).items():
            other, place = found.inputs.setdefault(what, (digest, folder))
            if other != digest:
                raise StoreError(
                    f"{folder}: was made from another {what} than {place} (sha256 {digest[:12]}, {other[:12]}); merge "
                    "what was made from the same"
                )
        for key in plan.keys:
            if (attempts := attempts_at(ledger_file(folder, key))) != []:
                found.ledgers[key] = united([found.ledgers.get(key, []), attempts])
            if key in files:
                record = _whole(files[key], folder)
                begun |= {key} if record.privacy is not None else set()
                _take(found, record, folder)
        refuse_without_ledger(folder, begun)
    return found


def _whole(file: Path, folder: Path) -> RunRecord:
    try:
        return read_record(file)
    except StoreError as error:
        raise StoreError(
            f"{error}; the same sweep with --out {folder} runs the cell again, or remove the file to merge without it"
        ) from error


def _take(found: _Found, record: RunRecord, folder: Path) -> None:
    """A cell, which has to be the one that another folder has, if one has it.

    Raises:
        StoreError: its numbers are others, or it was computed on another kind of device than the rest.
    """
    found.device.take([record], folder)
    known, place = found.cells.setdefault(record.cell, (record, folder))
    if _numbers(known) != _numbers(record):
        raise StoreError(
            f"{folder}: its cell {record.cell} has other numbers than in {place}; both are of one scenario, so they "
            "were made by other versions or processors, or with noise that is never the same. Remove one of the two "
            "files, and leave its ledger if it has one"
        )


def _numbers(record: RunRecord) -> dict[str, Any]:
    """Without what is counted anew."""
    return record.model_copy(update={"privacy": None}).numbers()


def _write(found: _Found, into: Path) -> tuple[list[RunRecord], int]:
    """Everything that was found, into one folder; the records, and how many it did not have."""
    new, builder = 0, CellBuilder()
    blocks = {key: block for block in found.plan.blocks for key in block.keys}
    with Store(into, _ELSEWHERE) as store:
        there = store.load(found.plan.keys)
        counted = {
            key: with_attempts(blocks[key], {key: counted_attempts(found.ledgers[key])}, builder, record)
            for key, (record, _) in found.cells.items()
            if record.privacy is not None and len(found.ledgers.get(key, [])) > record.privacy.attempts
        }
        store.claim(found.plan, {what: digest for what, (digest, _) in found.inputs.items()})
        with store.explained():
            for key, attempts in found.ledgers.items():
                write_attempts(ledger_file(into, key), attempts)
        if found.begun:
            store.note_begun(found.begun)
        for key, (record, folder) in found.cells.items():
            kept = counted.get(key, record)
            if there.get(key) != kept:
                store.save(kept)
            new += key not in there
            _bring_models(kept, found.sources, store)
            found.cells[key] = kept, folder
        store.log(f"merged: {some([*map(str, found.sources)], _NAMED)}: {count_of(len(found.cells), 'cell')}")
    return [found.cells[key][0] for key in found.plan.keys if key in found.cells], new


def _bring_models(record: RunRecord, sources: Sequence[Path], store: Store) -> None:
    """The models of a cell from whichever folder has them whole, unless they are there."""
    there = models_file(store.folder, record.cell)
    if gone(there) and not any((folder / there.parent.name).is_dir() for folder in sources):
        return
    if _models_of(record, there):
        return
    for source in (models_file(folder, record.cell) for folder in sources):
        if _models_of(record, source):
            with store.explained():
                there.parent.mkdir(exist_ok=True)
                aside = there.with_name(f".{there.name}.tmp")  # never half of a file under its name
                shutil.copyfile(source, aside)
                aside.replace(there)
            return


def _models_of(record: RunRecord, path: Path) -> bool:
    """Whether a file is there, undamaged, and of the run that the record is of."""
    try:
        return not gone(path) and read_metadata(path, record.cell)["run"] == trajectory_digest(record)
    except StoreError:
        return False
