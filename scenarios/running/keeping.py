"""``--keep-models`` in a sweep: which cells leave their models, and what has to be said or refused before and after."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from autoflip_secure.errors import StoreError
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.loading import CellSpec
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.store.checkpoints import BYTES_PER_PARAMETER, ModelsToKeep, trajectory_digest
from autoflip_secure.scenarios.store.ledgers import ledger_file, private, released
from autoflip_secure.terminal.counting import count_of
from autoflip_secure.training import ARITHMETIC

LARGE = 2**30
"""Bytes of models above which a sweep says beforehand how much space they take."""


def announcements(todo: Sequence[Block], folder: Path, without_models: Collection[str]) -> Iterator[str]:
    """Sentences about what is run and written for the sake of models: cells ``without_models`` are run again."""
    if without_models:
        have, runs = ("cell has", "is") if len(without_models) == 1 else ("cells have", "are")
        yield (
            f"{len(without_models)} finished {have} no models here and {runs} run again for them; "
            "finished records stay as they are"
        )
    size = BYTES_PER_PARAMETER * sum(len(block.cells) * _parameters(block) for block in todo)
    if size >= LARGE:
        free = shutil.disk_usage(folder).free
        cells = count_of(sum(len(block.cells) for block in todo), "cell")
        yield (
            f"the models of {cells} take about {size / 2**30:.1f} GiB in {folder / 'models'}, where "
            f"{free / 2**30:.1f} GiB are free"
        )


def not_kept(todo: Sequence[Block], folder: Path) -> Iterator[str]:
    """A sentence where models of earlier cells are there, and those about to run leave none."""
    if todo and any((folder / "models").glob("*.safetensors")):
        yield (
            f"{folder / 'models'} has models of earlier cells; the cells of this run leave none: give --keep-models "
            "again to keep theirs too"
        )


def _parameters(block: Block) -> int:
    """Numbers in the model of a cell, frozen ones and running statistics included."""
    first = block.cells[0]
    return Layout.of(CellBuilder().module(first.settings, first.seed)).size


def refuse_other_releases(folder: Path, cells: Iterable[CellSpec]) -> None:
    """Finished private cells run again, as conditions are now, only where that repeats their releases bit for bit.

    Raises:
        StoreError: a cell would release something new.
    """
    for spec in filter(private, cells):
        privacy = spec.settings.privacy
        assert isinstance(privacy, ClientPrivacy)
        if privacy.noise_source != "system" and spec.conditions in released(ledger_file(folder, spec.key)):
            continue
        why = (
            "its noise is new in every run (noise_source: system)"
            if privacy.noise_source == "system"
            else "it was run under other conditions (software, processor, data or source of the model)"
        )
        raise StoreError(
            f"--keep-models: cell {spec.key} is finished, has no models, and cannot be run again for them without a "
            f"further release of private data, because {why}; leave --keep-models out, or give another folder with "
            "--out and count both (autoflip-secure budget)"
        )


def models_to_keep(
    folder: Path, keys: Iterable[str], records: Mapping[str, RunRecord], without_models: Collection[str]
) -> ModelsToKeep:
    """Cells without a record leave their models, and those ``without_models`` if they repeat their records."""
    trajectories = {key: trajectory_digest(records[key]) if key in records else None for key in keys}
    asked = {key: digest for key, digest in trajectories.items() if digest is None or key in without_models}
    return ModelsToKeep(folder.absolute(), asked)


def differences(again: Iterable[RunRecord], records: Mapping[str, RunRecord]) -> Iterator[str]:
    """A sentence for each cell that was run again for its models and did not take the steps of its record."""
    for record in again:
        before = records[record.cell]
        if trajectory_digest(record) == trajectory_digest(before):
            continue
        changed = ", ".join(
            f"{name} {before.versions.get(name, '?')} -> {now}"
            for name, now in record.versions.items()
            if before.versions.get(name) != now
        )
        why = f" ({changed})" if changed else ""
        yield (
            f"cell {record.cell}: run again, it gave different numbers from its record{why}, so its models were not "
            "kept; run the sweep in another folder with --out to have both"
        )


def trained_otherwise(records: Iterable[RunRecord], to_do: int) -> str | None:
    """A sentence where cells that are there were trained by an earlier arithmetic and others are to follow."""
    before = {record.versions.get("training", "1") for record in records} if to_do else set()
    if before <= {ARITHMETIC}:
        return None
    return (
        f"finished cells were trained by another arithmetic ({', '.join(sorted(before - {ARITHMETIC}))}, now "
        f"{ARITHMETIC}): models with convolutions differ in their last bits; to have all cells of one kind, run the "
        "sweep in another folder with --out"
    )
