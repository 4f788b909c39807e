"""A kept model of a cell, rebuilt from the configuration in its record and evaluated again; compacted on request."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoflip_secure.errors import InputError, StoreError, UnsupportedModelError
from autoflip_secure.federation.measures import versions
from autoflip_secure.files.regular_files import gone
from autoflip_secure.models.compaction import compact, same_outputs
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.records.configs import without
from autoflip_secure.records.run import RunRecord
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.config.settings import Settings, content_hash
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.store.checkpoints import (
    Checkpoint,
    Which,
    models_file,
    read_checkpoint,
    read_metadata,
    trajectory_digest,
)
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.manifest import read_manifest
from autoflip_secure.training import evaluate

TRIED = 256
"""Rows of the test set on which outputs are compared, at most."""


Units = Mapping[str, tuple[int, int]]
"""Of each layer of a compacted model: units (neurons or filters) that are left, and units before."""


@dataclass(frozen=True)
class ReloadedModel:
    """A model as it was kept, in evaluation mode, on the CPU."""

    which: Which
    checkpoint: Checkpoint
    module: nn.Module
    rows: Tensor  # of the test set, to try it on: (at most TRIED, *features)
    classes: int
    accuracy: float  # on the test set, in [0, 1], measured now
    parameters: int
    remarks: tuple[str, ...]  # what a person must know, a sentence each
    units: Units | None  # None: not compacted


@one_thread()
def reload_model(folder: Path, record: RunRecord, which: Which, *, compacted: bool = False) -> ReloadedModel:
    """The model of a cell that a sweep has kept; ``compacted``: without its dead units.

    Raises:
        StoreError: the model was not kept, is damaged, is of another run, or does not reach its accuracy although
            everything is as it was.
        InputError: data or model source cannot be read, or are others.
        UnsupportedModelError: it cannot be compacted; says why.
    """
    path = models_file(folder, record.cell)
    again = f"run `autoflip-secure sweep {folder / 'scenario.yaml'} --out {folder} --keep-models`"
    if gone(path):
        private = ", private ones if that releases nothing new" if record.privacy is not None else ""
        raise StoreError(
            f"{folder}: cell {record.cell} has no models; {again}: it runs finished cells again for them{private}"
        )
    try:
        metadata = read_metadata(path, record.cell)
    except StoreError as error:
        raise StoreError(f"{error}; {again} to have it made again") from error
    if metadata["run"] != trajectory_digest(record):
        raise StoreError(f"{path}: is of another run of this cell than its record; {again} to have it made again")
    settings, builder = _settings(record), CellBuilder()
    data, module = builder.dataset(settings), copy.deepcopy(builder.module(settings, record.seed))
    layout = Layout.of(module)
    shapes = {segment.name: list(segment.shape) for segment in layout}
    if shapes != metadata["shapes"]:
        differing = sorted(set(map(str, shapes.items())) ^ set(map(str, metadata["shapes"].items())))
        raise InputError(
            f"model ({json.dumps(record.config['model'])}): builds a different module from the one that was trained "
            f"({', '.join(differing[:3])}); put back the source that it was run with"
        )
    checkpoint = read_checkpoint(path, which, layout, metadata)
    device = torch.device(record.trainer.device if torch.cuda.is_available() else "cpu")
    measured, _ = evaluate(module, layout, checkpoint.weights[None], data.x_test.to(device), data.y_test.to(device))
    accuracy = float(measured)
    remarks = _compare_accuracy(folder, settings, record, checkpoint, accuracy, device)
    layout.load(module, checkpoint.weights)
    module.eval()
    rows, units = data.x_test[:TRIED], None
    if compacted:
        module, units = _compact(module, layout, checkpoint, which, rows)
    size = sum(parameter.numel() for parameter in module.parameters())
    return ReloadedModel(which, checkpoint, module, rows, data.num_classes, accuracy, size, remarks, units)


def _settings(record: RunRecord) -> Settings:
    try:
        settings = Settings.model_validate(without(record.config, "seed"))
        same = content_hash(settings.resolved(record.seed)) == record.cell
    except ValidationError:
        same = False
    if not same:
        made_by = record.versions.get("autoflip-secure", "?")
        raise InputError(
            f"cell {record.cell}: this version reads its configuration differently; export it with the version that "
            f"ran it, {made_by}"
        )
    return settings


def _compare_accuracy(
    folder: Path, settings: Settings, record: RunRecord, checkpoint: Checkpoint, accuracy: float, device: torch.device
) -> tuple[str, ...]:
    """Nothing where the accuracy is the record's and all inputs are as they were, else sentences that say why not.

    Raises:
        StoreError: it is another, and nothing that it may depend on has changed, or the data or the source have.
    """
    measured = {entry.round: entry.global_accuracy for entry in record.rounds}
    recorded = measured.get(checkpoint.round)  # none of the initial model: records begin with round 1
    recorded = checkpoint.accuracy if recorded is None else recorded
    changed = _changed_inputs(folder, settings)
    if accuracy == recorded == checkpoint.accuracy:
        return tuple(f"{what} is not what the cell was run with; the accuracy is the same" for what in changed)
    differ = f"cell {record.cell}: its model has accuracy {accuracy:.4f} here, and {recorded:.4f} in the record"
    if changed:
        raise StoreError(f"{differ}, because {changed[0]} is not what the cell was run with; put it back")
    now = {**versions(str(device), mixed=settings.training.precision != "float32"), "device": str(device)}
    before: Mapping[str, Any] = {**record.versions, "device": record.trainer.device}
    others = [f"{name} {before.get(name, '?')} there, {value} here" for name, value in now.items()
              if before.get(name) != value]  # fmt: skip
    if others:
        return (f"{differ}: computed by other software or another processor ({'; '.join(others)})",)
    if record.trainer.bits == "block":
        return (f"{differ}: last bits of this model depend on the models it is evaluated with (trainer.bits: block)",)
    raise StoreError(
        f"{differ}, although software, processor and data are the same; does its forward pass depend on anything else?"
    )


def _changed_inputs(folder: Path, settings: Settings) -> list[str]:
    """Data or model source that are not as they were; none where the manifest cannot say."""
    try:
        before = read_manifest(folder).get("inputs", {})
    except StoreError:
        return []
    return [what for what, now in input_digests([settings]).items() if before.get(what, now) != now]


def _compact(
    module: nn.Module, layout: Layout, checkpoint: Checkpoint, which: Which, rows: Tensor
) -> tuple[nn.Module, Units]:
    """The smaller module and its units; outputs on ``rows`` stay as they are.

    Raises:
        UnsupportedModelError: that cannot be done; says why.
    """
    whole = "leave --compact out to export the whole model"
    if which == "initial":
        raise UnsupportedModelError(f"--compact: the initial model is not pruned; {whole}")
    try:
        units = find_units(module, rows[:1])
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"--compact: the units of this model are not known: {error}; {whole}") from error
    try:
        smaller = compact(module, units, layout, checkpoint.weights, checkpoint.mask).eval()
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"--compact: {error}; {whole}") from error
    with torch.no_grad():
        wanted, given = module(rows), smaller(rows)
    if not same_outputs(given, wanted):
        raise UnsupportedModelError(
            "--compact: without its dead units the model gives different outputs, because a dead unit outputs a "
            f"constant that later layers read; {whole}"
        )
    counts = [int(alive.sum()) for alive in units.live_units(checkpoint.mask, layout)]
    return smaller, {group.name: (count, group.units) for group, count in zip(units.groups, counts, strict=True)}
