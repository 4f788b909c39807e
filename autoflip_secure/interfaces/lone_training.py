"""What one client trains alone before round 1, stage by stage, as a pruner asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units


@dataclass(frozen=True)
class LoneView:
    """What the client may look at between two stages: its own model, and its own training rows."""

    layout: Layout
    units: Units | None  # what may be taken out as a whole; None: unknown
    weights: Float[Tensor, " params"]  # zero where masked
    mask: Bool[Tensor, " params"]  # all True at first
    passes: int  # over its rows, so far
    sums: Mapping[Accumulated, Float[Tensor, " params"]]  # of the last stage, as it asked; empty at first
    memory: Any  # what the pruner handed on; None at first
    num_classes: int
    accuracy: Callable[[], float] = field(repr=False)  # of the model on the rows; asked for, it is counted as a pass
    multiply_adds: Callable[[], Mapping[str, float]] = field(default=dict, repr=False)  # see :class:`.PruneView`


@dataclass(frozen=True)
class LoneStage:
    """What the client does next."""

    passes: int  # over its rows, under ``mask``; 0: this is the end
    mask: Bool[Tensor, " params"]  # what left becomes 0, what came starts at 0
    accumulate: frozenset[Accumulated] = frozenset()  # for ``view.sums`` of the next question
    memory: Any = None
