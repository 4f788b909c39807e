"""A small cohort whose rows are drawn around one direction, and what a server sees of it when somebody attacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.attack_trial import defence_of
from autoflip_secure.federation.attacking import Attacked, AttackMemory, attack_updates
from autoflip_secure.federation.attacking import Defence as Knows
from autoflip_secure.federation.cell import Cell, Problem, Protocol
from autoflip_secure.federation.channels import Measured
from autoflip_secure.federation.server import begin
from autoflip_secure.interfaces import Attack, AttackView, SeveralAttacks
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.none import NoPruning

CLIENTS = 10
MALICIOUS = (2, 5, 7)


@lru_cache(maxsize=1)
def problem() -> Problem:
    """A network with running statistics; ten clients of four samples."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
        x = torch.randn(40, 6)
    layout, y = Layout.of(module), torch.arange(40) % 3
    clients = tuple(torch.arange(4 * k, 4 * k + 4) for k in range(CLIENTS))
    return Problem(module, layout, None, "test", x, y, x, y, 3, clients, layout.vector(module))


def cell(attack: Attack | SeveralAttacks, **protocol: Any) -> Cell:
    """Everybody takes part; the server takes the mean unless ``protocol`` says another."""
    settings: dict[str, Any] = {"cohort": CLIENTS, "pruner": NoPruning(), "aggregator": Mean()} | protocol
    return Cell("x", {"name": "x"}, {}, "x", 0, problem(), Protocol(attack=attack, **settings))


def rows(clients: int = CLIENTS, seed: int = 1) -> Tensor:
    """Honest updates: a common direction with a part along the weights, and as much noise; buffers move too."""
    draws = torch.Generator().manual_seed(seed)
    size = problem().layout.size
    common = torch.randn(size, generator=draws) + 0.5 * problem().initial
    return 0.1 * common + 0.1 * torch.randn(clients, size, generator=draws)


@dataclass(frozen=True)
class Round:
    """One round under attack."""

    cell: Cell
    trained: Tensor  # as honest training left them
    attacked: Attacked
    mask: Tensor
    knows: Any  # what somebody knows who knows the defence

    @property
    def sent(self) -> Tensor:
        """Rows as the server gets them."""
        return self.attacked.rows

    @property
    def active(self) -> Tensor:
        """Coordinates that an attack on updates may change."""
        return self.mask & problem().layout.trained

    @property
    def honest(self) -> Tensor:
        """H on active coordinates."""
        here = ~self.cell.malicious_clients[: len(self.trained)]
        return torch.where(self.active, self.trained[here], 0.0)

    @property
    def lies(self) -> Tensor:
        """Rows of malicious clients on active coordinates."""
        here = self.cell.malicious_clients[: len(self.trained)]
        return torch.where(self.active, self.sent[here], 0.0)

    @property
    def step(self) -> Tensor:
        """The plain mean on active coordinates."""
        return torch.where(self.active, self.sent.mean(0), 0.0)


def attacked(
    attack: Any, number: int = 1, trained: Tensor | None = None, mask: Tensor | None = None,
    memory: AttackMemory | None = None, **protocol: Any,
) -> Round:  # fmt: skip
    """One round of the cohort; round 0 is the exploration. Who is malicious is the attack's own choice, else
    :data:`MALICIOUS`."""
    if getattr(attack, "clients", ()) is None and attack.scope:
        attack = attack.model_copy(update={"clients": MALICIOUS})
    one, trained = cell(attack, **protocol), rows() if trained is None else trained
    clients, weights = torch.arange(len(trained)), problem().initial
    mask = torch.ones(problem().layout.size, dtype=torch.bool) if mask is None else mask
    ones = torch.ones(len(trained))

    def landscape(sent: Tensor) -> Any:
        return explore(clients, ones, sent, "robust", [[1.0]] * len(sent))

    knows: Any = Knows(one.protocol.aggregator, landscape=landscape)
    if number:
        found = landscape(trained) if one.protocol.explores else None
        state = replace(begin(one, found), mask=mask, round=number - 1)
        weights, knows = state.weights * mask, defence_of(one, state, clients, Measured())
    found = attack_updates(one, trained, clients, mask, number, weights * mask, memory, knows)
    return Round(one, trained, found, mask, knows)


def shown(view: AttackView) -> list[Tensor]:
    """Tensors that an attack must not change."""
    return [one for one in vars(view).values() if isinstance(one, Tensor)]
