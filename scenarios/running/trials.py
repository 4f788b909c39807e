"""Code of users is tried before a folder is made: data are read twice, models rehearsed, plug-ins asked once."""

from __future__ import annotations

import contextlib

import torch

from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.interfaces import Channel, ChannelRequest, ClientPrivacy, Plugin, Pruner, RowAttack
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units
from autoflip_secure.scenarios.config.loading import CellSpec
from autoflip_secure.scenarios.config.settings import Settings
from autoflip_secure.scenarios.data.base import DataSource
from autoflip_secure.scenarios.models.chains import Model
from autoflip_secure.scenarios.models.rehearsal import rehearse_building, rehearse_evaluation
from autoflip_secure.scenarios.models.rehearsal_training import (
    Rehearsal,
    rehearse_passes,
    rehearse_sending,
    rehearse_training,
    rehearse_units,
)
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.plugin_trial import Stage, try_out
from autoflip_secure.terminal.visible import short


def try_data(builder: CellBuilder, settings: Settings) -> None:
    """Data that users' code makes are the same for every worker.

    Raises:
        DataError: they are not.
    """
    builder.once("data rehearsal", settings.data.rehearse, settings, ("data",))


def try_plugin(builder: CellBuilder, path: str, plugin: Plugin, spec: CellSpec) -> None:
    """Ask a plug-in from outside once for what a run asks of it; models and data are rehearsed instead.

    Args:
        builder: of the sweep.
        path: key of the plug-in in the scenario.
        plugin: of the cell.
        spec: the cell.

    Raises:
        InputError: it fails, or its answers cannot be used.
    """
    settings = spec.settings
    if not plugin.foreign or isinstance(plugin, Model | DataSource):
        return

    def make() -> bool:
        shared = builder.shared(spec, torch.device("cpu"))
        weights = shared["layout"].vector(builder.module(settings, spec.seed))
        numbers = (settings.clients, settings.cohort, settings.rounds)
        layout, units = shared["layout"], shared["units"]
        beside = _channels(settings, layout, units) if isinstance(plugin, RowAttack) else ()
        stage = Stage(builder.dataset(settings), layout, units, weights, *numbers, settings.secure_sum, beside)
        try_out(f"{path}.kind = {short(repr(plugin.model_dump()['kind']))}", plugin, stage)
        return True

    keys = (
        "data",
        "model",
        "clients",
        "cohort",
        "rounds",
        "secure_sum",
        *(["algorithm"] * isinstance(plugin, RowAttack)),
    )
    builder.once("plug-in", make, settings, keys, path, plugin.model_dump(mode="json"))


def _channels(settings: Settings, layout: Layout, units: Units | None) -> tuple[Channel, ...]:
    """What pruner and aggregator ask clients for in the first round in which they do.

    One from outside that cannot say it is refused in its own trial.
    """
    found: list[Channel] = []
    for source in (settings.algorithm.pruner, settings.algorithm.aggregator):
        first = 0 if isinstance(source, Pruner) and source.prepares else 1
        asked = (ChannelRequest(number, settings.rounds, layout, units) for number in range(first, settings.rounds + 1))
        with contextlib.suppress(Exception):
            found += next((wanted for one in asked if (wanted := source.wants(one))), ())
    return tuple(found)


def rehearse(builder: CellBuilder, spec: CellSpec) -> None:
    """Do once, on a few rows of the data, whatever a run does with a model of the user's own.

    Raises:
        UnsupportedModelError: something fails, or its numbers would depend on what ran before.
    """
    settings, seed = spec.settings, spec.seed
    if not settings.model.foreign:
        return
    mechanism = settings.privacy if settings.privacy.works_on_samples else None

    def make() -> bool:
        data, rows, module = builder.dataset(settings), builder.rows(settings), builder.module(settings, seed)
        private = mechanism.steps(0.0) if isinstance(mechanism, ClientPrivacy) else None
        play = Rehearsal(module, data, settings.training, private, fit)
        rehearse_evaluation(module, rows, data.num_classes)
        rehearse_passes(play)
        rehearse_sending(play)
        rehearse_building(lambda number: settings.model.build(rows, data.num_classes, number), rows, seed)
        rehearse_training(play, builder.trainer(spec))
        rehearse_units(play)
        return True

    how = (mechanism is not None, settings.privacy.replace_unsupported_layers)
    builder.once("rehearsal", make, settings, ("data", "model", "trainer", "device"), *how)
