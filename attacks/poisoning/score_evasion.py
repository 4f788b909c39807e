r"""Attacks on directional scores: each satisfies what is measured, and reverses everything that is not.

A score that is a cosine with the current weights w constrains one direction in every layer. All others are free:

.. math::
    u^l = \mathrm{perp}(-\mu^l) + a_l w^l / \|w^l\|, \qquad a_l = c_l \|\mathrm{perp}\| / \sqrt{1 - c_l^2}

with c_l a share of what is typical of honest clients. Scores find careless clients; what bounds an attacker is how
accepted rows are combined.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.attacks.poisoning.honest_statistics import median_norm
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.attacks.poisoning.layer_cosines import (
    layer_slices,
    layers_at_cosines,
    reversed_mean,
    typical_cosines,
    with_norm,
)
from autoflip_secure.interfaces import AttackView, DataAttack, RowAttack, Threat
from autoflip_secure.models.masks import kept

_Norm = Annotated[float, Field(gt=0, le=1e6, description="length of the row in typical norms of honest ones")]


class ScoreEvasion(RowAttack):
    """The honest mean reversed, but for the part along the weights that directional scores look at."""

    kind: Literal["score_evasion"] = "score_evasion"
    source: ClassVar[str] = "this project (perp_flip): -mu orthogonal to w, in every layer"
    equation: ClassVar[str] = (
        "u^l = perp(-mu^l) + a_l w^l / ||w^l||, so that cos(u^l, w^l) is typical; ||u|| = 2 typical norms"
    )
    threat: ClassVar[Threat] = Threat("rows", ("update",))
    kept: Annotated[float, Field(ge=-10, le=10, description="of the typical cosine with the weights that is kept")] = (
        1.0
    )
    norm: _Norm = 2.0

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows by one."""
        return view.sending(reversed_mean(view.honest_rows, view.weights, view.layout, self.kept, self.norm)), None


class LayerTrick(RowAttack):
    """One small layer points along the weights and pays, in a mean over layers, for all others, which are reversed."""

    kind: Literal["layer_trick"] = "layer_trick"
    source: ClassVar[str] = "this project: against unweighted means of layer cosines"
    equation: ClassVar[str] = "u^l = -mu^l, but for the layer of least norm, which is a little of w^l"
    threat: ClassVar[Threat] = Threat("rows", ("update",))
    norm: _Norm = 2.0
    tiny: Annotated[float, Field(gt=0, lt=1, description="share of the row's norm that the layer along w has")] = 1e-3

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows by one."""
        rows = view.honest_rows
        row, layers = -rows.mean(0), layer_slices(view.layout)
        if layers:
            paid = min(layers, key=lambda where: float(row[where].norm()))
            row[paid] = with_norm((view.weights * view.active)[paid], self.tiny * row.norm())
        return view.sending(with_norm(row, self.norm * median_norm(rows))), None


class BoostedFlip(DataAttack, RowAttack):
    """Train on flipped labels, then turn every layer until its cosine with the weights is that of honest clients."""

    kind: Literal["boosted_flip"] = "boosted_flip"
    source: ClassVar[str] = "this project: label flips that a radial score takes for honest"
    equation: ClassVar[str] = (
        "trained on flipped labels, then perp(u^l) + a_l w^l / ||w^l||, so that cos(u^l, w^l) is typical"
    )
    threat: ClassVar[Threat] = Threat("rows", ("labels", "update"))
    share: Annotated[float, Field(ge=0, le=1, description="share of a malicious client's labels that are flipped")] = (
        1.0
    )

    def labels(self, labels: Int[Tensor, " n"], num_classes: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """As a label flip to random other classes."""
        return LabelFlip(share=self.share).labels(labels, num_classes, generator)

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Each malicious row turned; with no label flipped nobody attacks."""
        if self.share == 0:
            return view.updates, None
        cosines = typical_cosines(view.honest_rows, view.weights, view.layout)
        own = kept(view.updates[view.malicious], view.active)
        return view.sending(
            torch.stack([layers_at_cosines(row, view.weights, view.layout, cosines) for row in own])
        ), None


class AnchorInflation(RowAttack):
    """Explorers send a multiple of the weights, so that whatever is relative to a quantile or a maximum is inflated."""

    kind: Literal["anchor_inflation"] = "anchor_inflation"
    source: ClassVar[str] = "this project: d_k = c w_0, whose cosine with the weights is 1"
    equation: ClassVar[str] = "d = c ||d_own|| w_0 / ||w_0||, in the exploration"
    threat: ClassVar[Threat] = Threat("own", ("exploration",), goal="denial")
    scale: Annotated[float, Field(gt=0, le=1e6, description="length in norms of the client's own deviation")] = 1.0

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious deviations."""
        norms = kept(view.updates[view.malicious], view.active).norm(dim=1, keepdim=True)
        weights = view.weights * view.active
        return view.sending(self.scale * norms * weights / weights.norm().clamp_min(TINY)), None
