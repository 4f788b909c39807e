"""What follows from a mask alone, worked out once: a mask changes in few rounds, and is asked about in all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import is_
from typing import Any, Generic, TypeVar
from weakref import ReferenceType, ref

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.models.layout import Layout

T = TypeVar("T")


class PerMask(Generic[T]):
    """Remembers the last value of a function of a mask (or another tensor) and of other objects, while it lives.

    Known again are the same objects: the tensor itself, unchanged since, and whatever else the function was given.
    """

    def __init__(self, compute: Callable[..., T]) -> None:
        self._compute = compute
        self._known: dict[int, tuple[ReferenceType[Tensor], int, tuple[Any, ...], T]] = {}  # by the tensor's identity

    def __call__(self, mask: Tensor, *others: Any) -> T:
        """The value for ``mask`` and ``others``."""
        place, table = id(mask), self._known
        known = table.get(place)
        if known is not None and known[0]() is mask and known[1] == mask._version and all(map(is_, known[2], others)):
            return known[3]
        value = self._compute(mask, *others)
        table[place] = ref(mask, lambda _: table.pop(place, None)), mask._version, others, value
        return value


@dataclass(frozen=True)
class MaskFacts:
    """A mask beside the layout that it is about, on the mask's device."""

    live: Bool[Tensor, " params"]  # trained and not masked
    travelling: Bool[Tensor, " params"]  # not masked and not frozen: what clients send
    masked: bool  # some coordinate is
    whole: bool  # every coordinate travels
    trained: Bool[Tensor, " params"]
    live_count: int
    live_places: Int[Tensor, " live"] | None  # indices of ``live``; None: all
    trained_places: Int[Tensor, " trained"] | None  # indices of what is trained; None: all
    density: float  # share of the prunable weights that is not masked; 1 where there are none


def _facts(mask: Tensor, layout: Layout) -> MaskFacts:
    trained, sent, prunable = (each.to(mask.device) for each in (layout.trained, layout.sent, layout.prunable))
    live, travelling, hidden = mask & trained, mask & sent, mask[prunable]
    trained_places = _places(trained)
    return MaskFacts(
        live=live,
        travelling=travelling,
        masked=not bool(mask.all()),
        whole=bool(travelling.all()),
        trained=trained,
        live_count=int(live.sum()),
        live_places=trained_places if torch.equal(live, trained) else _places(live),
        trained_places=trained_places,
        density=float(hidden.float().mean()) if len(hidden) else 1.0,
    )


_bits = PerMask(lambda where: where.to(torch.int32).neg_())


def kept(rows: Float[Tensor, "*batch params"], where: Bool[Tensor, " params"]) -> Float[Tensor, "*batch params"]:
    """``torch.where(where, rows, 0)``, to the bit, for an indicator that is asked with again: several times as fast."""
    if rows.dtype is not torch.float32:
        return torch.where(where, rows, 0)
    found: Tensor = rows.view(torch.int32) & _bits(where)
    return found.view(torch.float32)


def _places(where: Tensor) -> Tensor | None:
    return None if bool(where.all()) else places(where)


places = PerMask(lambda where: where.nonzero().squeeze(1))
"""``places(where)``: indices of the coordinates that an indicator of shape (params,) marks."""


facts = PerMask(_facts)
"""``facts(mask, layout)``: the :class:`MaskFacts` of a mask of shape (params,)."""
