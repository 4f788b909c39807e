r"""Taylor pruning of whole units (Molchanov et al. 2019, Eq. 8), federated: one number a unit leaves each client.

Setting a unit to zero changes the loss, to first order, by the sum of gradient times weight over what makes the unit.
Client k reports the square of that sum, for the mean gradient :math:`g_k` of its loss at the round's global weights w:

.. math::
    x_k(u) = \Big( \sum_{j \in u} g_{kj} w_j \Big)^2, \qquad
    I(u) = \frac{\sum_k n_k x_k(u)}{\sum_k n_k}

u: incoming weights, bias and normalisation of a unit. There are n cuts, every R rounds in the first share of the run;
cut i leaves the share :math:`\kappa + (1 - \kappa)(1 - i/n)^3` of all units that may go (Zhu and Gupta 2017), those
with the largest I over all layers, but at least two a layer. What is cut stays cut. Where that share of the run is
shorter than R rounds there is one cut, in its last round.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import Channel, ChannelRequest, ClientView, Pruner, PruneView
from autoflip_secure.models.units import Units

UNITS = "units"
_LEAST = 2  # units that a layer keeps


class TaylorUnits(Pruner):
    """Units of least Taylor importance go, over all layers; clients report one number a unit before each cut."""

    kind: Literal["taylor"] = "taylor"
    source: ClassVar[str] = "Molchanov et al. 2019, Eq. 8; reports and timetable: this project"
    needs_units: ClassVar[bool] = True
    keep: Annotated[
        float, Field(gt=0, le=1, description="kappa: share of the hidden units that is left in the end")
    ] = 0.5
    every: Annotated[int, Field(ge=1, le=100_000, description="rounds between cuts")] = 5
    until: Annotated[float, Field(ge=0, le=1, description="share of the rounds in which units are cut")] = 0.5
    bound: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="L2 norm that each client's report is clipped to; needed under client-level privacy"
    )

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """One number a hidden unit, in rounds that end with a cut."""
        units = _known(asked.units)
        if not self._cut(asked.round, asked.rounds):
            return ()
        everything = torch.ones(asked.layout.size, dtype=torch.bool)
        size = sum(len(live) for live in units.live_units(everything, asked.layout)[:-1])
        return (Channel(UNITS, size, "sum", self.bound),) if size else ()

    def measure(self, channel: Channel, view: ClientView) -> Float[Tensor, "clients units"]:
        """x_k of every hidden unit, layer by layer."""
        sums = _known(view.units).sums(view.gradients() * view.start, view.layout)
        return torch.cat(sums, dim=1).square()

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Cut when a cut is due and its reports have come; a cut that was missed is made up for by the next."""
        cut, reports = self._cut(view.round, view.rounds), view.channels.get(UNITS)
        if not cut or reports is None:
            return view.mask
        units = _known(view.units)
        *hidden, outputs = units.live_units(view.mask, view.layout)
        count = len(hidden)
        scores = torch.split(reports.mean, [len(live) for live in hidden])
        free = [number for number, may in enumerate(units.removable(view.layout)) if may]
        total = sum(len(hidden[number]) for number in free)
        share = self.keep + (1 - self.keep) * (1 - cut / self._cuts(view.rounds)) ** 3
        kept = best_units([scores[n] for n in free], [hidden[n] for n in free], round(share * total))
        chosen = dict(zip(free, kept, strict=True))
        whole = [chosen.get(number, hidden[number]) for number in range(count)]
        return units.close(view.mask & units.keep_units([*whole, outputs], view.layout), view.layout)

    def _interval(self, rounds: int) -> int:
        return max(1, min(self.every, int(self.until * rounds)))

    def _cuts(self, rounds: int) -> int:
        return int(self.until * rounds) // self._interval(rounds)

    def _cut(self, round_: int, rounds: int) -> int:
        """Number of the cut after this round, from 1; 0: there is none."""
        number, rest = divmod(round_, self._interval(rounds))
        return number if rest == 0 and number <= self._cuts(rounds) else 0


def _known(units: Units | None) -> Units:
    if units is None:
        raise UnsupportedModelError(
            "pruner 'taylor' removes whole units and this model's units are unknown; use pruner kind 'threshold', or "
            "write the model as a chain of layers"
        )
    return units


def best_units(
    scores: list[Float[Tensor, " _"]], live: list[Bool[Tensor, " _"]], count: int
) -> list[Bool[Tensor, " _"]]:
    """The ``count`` live units with the largest scores over all layers, once each layer has its two best."""
    ranked = [torch.where(own, score, -torch.inf) for score, own in zip(scores, live, strict=True)]
    first = []
    for score, own in zip(ranked, live, strict=True):
        best = torch.zeros_like(own)
        best[score.argsort(descending=True, stable=True)[:_LEAST]] = True
        first.append(best & own)
    if not ranked:
        return []
    surely = torch.cat(first)
    order = torch.where(surely, torch.inf, torch.cat(ranked)).argsort(descending=True, stable=True)
    kept = surely.clone()
    kept[order[:count]] = True
    return [own & part for own, part in zip(live, torch.split(kept, [len(own) for own in live]), strict=True)]
