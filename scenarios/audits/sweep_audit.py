"""The audits of a scenario: one per cell of its first seed, kept one by one.

.. code-block:: text

    runs/<name>/          may be the folder of a sweep
      audits/<hash>.json   one AuditRecord each; what is there and fits is not attacked again
      audit.html           the page
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic, time

import torch
from pydantic import ValidationError

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.federation.measures import versions
from autoflip_secure.files.durable import unwritable, write_whole
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.records.audit import AuditRecord
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.audits.cell_audit import audit, span
from autoflip_secure.scenarios.audits.view import Effort
from autoflip_secure.scenarios.config.loading import CellSpec
from autoflip_secure.scenarios.config.personal import not_audited
from autoflip_secure.scenarios.config.plan import Block, Plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.checks import check_cells, check_inputs
from autoflip_secure.scenarios.store.fingerprints import input_digests, read_by
from autoflip_secure.scenarios.store.ledgers import under_conditions
from autoflip_secure.scenarios.store.tuning import stage_records
from autoflip_secure.terminal.counting import count_of
from autoflip_secure.training.base import resolve_device

_ABANDONED = 3600.0  # seconds
Tell = Callable[[str], None]
_ELSEWHERE = "give another folder with --out"


def chosen_in(folder: Path, work: Plan) -> Plan:
    """``work`` with the settings that the sweep in ``folder`` has chosen, where it tunes any.

    Raises:
        InputError: its tuning stage is not finished there.
    """
    if work.tuning is None:
        return work
    try:
        return work.tuning.chosen(stage_records(folder, work.tuning.stage.keys))
    except StoreError as error:
        raise InputError(
            f"tune: which settings to audit has not been chosen in {folder} yet; run the sweep there first, or leave "
            "the tuning out with --set tune=null"
        ) from error


def audited_cells(work: Plan, blocks: Iterable[Block]) -> list[tuple[Block, CellSpec]]:
    """The cells of ``blocks`` that an audit attacks: all settings, each at the scenario's first seed."""
    first = work.cells[0].seed
    return [(block, spec) for block in blocks for spec in block.cells if spec.seed == first]


@one_thread()
def audit_scenario(work: Plan, folder: Path, tell: Tell, effort: Effort | None = None) -> list[AuditRecord]:
    """Audit every setting of a scenario in ``folder``, which is made when absent; audits that it has are read.

    Raises:
        InputError: a cell cannot be run or audited.
        StoreError: the folder cannot be written.
    """
    effort = effort or Effort()
    work = chosen_in(folder, work)
    builder = CellBuilder()
    check_inputs(work.blocks, builder)
    inputs = input_digests((spec.settings for spec in work.cells), builder.data)
    blocks = under_conditions(work.blocks, inputs)
    check_cells(blocks, builder)
    chosen = audited_cells(work, blocks)
    _refuse_own_masks(chosen)
    kept = folder / "audits"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        for left_over in kept.glob(".*.tmp"):  # of a killed audit; another one may be writing its own now
            if time() - left_over.stat().st_mtime > _ABANDONED:
                left_over.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {unwritable(error, _ELSEWHERE)}") from error
    found = []
    reads = {spec.key: {what: inputs[what] for what in read_by(spec.settings)} for _, spec in chosen}
    devices = {spec.key: str(resolve_device(spec.settings.device)) for _, spec in chosen}
    known = {key: _finished(kept / f"{key}.json", effort, own, devices[key]) for key, own in reads.items()}
    missing = sum(record is None for record in known.values())
    tell(f"{count_of(len(chosen), 'setting')}, {missing} to attack; every finished one is kept")
    begun, made = monotonic(), 0
    for number, (block, spec) in enumerate(chosen, start=1):
        place = f"{number}/{len(chosen)} {spec.settings.algorithm.name}"
        place += "".join(f", {path} = {_short(value)}" for path, value in spec.axes.items() if path != "algorithm")
        record = known[spec.key]
        if record is None:
            trainer = builder.trainer(block.cells[0])
            cell = builder.cell(spec, block.cells[0], torch.device(trainer.device))
            record = audit(cell, trainer, work.name, effort, lambda text, at=place: tell(f"{at}: {text}"))  # type: ignore[misc]
            record = record.model_copy(update={"inputs": reads[spec.key]})
            try:
                write_whole(kept / f"{spec.key}.json", record.model_dump_json(indent=1))
            except OSError as error:
                again = "finished audits are kept, run the same command again to continue"
                raise StoreError(f"{folder}: {unwritable(error, _ELSEWHERE)}; {again}") from error
            made += 1
            if missing > made:
                tell(f"{place}: finished; about {span((monotonic() - begun) / made * (missing - made))} left")
        else:
            tell(f"{place}: from before")
        found.append(record)
    return found


def _refuse_own_masks(chosen: Iterable[tuple[Block, CellSpec]]) -> None:
    for _, spec in chosen:
        if reason := not_audited(spec.settings.algorithm.pruner):
            raise InputError(f"algorithm = {spec.settings.algorithm.name}: is not audited: {reason}")


def finished_audits(folder: Path, cells: Sequence[str]) -> list[AuditRecord]:
    """The audits in a results folder that belong to ``cells`` and can be read, in the order of the cells."""
    found = [_read(folder / "audits" / f"{cell}.json") for cell in cells]
    return [record for record in found if record is not None]


def unreadable_audits(folder: Path) -> list[str]:
    """One sentence for each audit in a results folder that is there and cannot be read."""
    return [
        f"Left out: audits/{path.name} is damaged or of another version; the next audit in this folder makes it again."
        for path in sorted((folder / "audits").glob("*.json"))
        if _read(path) is None
    ]


def _short(value: object) -> str:
    """A setting on one line: a dictionary by its kind, then its other settings by name."""
    named = value if isinstance(value, dict) else {"kind": value}
    text = ", ".join(str(one) if key == "kind" else f"{key} {one}" for key, one in named.items())
    return text if len(text) <= 60 else text[:59] + "…"


def _read(path: Path) -> AuditRecord | None:
    try:
        return AuditRecord.model_validate_json(read_regular(path))
    except (OSError, ValidationError):
        return None


def _finished(path: Path, effort: Effort, inputs: Mapping[str, str], device: str) -> AuditRecord | None:
    """A whole audit of this cell by this software on this device with this effort, of these data and this model."""
    record = _read(path)
    return (
        record
        if record and (record.versions, record.effort, record.inputs) == (versions(device), asdict(effort), inputs)
        else None
    )
