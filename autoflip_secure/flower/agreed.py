"""What server and clients agree on before anything runs: a scenario, a seed, and what inputs look like.

Each side makes the same model of it, and a cell of the engine: the server's knows how many samples every client says
it has and no data; a client's has its own samples and nobody else's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.federation.cell import Cell, Problem, Protocol
from autoflip_secure.files.canonical_json import digest
from autoflip_secure.files.regular_files import current_folder
from autoflip_secure.flower.refusals import obstacle
from autoflip_secure.interfaces import NoAttack
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.models.units import Units
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.config.overrides import importable, load_changed
from autoflip_secure.scenarios.config.protocols import protocol
from autoflip_secure.scenarios.config.settings import content_hash
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.training import Trainer, choose_trainer
from autoflip_secure.version import __version__

_AGREED = {"clients", "cohort", "sampling", "rounds", "training", "exploration", "guidance", "algorithm", "model",
           "server_lr", "server_momentum"}  # fmt: skip
_BROUGHT = {"kind": "brought by the clients"}  # data and partition, in the record
_MOST_KEPT = 8  # federations that a process keeps the models of


@dataclass(frozen=True)
class Split:
    """The scenario's own data, split as its seed says."""

    x: Shaped[Tensor, "n ..."]
    y: Int[Tensor, " n"]
    parts: tuple[Int[Tensor, " _"], ...]  # rows of each client
    x_test: Shaped[Tensor, "m ..."]
    y_test: Int[Tensor, " m"]


@dataclass(frozen=True)
class Kit:
    """What is made once in a process of what was agreed on."""

    module: nn.Module  # a template, with the initial weights of the seed
    layout: Layout
    units: Units | None
    units_reason: str
    trainer: Trainer
    sample: Shaped[Tensor, "rows ..."]
    classes: int
    split: Split | None  # None: clients bring their data

    @cached_property
    def initial(self) -> Float[Tensor, " params"]:
        """The weights of ``module``."""
        return self.layout.vector(self.module)


_kits: dict[str, Kit] = {}
_builder = CellBuilder()


