r"""Thresholds that are trained: clients keep their weights to themselves, and what travels is one number a unit.

.. math::
    w_u' = w_u\, m_u, \quad m_u = \mathrm{mask}\Big(\frac1{n_u} \sum_j |w_{uj}| - \tau_u\Big) \in \{0, 1\}

for the n_u weights of unit u (a neuron or filter, of the output layer too), trained together with tau. A layer computes
without a bias: in the flat vector the *place of its bias* is where its thresholds are, so no model needs other tensors.
Layers without a bias, or with several weights, have no thresholds; they stay whole, and with their clients.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces.trained_mask import FrozenStart, Role, SeedView, TrainedMask
from autoflip_secure.models.layout import Layout, Segment


def threshold_pairs(segments: Sequence[Segment]) -> tuple[tuple[int, int], ...]:
    """Places in ``segments`` of each weight whose units have thresholds, and of the bias that holds these."""
    named = {segment.name: place for place, segment in enumerate(segments) if segment.trained}
    found = []
    for place, segment in enumerate(segments):
        bias = named.get(f"{segment.layer}.bias", -1)
        own = segment.trained and segment.kind == "weight" and segment.name == f"{segment.layer}.weight"
        if own and bias >= 0 and segments[bias].shape == segment.shape[:1]:
            found.append((place, bias))
    return tuple(found)


def unit_sizes(segment: Segment, values: Float[Tensor, "models ..."]) -> Float[Tensor, "models units"]:
    """Mean |w_u| of each unit of a weight tensor.

    Means are taken over copies in the order of the segment's shape: a stack may lie otherwise in memory, and its sums
    would have other last bits.
    """
    return values.reshape(len(values), segment.shape[0], -1).contiguous().abs().mean(2)


class TrainedThresholds(TrainedMask):
    """A pruner whose clients train weights of their own and a threshold a unit, and send the thresholds alone."""

    own: ClassVar[bool] = True
    sends: ClassVar[str] = "thresholds"

    @property
    def several_masks(self) -> bool:
        """No: what is sent are thresholds, and everybody has all of them."""
        return False

    @abstractmethod
    def unit_mask(self, excess: Float[Tensor, "models units"]) -> Float[Tensor, "models units"]:
        """0 or 1 for mean |w_u| - tau_u, differentiable in it; each from its own number alone."""

    def role(self, segment: Segment) -> Role:
        """Personal: which biases hold thresholds, the layout tells (:meth:`roles`)."""
        return "personal"

    def roles(self, layout: Layout) -> dict[str, Role]:
        """Thresholds are shared; everything else is personal, running statistics too."""
        segments = tuple(layout)
        found: dict[str, Role] = {segment.name: "fixed" if segment.frozen else "personal" for segment in segments}
        return found | {segments[bias].name: "shared" for _, bias in threshold_pairs(segments)}

    def begin(self, view: SeedView) -> FrozenStart:
        """Thresholds of 0, so that every unit lives, and the initial weights."""
        held = view.initial.clone()
        segments = tuple(view.layout)
        for _, bias in threshold_pairs(segments):
            held[segments[bias].slice] = 0.0
        return FrozenStart(held, held)

    def unit_masks(
        self, segments: Sequence[Segment], values: Sequence[Float[Tensor, "models ..."]]
    ) -> dict[int, Float[Tensor, "models units"]]:
        """m_u of each weight with thresholds, by its place in ``segments``; ``values`` are one tensor a segment."""
        return {
            weight: self.unit_mask(unit_sizes(segments[weight], values[weight]) - values[bias])
            for weight, bias in threshold_pairs(segments)
        }

    def made(
        self, segments: Sequence[Segment], values: Sequence[Float[Tensor, "models ..."]]
    ) -> list[Float[Tensor, "models ..."]]:
        """What the forward pass uses, differentiable in ``values``: masked units are 0, and so is what holds tau."""
        made = list(values)
        masks = self.unit_masks(segments, values)
        for weight, bias in threshold_pairs(segments):
            own = values[weight]
            made[weight] = own * masks[weight].reshape(*masks[weight].shape, *[1] * (own.dim() - 2))
            made[bias] = torch.zeros_like(values[bias])
        return made

    def models(
        self, layout: Layout, rows: Float[Tensor, "models params"]
    ) -> tuple[Float[Tensor, "models params"], Bool[Tensor, "models params"]]:
        """Models that ``rows`` of weights and thresholds make, and which of their coordinates live."""
        segments, named = tuple(layout), layout.tensors(rows)
        masks = self.unit_masks(segments, [named[segment.name] for segment in segments])
        live = torch.ones_like(rows, dtype=torch.bool)
        for weight, bias in threshold_pairs(segments):
            place = segments[weight].slice
            units = masks[weight].shape[1]
            live[:, place] = (masks[weight] > 0).repeat_interleave((place.stop - place.start) // units, 1)
            live[:, segments[bias].slice] = False
        return torch.where(live, rows, 0.0), live

    def mask_of(
        self, scores: Float[Tensor, "*models"], uniform: Float[Tensor, "*models"] | None
    ) -> Float[Tensor, "*models"]:
        """1: no weight has a score of its own."""
        return torch.ones_like(scores)

    def scores(self, held: Float[Tensor, "*some"]) -> Float[Tensor, "*some"]:
        """As they are: nothing is scored."""
        return held

    def live(self, held: Float[Tensor, "*some"], uniform: Float[Tensor, "*some"]) -> Bool[Tensor, "*some"]:
        """All: nothing is scored."""
        return torch.ones_like(held, dtype=torch.bool)


def trained_thresholds(pruner: object) -> TrainedThresholds | None:
    """``pruner``, if its clients train thresholds."""
    return pruner if isinstance(pruner, TrainedThresholds) else None
