"""The statistics that agreement scores are made of: a number per client, larger is better (:mod:`.agreement`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm.energy_profile import GROUPS, affinity, landscape_groups
from autoflip_secure.algorithm.order_statistics import TINY, median_rows
from autoflip_secure.interfaces import Groups, Guidance, OpenRows, PublicView, RowReader
from autoflip_secure.interfaces.row_reader import cosine, grouped
from autoflip_secure.models.masks import kept

StatisticName = Literal[
    "landscape",
    "profile",
    "size",
    "direction",
    "cosine_mean",
    "cosine_others",
    "cosine_median",
    "cosine_pairwise",
    "sign",
]


@dataclass(frozen=True)
class AgreementState:
    """What the server remembers between rounds."""

    memory: Float[Tensor, " params"]  # H: exponential mean of accepted global updates
    means: dict[str, Float[Tensor, " all_clients"]]  # per statistic: exponential mean; NaN = not seen yet
    log_norms: Float[Tensor, " all_clients"]


@dataclass(frozen=True)
class Asked:
    """What a statistic is computed from."""

    reader: RowReader
    view: PublicView
    state: AgreementState

    @cached_property
    def groups(self) -> Groups:
        """Coordinates by their landscape energy (:mod:`.energy_profile`)."""
        guidance = self._guidance
        return Groups(lambda: landscape_groups(guidance.energy, self.view.live), GROUPS)

    @property
    def energy(self) -> Float[Tensor, " params"]:
        """D; every client is scored against the landscape."""
        return self._guidance.energy

    @property
    def _guidance(self) -> Guidance:
        assert self.view.guidance is not None
        return self.view.guidance

    @property
    def rows(self) -> Float[Tensor, "clients params"]:
        """Every row; statistics that need them are not offered where rows are secret."""
        assert isinstance(self.reader, OpenRows)
        return self.reader.rows

    @cached_property
    def norms(self) -> Float[Tensor, " clients"]:
        """||u_k||, by way of the groups where rows are secret, so that no number is revealed for it alone."""
        return self.reader.norms(self.groups.whole)

    def undefined(self) -> Float[Tensor, " clients"]:
        """No value for anybody."""
        return torch.full_like(self.norms, torch.nan)


@dataclass(frozen=True)
class Statistic:
    """A number per client, larger is better. ``fresh``: the worse of this round's value and the mean counts."""

    compute: Callable[[Asked], Tensor]
    floor: float
    cap: float
    fresh: bool = False
    rows: bool = False  # it compares single rows, so secret ones will not do


def landscape(asked: Asked) -> Tensor:
    """L_k = cos(|u_k|, sqrt(D)): does the client move the weights that the collective found worth moving?

    Where clients state it themselves it counts for no more than the profile, which no true |u_k| exceeds.
    """
    found = asked.reader.absolute_cosines(kept(asked.energy.sqrt(), asked.view.mask))
    return torch.minimum(found, profile(asked)) if asked.reader.stated else found


def profile(asked: Asked) -> Tensor:
    """P_k: as the landscape agreement, by groups of coordinates of like energy (:mod:`.energy_profile`)."""
    energies = grouped(asked.energy[None], asked.groups.places, GROUPS)[0]
    return affinity(asked.reader.squared_norms(asked.groups), energies)


def size(asked: Asked) -> Tensor:
    """X_k = -log ||u_k||: an oversized update disagrees, a small one does not."""
    return -asked.norms.clamp_min(TINY).log()


def direction(asked: Asked) -> Tensor:
    """C_k = cos(u_k, H), with the memory of accepted global updates; undefined before the first."""
    memory = asked.state.memory
    length = memory.norm()
    if not length > 0:
        return asked.undefined()
    sizes: Tensor = asked.norms * length
    return asked.reader.products(memory[None])[:, 0] / sizes.clamp_min(TINY)


def cosine_others(asked: Asked) -> Tensor:
    """Cosine with the mean of the other clients' updates; undefined for a client alone."""
    updates = asked.rows
    if len(updates) < 2:
        return asked.undefined()
    others = (1 - torch.eye(len(updates)).to(updates)) / (len(updates) - 1)  # a sum less the own row loses the others
    return cosine(updates, others @ updates)


def cosine_pairwise(asked: Asked) -> Tensor:
    """Mean cosine with each other client's update; undefined for a client alone."""
    updates = asked.rows
    if len(updates) < 2:
        return asked.undefined()
    unit: Tensor = updates / updates.norm(dim=1, keepdim=True).clamp_min(TINY)
    gram = unit @ unit.T
    return (gram.sum(1) - gram.diagonal()) / (len(updates) - 1)


def sign(asked: Asked) -> Tensor:
    """Share of the moving coordinates whose sign is the majority's."""
    signs = asked.rows.sign()
    moving = signs != 0
    share: Tensor = ((signs == signs.sum(0).sign()) & moving).sum(1) / moving.sum(1).clamp_min(1)
    return share


STATISTICS: dict[str, Statistic] = {
    "landscape": Statistic(landscape, 0.06, 0.15, fresh=True),
    "profile": Statistic(profile, 0.015, 0.04, fresh=True),
    "size": Statistic(size, 0.6, 0.7, fresh=True),
    "direction": Statistic(direction, 0.15, 0.3),
    "cosine_mean": Statistic(lambda asked: cosine(asked.rows, asked.rows.mean(0)), 0.15, 0.3, rows=True),
    "cosine_others": Statistic(cosine_others, 0.15, 0.3, rows=True),
    "cosine_median": Statistic(lambda asked: cosine(asked.rows, median_rows(asked.rows)), 0.15, 0.3, rows=True),
    "cosine_pairwise": Statistic(cosine_pairwise, 0.15, 0.3, rows=True),
    "sign": Statistic(sign, 0.06, 0.15, rows=True),
}