@dataclass(frozen=True)
class Federation:
    """One run of a scenario, for server and clients alike; make it with :meth:`of`."""

    spec: CellSpec
    sample: Shaped[Tensor, "rows ..."] | None = None  # None: inputs as the scenario's data have them
    classes: int | None = None

    @classmethod
    def of(
        cls,
        scenario: str | os.PathLike[str] | Mapping[str, Any],
        *,
        seed: int | None = None,
        sample: Shaped[Tensor, "rows ..."] | None = None,
        classes: int | None = None,
        **changes: Any,
    ) -> Federation:
        """The federation that a scenario describes.

        Args:
            scenario: a preset, a file, or what would stand in one, as for :func:`autoflip_secure.run`. It comes to one
                run: no axis of a sweep, no suite, no tuning.
            seed: of initial weights, cohorts and batches; None: the first of the scenario.
            sample: inputs as the clients have them, one or more rows; the clients bring their data, and ``data`` and
                ``partition`` of the scenario do not count. None: clients train on the scenario's own split.
            classes: how many there are; with ``sample``.
            changes: key of the scenario -> value, as for :func:`autoflip_secure.run`.

        Raises:
            InputError: the scenario is wrong, comes to several runs, or asks for what Flower cannot give.
        """
        if seed is not None and (type(seed) is not int or seed < 0):
            raise InputError(f"Federation.of(…, seed={seed!r}): give a whole number from 0, or leave it out")
        if (sample is None) != (classes is None) or (classes is not None and classes < 1):
            raise InputError(f"Federation.of(…, classes={classes}): give sample and classes >= 1 together, or neither")
        source = scenario if isinstance(scenario, Mapping) else os.fspath(scenario)
        with importable(current_folder()):
            loaded = load_changed(source, changes, "Federation.of")
        kinds = dict[str, CellSpec]()
        for one in loaded.cells:
            kinds.setdefault(digest(one.settings.model_dump(mode="json")), one)
        if len(kinds) != 1 or loaded.tuning is not None:
            raise InputError(
                f"Federation.of: the scenario comes to {len(kinds)} different runs, or is to be tuned first, and a "
                "federation is one run: give sweep=None, suite=None and tune=None, and the values of what they vary"
            )
        cell = next(iter(kinds.values()))
        if (refused := obstacle(protocol(cell.settings))) is not None:
            raise InputError(f"Federation.of: {refused}")
        if seed is not None:
            cell = replace(cell, seed=seed, key=content_hash(cell.settings.resolved(seed)))
        return cls(cell, sample, classes)

    @property
    def protocol(self) -> Protocol:
        """How it is run, malicious clients included, who are no business of the server's."""
        return protocol(self.spec.settings)

    @property
    def clients(self) -> int:
        """How many clients there are, numbered from 0."""
        return self.spec.settings.clients

    @property
    def rounds(self) -> int:
        """Rounds of training."""
        return self.spec.settings.rounds

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""
        return self.spec.seed

    @cached_property
    def digest(self) -> str:
        """Equal where server and client agree: on settings, seed, model and version of this package."""
        settings = self.spec.settings.model_dump(mode="json", include=_AGREED)
        shapes = [[one.name, list(one.shape), one.trained] for one in self.kit.layout]
        return digest([settings, self.seed, self.kit.classes, shapes, __version__])

    @property
    def kit(self) -> Kit:
        """Made when it is first asked for, once in a process.

        Raises:
            InputError: data, model or a combination of the two cannot be used; says what to do.
        """
        if (name := self._kit_name) not in _kits:
            if len(_kits) >= _MOST_KEPT:
                _kits.pop(next(iter(_kits)))
            _kits[name] = self._made()
        return _kits[name]

    @cached_property
    def _kit_name(self) -> str:
        inputs = None if self.sample is None else [list(self.sample.shape), str(self.sample.dtype), self.classes]
        return digest([self.spec.settings.model_dump(mode="json"), self.seed, inputs])

    def _made(self) -> Kit:
        settings, spec = self.spec.settings, self.spec
        if self.sample is None or self.classes is None:
            problem = _builder.cell(spec, spec, torch.device("cpu")).problem
            trainer = _builder.trainer(spec)
            shown = problem.x_train[:2]
            module, layout, units, reason = problem.module, problem.layout, problem.units, problem.units_reason
            split = Split(problem.x_train, problem.y_train, problem.clients, problem.x_test, problem.y_test)
            return Kit(module, layout, units, reason, trainer, shown, problem.num_classes, split)
        rows = torch.cat([self.sample, self.sample])[:8]
        module = settings.model.build(rows, self.classes, self.seed)
        layout, units, reason = Layout.of(module), None, "ok"
        try:
            units = find_units(module, rows[:1])
        except UnsupportedModelError as error:
            if settings.algorithm.pruner.needs_units:
                raise
            reason = str(error)
        precision = settings.training.precision
        trainer = choose_trainer(module, layout, rows, settings.trainer, settings.device, precision=precision)
        return Kit(module, layout, units, reason, trainer, rows[:2], self.classes, None)

    def rows_of(self, client: int) -> tuple[Shaped[Tensor, "n ..."], Int[Tensor, " n"]]:
        """What a client trains on where the scenario's own data are split.

        Raises:
            InputError: there are none, because clients bring their data.
        """
        if self.kit.split is None:
            raise InputError(
                "Federation.of(…, sample=…): clients bring their data; give client_app a function that loads them"
            )
        split = self.kit.split
        return split.x[split.parts[client]], split.y[split.parts[client]]

    def server_cell(
        self, samples: Mapping[int, int], initial: Float[Tensor, " params"], test: tuple[Tensor, Tensor] | None = None
    ) -> Cell:
        """The server's: ``samples`` per client as far as they are known, and nobody's data but what it tests on. Nobody
        is malicious: it could not know."""
        nothing = torch.zeros(1, dtype=torch.long)
        owned = tuple(nothing.expand(samples.get(client, 0)) for client in range(self.clients))
        honest = self.protocol.model_copy(update={"attack": NoAttack()})
        return self._cell(honest, self.kit.sample, nothing.expand(len(self.kit.sample)), owned, initial, test)

    def client_cell(self, client: int, x: Shaped[Tensor, "n ..."], y: Int[Tensor, " n"]) -> Cell:
        """A client's: its samples, and nobody else's. If the scenario says that it is malicious, it knows."""
        nobody = torch.zeros(0, dtype=torch.long)
        owned = tuple(torch.arange(len(y)) if k == client else nobody for k in range(self.clients))
        return self._cell(self.protocol, x, y, owned, self.kit.initial)

    def rows_like(self, x: Any, y: Any, whose: str) -> tuple[Shaped[Tensor, "n ..."], Int[Tensor, " n"]]:
        """Somebody's data as tensors of the model's kind.

        Raises:
            InputError: they do not fit the model; ``whose`` says whose they are.
        """
        like, classes = self.kit.sample, self.kit.classes
        x, y = torch.as_tensor(x).to(like.dtype), torch.as_tensor(y).long()
        if x.shape[1:] != like.shape[1:] or y.shape != x.shape[:1] or len(y) == 0:
            raise InputError(
                f"{whose} has inputs of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)}; expected one "
                f"sample or more: (n, {', '.join(map(str, like.shape[1:]))}) and (n,)"
            )
        if int(y.min()) < 0 or int(y.max()) >= classes:
            raise InputError(f"{whose} has labels from {int(y.min())} to {int(y.max())}; expected 0 to {classes - 1}")
        return x, y

    def _cell(
        self, how: Protocol, x: Tensor, y: Tensor, owned: tuple[Tensor, ...], initial: Tensor,
        test: tuple[Tensor, Tensor] | None = None,
    ) -> Cell:  # fmt: skip
        kit, spec, (x_test, y_test) = self.kit, self.spec, test or (x[:0], y[:0])
        problem = Problem(
            module=kit.module, layout=kit.layout, units=kit.units, units_reason=kit.units_reason, x_train=x, y_train=y,
            x_test=x_test, y_test=y_test, num_classes=kit.classes, clients=owned, initial=initial,
        )  # fmt: skip
        config = spec.config if self.sample is None else {**spec.config, "data": _BROUGHT, "partition": _BROUGHT}
        return Cell(spec.key, config, spec.axes, spec.settings.algorithm.name, self.seed, problem, how)
