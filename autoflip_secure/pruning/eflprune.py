r"""EFLPrune (Wu, Song, Zeng 2023, doi 10.1007/s40747-023-01120-5): every round trains a subnet of whole units.

The server keeps all weights W. For round t it takes, in each hidden layer, the round(kappa n_l) best units by

.. math:: x(u) = \mathrm{mean}_{j \in \mathrm{in}(u)} |W_j|

(all outputs stay), sends the compact model, and puts the clients' mean back into W; weights outside keep their value,
and return with it. Beside the update nothing goes up; a bit a unit goes down.

**Evidence: the abstract only, and no public code.** Known is that the server chooses neurons or kernels before each
release and sends "a current optimal subnet", compressed, and that the aggregation keeps "the complete model structure
through model reconstruction and parameter reuse". Criterion, rates and schedule are **our reading**. ``keep`` 0.6 is
what their figures imply for VGG16 if all layers are cut alike, 0.3 for a fully connected network.

- ``criterion``: ``l1``, the mean above: the L1 norm of a unit's incoming weights over their number, which all units of
  a layer share; ``l2``, the root of their mean square; ``in_out``, the root of the means |in| times |out|.
- ``scope``: the best of each ``layer``, or of all layers (``global``). A layer keeps two units at least.
- ``fresh``: this share of a layer's places goes to units drawn among the others, so that they get trained. Theirs is
  not known; 0 is the plain reading.
- ``evaluate``: what is tested and kept is the subnet that the next round would be sent, or the full model.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.models.units import Units
from autoflip_secure.pruning.budget import require_units
from autoflip_secure.pruning.taylor import best_units


class EFLPrune(Pruner):
    """EFLPrune, our reading: each round trains the best units by weight; the server keeps the others' weights."""

    kind: Literal["eflprune"] = "eflprune"
    source: ClassVar[str] = "Wu, Song, Zeng 2023 (EFLPrune): the abstract; criterion and schedule are this project's"
    needs_units: ClassVar[bool] = True
    keeps_masked: ClassVar[bool] = True
    mask_sent: ClassVar[Literal["nothing", "weights", "units"]] = "units"
    keep: Annotated[float, Field(gt=0, le=1, description="kappa: share of hidden units that a round trains")] = 0.6
    criterion: Literal["l1", "l2", "in_out"] = Field(
        default="l1", description="best by mean |incoming weight|, by its root mean square, or by incoming and outgoing"
    )
    scope: Literal["layer", "global"] = Field(default="layer", description="the best of each layer, or over all layers")
    fresh: Annotated[float, Field(ge=0, le=1, description="share of the kept units that is drawn among the others")] = (
        0.0
    )
    evaluate: Literal["subnet", "full"] = Field(
        default="subnet", description="which model is tested and kept: the next round's, or the one with all units"
    )

    @property
    def tests_whole(self) -> bool:
        """Whether it is the full model."""
        return self.evaluate == "full"

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The subnet of the next round; after the last, the one that is tested. Draws at (PRUNING, round, group)."""
        units = require_units(view, self.kind)
        groups, free = units.groups[:-1], units.removable(view.layout)
        chosen = [torch.ones(group.units, dtype=torch.bool, device=view.mask.device) for group in units.groups]
        places = [place for place in range(len(groups)) if free[place]]
        scores = self._scores(units, view)
        for place, best in zip(places, self._best([scores[place] for place in places]), strict=True):
            chosen[place] = self._refreshed(best, scores[place], view.generator(view.round, place))
        everything = torch.ones_like(view.mask)
        return units.close(everything & units.keep_units(chosen, view.layout), view.layout)

    def _best(self, scores: list[Float[Tensor, " _"]]) -> list[Bool[Tensor, " _"]]:
        """kappa of each layer, or of all."""
        alive = [torch.ones_like(score, dtype=torch.bool) for score in scores]
        if self.scope == "global":
            return best_units(scores, alive, round(self.keep * sum(map(len, scores))))
        return [
            best_units([score], [own], round(self.keep * len(own)))[0] for score, own in zip(scores, alive, strict=True)
        ]

    def _refreshed(
        self, best: Bool[Tensor, " _"], score: Float[Tensor, " _"], draws: torch.Generator
    ) -> Bool[Tensor, " _"]:
        """``best`` with its worst units replaced by others, drawn."""
        others = (~best).nonzero().squeeze(1)
        count = min(round(self.fresh * int(best.sum())), len(others))
        if count == 0:
            return best
        kept, inside = best.clone(), best.nonzero().squeeze(1)
        kept[inside[score[inside].argsort(stable=True)[:count]]] = False
        kept[others[torch.randperm(len(others), generator=draws)[:count].to(others.device)]] = True
        return kept

    def _scores(self, units: Units, view: PruneView) -> list[Float[Tensor, " _"]]:
        """x(u) of every hidden group."""
        rows = view.weights.square() if self.criterion == "l2" else view.weights.abs()
        means = units.mean_weights(rows[None], view.layout)
        if self.criterion == "in_out":
            return [(incoming * outgoing)[0].sqrt() for incoming, outgoing in means]
        return [incoming[0].sqrt() if self.criterion == "l2" else incoming[0] for incoming, _ in means]
