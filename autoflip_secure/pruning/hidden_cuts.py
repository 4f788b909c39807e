"""The hidden weights of largest score, over all tensors or tensor by tensor: what masks by size or importance keep.

Of equal scores the earlier coordinate stays. No tensor is cut to nothing: each keeps its best candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.own_erk import erk

Scope = Literal["global", "tensor", "erk"]
"""One count for all hidden tensors together; the same share of each; a share of each by ERK."""


def erk_counts(layout: Layout, density: float) -> dict[str, int]:
    """Live weights of each hidden tensor, by name: round(d_l · n_l) for the ERK density d_l, and at least one."""
    shares = erk({segment.name: segment.shape for segment in layout.hidden}, density)
    return {s.name: max(1, round(shares[s.name] * (s.stop - s.start))) for s in layout.hidden}


def best_overall(
    scores: Float[Tensor, " params"], live: Bool[Tensor, " params"], layout: Layout, count: int
) -> Bool[Tensor, " params"]:
    """``live`` with only the ``count`` hidden weights of largest score left, over all hidden tensors together."""
    best = _ranked(scores, live)
    for segment in layout.hidden:
        if bool(live[segment.slice].any()):
            best[segment.start + int(best[segment.slice].argmax())] = torch.inf
    order = best.masked_fill(~layout.prunable.to(live.device), -torch.inf).argsort(descending=True, stable=True)
    return _left(live, layout, order[: max(count, int((best == torch.inf).sum()))])


def best_by_tensor(
    scores: Float[Tensor, " params"], live: Bool[Tensor, " params"], layout: Layout, counts: Mapping[str, int]
) -> Bool[Tensor, " params"]:
    """``live`` with only the ``counts[name]`` (at least one) weights of largest score left in each hidden tensor."""
    best = _ranked(scores, live)
    kept = [
        s.start + best[s.slice].argsort(descending=True, stable=True)[: max(1, counts[s.name])] for s in layout.hidden
    ]
    return _left(live, layout, torch.cat(kept) if kept else torch.zeros(0, dtype=torch.long, device=live.device))


def best_of(
    scores: Float[Tensor, " params"], live: Bool[Tensor, " params"], layout: Layout, density: float, scope: Scope
) -> Bool[Tensor, " params"]:
    """``live`` at ``density``, the share of all hidden weights that is left; ``scope`` says how tensors share it."""
    if scope == "global":
        return best_overall(scores, live, layout, round(density * int(layout.prunable.sum())))
    if scope == "tensor":
        counts = {segment.name: round(density * (segment.stop - segment.start)) for segment in layout.hidden}
        return best_by_tensor(scores, live, layout, counts)
    return best_by_tensor(scores, live, layout, erk_counts(layout, density))


def _ranked(scores: Tensor, live: Tensor) -> Tensor:
    return torch.where(live, scores, -torch.inf)


def _left(live: Tensor, layout: Layout, kept: Tensor) -> Bool[Tensor, " params"]:
    chosen = torch.zeros_like(live)
    chosen[kept] = True
    return live & (chosen | ~layout.prunable.to(live.device))
