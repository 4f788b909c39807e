r"""How stable the one-time map is: measured round by round where a scenario asks for ``measures: [stability]``.

.. math::
    r_t = \frac{1}{|S|}\sum_{k \in S} \frac{u_k^2}{\|u_k\|^2}, \qquad
    \rho_t = \mathrm{Spearman}(D_0, r_t), \quad \cos(D_0, r_t), \quad
    \frac{|\mathrm{top}(D_0) \cap \mathrm{top}(r_t)|}{|\mathrm{top}|}

on live hidden weights; drift between clients as the mean of :math:`\cos(u_k, u_l)`, over rounds as the cosine of
successive steps, and of masks as the Jaccard index with round 1's. The questions are those of the paper's reviewer;
nothing of this is fed back into a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.federation.outcome import Outcome
from autoflip_secure.interfaces import Exploration
from autoflip_secure.records.stability import TOP, Stability

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Cell

_SECRET = "stability: not measured, because updates pass through parties and nobody sees a single one"


class StabilityLog:
    """Measures one run, where it is asked for; what it needs of earlier rounds is kept here."""

    def __init__(self, cell: Cell) -> None:
        self._secret = cell.protocol.visibility.secret
        self._asked = "stability" in cell.protocol.measures
        self._layout = cell.problem.layout
        self._energy: Tensor | None = None  # D_0
        self._first: Tensor | None = None  # mask of round 1, hidden weights alone
        self._step: Tensor | None = None  # of the round before
        self._ranked: tuple[Tensor, np.ndarray] | None = None  # live hidden weights, and the ranks of D_0 on them

    @property
    def events(self) -> list[str]:
        """Why nothing is measured, where it was asked for."""
        return [_SECRET] if self._asked and self._secret else []

    def explored(self, exploration: Exploration) -> None:
        """Note the map."""
        self._energy = exploration.energy

    def measured(self, outcome: Outcome) -> Stability | None:
        """One round; None: not asked for, or nobody sees a single update."""
        if not self._asked or self._secret:
            return None
        hidden = self._layout.prunable.to(outcome.mask.device)
        mask = outcome.mask[hidden]
        self._first = mask if self._first is None else self._first
        rows = self._layout.of_trained(outcome.sent).double()
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(TINY)
        step = self._layout.of_trained(outcome.delta).double()
        last, self._step = self._step, step
        alike = self._beside_map(rows, outcome.mask & hidden) if self._energy is not None else (None, None, None)
        return Stability(
            rank_correlation=alike[0],
            cosine=alike[1],
            top_overlap=alike[2],
            between_clients=mean_cosine(rows),
            successive=None if last is None else _cosine(last, step),
            mask_overlap=jaccard(self._first, mask),
        )

    def _beside_map(
        self, rows: Float[Tensor, "clients params"], live: Bool[Tensor, " params"]
    ) -> tuple[float | None, float | None, float | None]:
        """Spearman, cosine and overlap of the top of D_0 and of the round's energy; ``rows`` of norm 1."""
        assert self._energy is not None
        if len(rows) == 0 or int(live.sum()) < 2:
            return None, None, None
        energy = rows[:, live].square().mean(0)
        first = self._energy[live].double()
        if self._ranked is None or not torch.equal(self._ranked[0], live):
            self._ranked = live, ranks(first.cpu().numpy())
        mine, now = self._ranked[1], ranks(energy.cpu().numpy())
        spread = float(mine.std() * now.std())
        rank = float(((mine - mine.mean()) * (now - now.mean())).mean() / spread) if spread > 0 else None
        return rank, _cosine(first, energy), top_overlap(first, energy)


def ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 1, ties at their mean.

    >>> ranks(np.array([0.3, 0.1, 0.3, 0.2])).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    order = values.argsort(kind="stable")
    ordered = values[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    begins = np.append(new.nonzero()[0], len(values))
    found = np.empty(len(values))
    found[order] = ((begins[:-1] + begins[1:] + 1) / 2)[new.cumsum() - 1]
    return found


def top_overlap(first: Float[Tensor, " n"], second: Float[Tensor, " n"], share: float = TOP) -> float:
    """Of the ``share`` of the places where ``second`` is largest, how many are so of ``first``."""
    count = max(1, round(share * len(first)))
    chosen = [set(x.argsort(descending=True, stable=True)[:count].tolist()) for x in (first, second)]
    return len(chosen[0] & chosen[1]) / count


def mean_cosine(rows: Float[Tensor, "clients params"]) -> float | None:
    """Mean cosine over all pairs of rows of norm 1 (or 0: left out); None: there is no pair."""
    moved = rows[rows.norm(dim=1) > 0.5]
    count = len(moved)
    if count < 2:
        return None
    return (float(moved.sum(0).square().sum()) - count) / (count * (count - 1))


def jaccard(one: Bool[Tensor, " n"], other: Bool[Tensor, " n"]) -> float:
    """|A and B| / |A or B|; 1 where both are empty."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def _cosine(a: Tensor, b: Tensor) -> float | None:
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else None
