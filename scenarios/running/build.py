"""Cells as data -> cells that can run: load, split, build. What can be wrong is found before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from autoflip_secure.defenses.privacy.module_checks import check as check_module
from autoflip_secure.defenses.privacy.module_checks import check_separate, fixed
from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.federation.cell import Cell, Problem
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.explored_before import ExploredBefore
from autoflip_secure.federation.personal import tested_on
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.records.privacy import PrivacyRecord, Release
from autoflip_secure.records.run import RoundRecord, RunRecord, TrainerChoice
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.scenarios.config.loading import CellSpec
from autoflip_secure.scenarios.config.plan import Block, problem_key
from autoflip_secure.scenarios.config.protocols import protocol
from autoflip_secure.scenarios.config.settings import Settings, content_hash
from autoflip_secure.scenarios.config.sizes import refuse_huge
from autoflip_secure.scenarios.data.datasets import Dataset
from autoflip_secure.scenarios.data.held_out import Rows, hold_out
from autoflip_secure.scenarios.data.root_set import take_root
from autoflip_secure.scenarios.models.batchnorm_check import needs_company
from autoflip_secure.scenarios.models.rehearsal import trial_rows
from autoflip_secure.scenarios.models.trial import copied
from autoflip_secure.scenarios.running.channel_checks import refuse_channels
from autoflip_secure.scenarios.running.parties import PartyPool, connecting
from autoflip_secure.scenarios.running.privacy_planning import ledger, ledger_of_attempts, planned, with_noise
from autoflip_secure.scenarios.running.scored_checks import refuse_unscored
from autoflip_secure.scenarios.store.checkpoints import Checkpoints, ModelsToKeep
from autoflip_secure.scenarios.store.ledgers import Attempts, private
from autoflip_secure.seeds import Purpose, numpy_generator
from autoflip_secure.training import Trainer, choose_trainer

_OF_SPLIT = ("data", "partition", "clients", "evaluation", "held_out")
_OF_DATA = ("data", "inputs", "rows", "split", "clients")  # what no run can change


class CellBuilder:
    """Builds cells; what several of them share is made once, and a cell too.

    One serves a whole sweep: its check, its estimates, its ledgers and, in this process, its blocks.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Any] = {}
        self._cells: dict[tuple[str, ...], Cell] = {}
        self._noise: dict[tuple[str, str], tuple[float, ...]] = {}
        self._explored = ExploredBefore()

    def for_a_block(self) -> CellBuilder:
        """A builder that knows data, splits, noise and explorers from here, and makes modules of its own.

        A module of the user's may remember who passed through it, so what a block runs on has seen no other block.
        """
        other = CellBuilder()
        other._made = {key: made for key, made in self._made.items() if key[0] in _OF_DATA}
        other._noise, other._explored = self._noise, self._explored
        return other

    def forget(self) -> None:
        """Let go of all but the noise that was found: of what takes memory while others run the blocks."""
        self._made.clear()
        self._cells.clear()

    def data(self, settings: Settings) -> Dataset:
        """The data as their source gives them, on the CPU."""
        data: Dataset = self.once("data", settings.data.load, settings, ("data",))
        return data

    def dataset(self, settings: Settings) -> Dataset:
        """The data, on the CPU; whole numbers as the model takes them."""

        def make() -> Dataset:
            data = self.data(settings)
            if data.x_train.is_floating_point():
                return data
            whole = settings.model.takes_whole_numbers(trial_rows(data), data.num_classes, 0)
            return data if whole else data.as_numbers()

        found: Dataset = self.once("inputs", make, settings, ("data", "model"))
        return found

    def rows(self, settings: Settings) -> torch.Tensor:
        """What a model of these data is tried on."""
        rows: torch.Tensor = self.once("rows", lambda: trial_rows(self.dataset(settings)), settings, ("data", "model"))
        return rows

    def split(self, settings: Settings, seed: int) -> tuple[Rows, Rows]:
        """Rows of the training set per client: what it trains on, and with personal evaluation what it is tested on."""

        def make() -> tuple[Rows, Rows]:
            data = self.dataset(settings)
            rng = numpy_generator(seed, Purpose.PARTITION)
            own = settings.partition.split(data.y_train, settings.clients, data.num_classes, data.groups, rng)
            return hold_out(own, settings.held_out, seed) if settings.evaluation == "personal" else (own, ())

        rows: tuple[Rows, Rows] = self.once("split", make, settings, _OF_SPLIT, seed)
        return rows

    def owned(self, settings: Settings, seed: int) -> tuple[Rows, Rows, torch.Tensor | None]:
        """The same, and the server's root set where its aggregator needs one: it is taken out of what clients train on.

        Raises:
            InputError: there are not so many rows.
        """
        trained, held_out = self.split(settings, seed)
        if (count := settings.algorithm.aggregator.clean_samples) == 0:
            return trained, held_out, None

        def make() -> tuple[Rows, torch.Tensor]:
            return take_root(trained, held_out, len(self.dataset(settings).y_train), count, seed)

        kept, root = self.once("root", make, settings, (*_OF_SPLIT, "model"), seed, count)
        return kept, held_out, root

    def module(self, settings: Settings, seed: int) -> nn.Module:
        """The model with the initial weights of ``seed``."""

        def make() -> nn.Module:
            data = self.dataset(settings)
            refuse_huge(settings.model, data.input_shape, data.num_classes)
            module = settings.model.build(self.rows(settings), data.num_classes, seed)
            if isinstance(settings.privacy, ClientPrivacy):
                per_sample = settings.privacy.works_on_samples
                if settings.privacy.replace_unsupported_layers:
                    module = fixed(module)
                check_module(module, per_sample=per_sample)
                if per_sample:
                    check_separate(module, data.x_train[:3])
            return module

        private, repaired = settings.privacy.unit, settings.privacy.replace_unsupported_layers
        module: nn.Module = self.once("module", make, settings, ("data", "model"), seed, private, repaired)
        return module

    def needs_company(self, settings: Settings, seed: int) -> str | None:
        """Why the model cannot train on one sample (BatchNorm); None when it can."""
        rows, module = self.dataset(settings).x_train[:2], self.module(settings, seed)
        found: str | None = self.once(
            "company", lambda: needs_company(module, rows), settings, ("data", "model", "privacy")
        )
        return found

    def trainer(self, cell: CellSpec) -> Trainer:
        """The trainer of a block, chosen by its first cell."""
        settings, module = cell.settings, self.module(cell.settings, cell.seed)
        sample, precision = self.dataset(settings).x_train[: settings.training.batch_size], settings.training.precision
        layout = Layout.of(module)
        chosen = choose_trainer(module, layout, sample, settings.trainer, settings.device, fit, precision)
        chosen.pixels = self.dataset(settings).pixels
        return chosen

    def cell(self, spec: CellSpec, template: CellSpec, device: torch.device) -> Cell:
        """``spec`` as the federation wants it; all cells of a block share the module of ``template``.

        It is built once. Its noise, where that is to be found, is found once too: under other conditions anew only at
        client level, where cohorts are drawn under the conditions.
        """
        secret = spec.conditions if spec.settings.privacy.works_on_updates else ""
        place = (spec.key, secret, template.key, str(device))
        if place not in self._cells:
            bare = self._bare(spec, template, device)
            refuse_channels(bare)
            refuse_unscored(bare)
            built = with_noise(bare, self._noise.get((spec.key, secret)))
            self._noise[spec.key, secret] = built.noise_multipliers
            self._cells[place] = built
        cell = self._cells[place]
        return cell if cell.conditions == spec.conditions else replace(cell, conditions=spec.conditions)

    def _bare(self, spec: CellSpec, template: CellSpec, device: torch.device) -> Cell:
        """The cell before its noise is known."""
        settings, seed, where = spec.settings, spec.seed, str(device)
        assert problem_key(spec) == problem_key(template), "cells of a block have one problem"
        shared = self.shared(template, device)

        def clients() -> tuple[tuple[Rows, Rows], torch.Tensor | None]:
            trained, held_out, root = self.owned(settings, seed)
            own, held = (tuple(rows.to(device) for rows in part) for part in (trained, held_out))
            return (own, held), None if root is None else root.to(device)

        def initial() -> torch.Tensor:
            vector: torch.Tensor = shared["layout"].vector(self.module(settings, seed))
            return vector.to(device)

        count = settings.algorithm.aggregator.clean_samples
        (trained, held_out), root = self.once(
            "clients", clients, settings, (*_OF_SPLIT, "model"), seed, where, *([count] if count else [])
        )
        problem = Problem(
            **shared,
            clients=trained,
            held_out=held_out,
            root=root,
            initial=self.once("initial", initial, settings, ("data", "model", "privacy"), seed, template.seed, where),
        )
        names = (spec.key, spec.config, spec.axes, settings.algorithm.name, seed)
        return Cell(*names, problem, protocol(settings), conditions=spec.conditions)

    def shared(self, template: CellSpec, device: torch.device) -> dict[str, Any]:
        """What all cells of the block of ``template`` share: module, layout, units and data."""

        def make() -> dict[str, Any]:
            data, module = self.dataset(template.settings), self.module(template.settings, template.seed)
            units, reason = None, "ok"
            try:
                units = find_units(module, data.x_train[:1])
            except UnsupportedModelError as error:
                reason = str(error)
            return {
                "module": module if device.type == "cpu" else copied(module).to(device),
                "layout": Layout.of(module),
                "units": units,
                "units_reason": reason,
                "x_train": data.x_train.to(device),
                "y_train": data.y_train.to(device),
                "x_test": data.x_test.to(device),
                "y_test": data.y_test.to(device),
                "num_classes": data.num_classes,
                "explored": self._explored,
                "recipe": content_hash(template.settings.model_dump(mode="json", include={"data", "model", "privacy"})),
            }

        return self.once("shared", make, template.settings, ("data", "model", "privacy"), template.seed, str(device))  # type: ignore[no-any-return]

    def once(self, what: str, make: Callable[[], Any], settings: Settings, keys: tuple[str, ...], *more: Any) -> Any:
        """What ``make`` gives, made once for all settings that are equal in ``keys``, and for equal ``more``."""
        parts = settings.model_dump(mode="json", include=set(keys))
        key = what, content_hash({"parts": parts, "more": list(more)})
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@one_thread()
def run_block(
    block: Block,
    progress: Callable[[int, int], None] | None = None,
    pool: PartyPool | None = None,
    builder: CellBuilder | None = None,
    models: ModelsToKeep | None = None,
    heard: Callable[[str, RoundRecord], None] | None = None,
    started: Callable[[TrainerChoice], None] | None = None,
) -> list[RunRecord]:
    """Build and run one block, in one thread.

    Args:
        progress: called after every round with (rounds done, rounds in all).
        builder: knows data, splits and noise already.
        models: which cells leave their models, which are written before the records are returned.
        heard: called with the key of a cell and what its record says of a round, as soon as the round is over.
        started: called with how it is trained, before anything is released.
    """
    builder, checkpoints = (builder or CellBuilder()).for_a_block(), None if models is None else Checkpoints()
    trainer = builder.trainer(block.cells[0])
    device = torch.device(trainer.device)
    cells = [builder.cell(spec, block.cells[0], device) for spec in block.cells]
    with connecting(pool or {}) as connect:
        told = None if heard is None else lambda cell, entry: heard(cell.key, entry)
        records = run_cells(cells, trainer, progress, checkpoints, connect, told, started)
    if models is not None and checkpoints is not None:
        for cell, record in zip(cells, records, strict=True):
            models.save(cell, record, checkpoints)
    data = builder.dataset(block.cells[0].settings).record
    return [
        r.model_copy(update={"privacy": ledger(c), "data": tested_on(data, c)})
        for r, c in zip(records, cells, strict=True)
    ]


def planned_releases(blocks: Iterable[Block], builder: CellBuilder) -> Iterator[tuple[CellSpec, list[Release]]]:
    """What every private cell of ``blocks`` is about to release, to the server and to the public."""
    for block in blocks:
        for spec in filter(private, block.cells):
            yield spec, planned(builder.cell(spec, block.cells[0], torch.device("cpu")))


def recounted(block: Block, key: str, tried: Attempts, builder: CellBuilder) -> PrivacyRecord | None:
    """The ledger of a cell that was begun more than once: of all that it released under different conditions."""
    spec = next(spec for spec in block.cells if spec.key == key)
    cells = [
        builder.cell(replace(spec, conditions=conditions), block.cells[0], torch.device("cpu"))
        for conditions in tried.conditions
    ]
    return ledger_of_attempts(cells, tried.attempts, [tried.planned.get(conditions) for conditions in tried.conditions])
