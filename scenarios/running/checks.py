"""What can be wrong with a sweep is found before training, and said with the cell's place in the scenario."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import InputAttack
from autoflip_secure.models.uses import uses_of_weights
from autoflip_secure.runtime.memory import out_of_memory
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.config.loading import CellSpec
from autoflip_secure.scenarios.config.messages import choose_place, kind_of, mark_default
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.config.plugin_families import in_settings
from autoflip_secure.scenarios.config.settings import Settings
from autoflip_secure.scenarios.models.batchnorm_check import refuse_lone_samples
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import refuse_unproven
from autoflip_secure.scenarios.running.trials import rehearse, try_data, try_plugin
from autoflip_secure.training.augmenting import refuse as refuse_augmentation
from autoflip_secure.training.base import resolve_device

_OF_TRAINER = ("data", "model", "privacy", "training", "trainer", "device")  # what a trainer is chosen by


def check(blocks: Sequence[Block]) -> None:
    """Load every data set, deal every split, build every model and every cell once, without training.

    Raises:
        InputError: with the cell's place in the sweep, and what to change.
    """
    builder = CellBuilder()
    check_inputs(blocks, builder)
    check_cells(blocks, builder)


@one_thread()
def check_inputs(blocks: Iterable[Block], builder: CellBuilder) -> None:
    """What cells are made of: device, data, split, model, classes. For the conditions, all of it has to be there.

    Raises:
        InputError: as :func:`check`.
    """
    for spec in (spec for block in blocks for spec in block.cells):
        with _placed(spec, "device"):
            resolve_device(spec.settings.device)
        with _placed(spec, "data"):
            data = builder.dataset(spec.settings)
            try_data(builder, spec.settings)
        for path, plugin in in_settings(spec.settings):
            with _placed(spec, path.split(".")[0]):
                try_plugin(builder, path, plugin, spec)
        with _placed(spec, "training"):
            refuse_augmentation(spec.settings.training.augment, data.x_train, data.pixels)
        with _placed(spec, "partition", "clients", "data", "evaluation"):
            builder.split(spec.settings, spec.seed)
        with _placed(spec, "algorithm"):
            builder.owned(spec.settings, spec.seed)
        with _placed(spec, "model", "privacy"):
            builder.module(spec.settings, spec.seed)
        with _placed(spec, "model", "trainer", "device"):
            rehearse(builder, spec)
        with _placed(spec, "attack"):
            _check_classes(spec.settings, data.num_classes)
            _check_poisoned(spec.settings, data.x_train)


@one_thread()
def check_cells(blocks: Iterable[Block], builder: CellBuilder) -> None:
    """The cells themselves, under the conditions that they are to run under: what is proven, who trains, on what.

    Raises:
        InputError: as :func:`check`.
    """
    for block in blocks:
        for spec in block.cells:
            with _placed(spec, "privacy", "training", "clients", "algorithm", "secure_sum"):
                refuse_unproven(cell := builder.cell(spec, block.cells[0], torch.device("cpu")))
            with _placed(spec, "algorithm"):
                _check_units(cell)
                _check_costs(cell)
            with _placed(spec, "attack", "model"):
                _check_buffers(cell)
            with _placed(spec, "training", "partition", "clients", "model"):
                if reason := builder.needs_company(spec.settings, spec.seed):
                    refuse_lone_samples(cell, reason)
        first = block.cells[0]
        with _placed(first, "device", "trainer", "model"):
            builder.once("trainer", partial(builder.trainer, first), first.settings, _OF_TRAINER, first.seed)


@contextlib.contextmanager
def _placed(spec: CellSpec, *families: str) -> Iterator[None]:
    """Put the place of a finding before it: of the keys that the message names, else of the first of ``families``."""
    try:
        yield
    except (InputError, MemoryError, RuntimeError) as error:
        found = out_of_memory(error)
        if not isinstance(error, InputError) and found is None:
            raise
        text = str(error) if found is None else f"needs more memory than there is ({found}); make it smaller"
        for key in spec.defaults:
            text = mark_default(text, tuple(key.split(".")))
        own = [key for key in spec.places if key.split(".")[0] in families]
        named = [key for key in own if key not in families or key in ("clients", "device", "trainer")]
        named = [key for key in named if re.search(rf"\b{re.escape(key.split('.')[-1])}\b", text)]
        named.sort(key=lambda key: not text.startswith(f"{key} = "))  # what it is about comes first
        named = named or [key for key in own if key == families[0]]
        kinds = [
            place for family in families[:1] if (place := spec.places.get(f"{family}.kind", "")).startswith("--set")
        ]
        candidates = [spec.places[key] for key in named] + kinds
        place = f"{choose_place(candidates)}: " if candidates else ""
        at = ", ".join(f"{path} = {value!r}" for path, value in spec.axes.items())
        kind = type(error) if isinstance(error, InputError) else InputError
        raise kind(f"{place}{text}" + (f" (in the cell with {at})" if at else "")) from error


def _check_units(cell: Cell) -> None:
    """A pruner that removes whole units is given a model whose units are known."""
    pruner = cell.protocol.pruner
    if pruner.needs_units and cell.problem.units is None:
        raise UnsupportedModelError(
            f"algorithm.pruner.kind = {kind_of(type(pruner))!r} removes whole units, and those of this model are not "
            f"known: {cell.problem.units_reason}; use pruner kind 'threshold', or another model"
        )


def _check_costs(cell: Cell) -> None:
    """A pruner that counts multiply-adds is given a model whose operations are known."""
    pruner, problem = cell.protocol.pruner, cell.problem
    if not pruner.needs_costs:
        return
    try:
        uses_of_weights(problem.module, problem.layout, problem.x_train[:1])
    except UnsupportedModelError as error:
        kind = kind_of(type(pruner))
        way_out = "set algorithm.pruner.time: uniform" if "time" in type(pruner).model_fields else "use another pruner"
        raise UnsupportedModelError(
            f"algorithm.pruner.kind = {kind!r} counts the model's multiply-adds, and {error}; {way_out}"
        ) from error


def _check_buffers(cell: Cell) -> None:
    """An attack on running statistics is given a model that has some."""
    layout = cell.problem.layout
    for attack in cell.protocol.attack.parts:
        if {*attack.threat_card.means} == {"buffers"} and not bool((layout.sent & ~layout.trained).any()):
            raise InputError(
                f"attack.kind = {kind_of(type(attack))!r} changes running statistics, and this model has none; use a "
                "model with BatchNorm, or another attack"
            )


def _check_poisoned(settings: Settings, x: torch.Tensor) -> None:
    """An attack on inputs goes with inputs like these."""
    parts = settings.attack.parts
    for number, attack in enumerate(parts):
        fault = attack.fault(x) if isinstance(attack, InputAttack) and not attack.foreign else None
        if fault is not None:
            key, said = fault
            raise InputError(f"attack.{f'{number}.' if len(parts) > 1 else ''}{key} = {said}")


def _check_classes(settings: Settings, num_classes: int) -> None:
    """The classes that an attack names exist in the data."""
    parts = (one for one in settings.attack.parts if not one.foreign)  # the trial of a foreign one has seen its labels
    for value in (value for one in parts for value in one.named_classes):
        if not 0 <= value < num_classes:
            raise InputError(
                f"attack names class {value}, and the data has classes 0 to {num_classes - 1}; name one of them"
            )
