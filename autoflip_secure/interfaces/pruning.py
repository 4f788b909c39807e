"""What a pruner is asked, and with what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces.aggregation import Aggregator
from autoflip_secure.interfaces.base import Plugin
from autoflip_secure.interfaces.landscape import Exploration, Guidance
from autoflip_secure.interfaces.local_rule import LocalRule, NoLocalRule
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units


@dataclass(frozen=True)
class PruneView:
    """What a pruner may look at."""

    layout: Layout
    units: Units | None  # what may be taken out as a whole; None: unknown
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]  # current; all True at the start
    exploration: Exploration | None
    guidance: Guidance | None
    round: int  # 0: before training
    rounds: int
    generator: Callable[..., torch.Generator]  # generator(*address below PRUNING)
    normalisation: str = "sqrt_q99"  # of guidance


class Pruner(Plugin, ABC):
    """Decides which coordinates live."""

    needs_guidance: ClassVar[bool] = False
    needs_units: ClassVar[bool] = False  # removes whole units, so it has nothing to do where they are unknown
    needs_explorers: ClassVar[bool] = False  # looks at what single explorers sent, not at the landscape alone

    @abstractmethod
    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The mask from now on; ``view.mask`` itself when nothing changes in this round."""

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Float[Tensor, " params"]:
        """Weights after the mask went from ``old`` to ``new``. Default: what is masked becomes zero, nothing else."""
        return weights * new


def guided(pruner: Pruner, aggregator: Aggregator) -> bool:
    """Whether there is guidance, which evolves from round to round."""
    return pruner.needs_guidance or aggregator.needs_guidance


def explores(pruner: Pruner, aggregator: Aggregator, rule: LocalRule | NoLocalRule) -> bool:
    """Whether phase 1 is needed: FedAvg does not pay for it."""
    return guided(pruner, aggregator) or (isinstance(rule, LocalRule) and rule.needs_exploration)
