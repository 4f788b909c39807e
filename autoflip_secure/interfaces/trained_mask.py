r"""Masks that are trained: what clients train and the server holds are scores and probabilities, not weights.

.. math::
    w_j = \theta_j\, m_j\, h_j, \quad m_j = \mathrm{mask}(s_j, u_j) \in \{0, 1\}, \qquad
    \frac{\partial L}{\partial s_j} = \frac{\partial L}{\partial w_j}\, \theta_j\, h_j\, \sigma'(s_j)

with theta frozen and drawn from the seed, so that it never travels, s the scores, u uniform in [0, 1), and h the mask
that the client holds (1 where it has none of its own). The mask is 0 or 1 on the way forward and smooth on the way back
(a *straight-through* estimator; Bengio et al. 2013). What a client sends of a score is one bit, and the server holds
the mean of bits: a probability.

A tensor of the model has one of four roles. **scored**: as above. **shared**: an ordinary weight or running statistic,
trained and averaged as without all this. **personal**: trained by each client, and never sent. **fixed**: as theta
says, for ever.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.interfaces.pruning import Pruner, PruneView
from autoflip_secure.models.layout import Layout, Segment

Role = Literal["scored", "shared", "personal", "fixed"]


@dataclass(frozen=True)
class SeedView:
    """What is known to everybody before round 1."""

    layout: Layout
    initial: Float[Tensor, " params"]  # w_0 of the model
    generator: Callable[..., torch.Generator]  # generator(*address below FROZEN_WEIGHTS)


@dataclass(frozen=True)
class FrozenStart:
    """Where a run with trained masks begins; both follow from the seed."""

    theta: Float[Tensor, " params"]  # weights of scored tensors where their mask is 1, and of fixed ones
    held: Float[Tensor, " params"]  # what the server holds: probabilities of scored tensors, weights of shared ones


class TrainedMask(Pruner):
    """A pruner whose mask clients train by scores, over weights that nobody trains."""

    draws: ClassVar[bool] = False  # :meth:`mask_of` asks for uniform numbers in every step, :meth:`bits` at the end
    least_holders: ClassVar[int] = 1  # participants of a round that hold a coordinate, for its probability to move
    sends: ClassVar[str] = "bits"  # what a client sends of what it trains, in the plural: a word of messages
    kept: ClassVar[str] = ""  # with ``own``: the row of ``client_rows`` that keeps what the client trained; "": none

    @property
    def tuning(self) -> tuple[int, float]:
        """Epochs in which every client trains its live weights, after the last round and for itself alone, and the
        learning rate; 0 epochs: none."""
        return 0, 0.0

    @abstractmethod
    def role(self, segment: Segment) -> Role:
        """What becomes of a tensor; running statistics are *shared* whatever is said, and frozen tensors *fixed*."""

    def roles(self, layout: Layout) -> dict[str, Role]:
        """The role of every tensor, by name."""
        return {segment.name: role_of(self, segment) for segment in layout}

    @abstractmethod
    def begin(self, view: SeedView) -> FrozenStart:
        """Weights and probabilities before round 1."""

    @abstractmethod
    def mask_of(
        self, scores: Float[Tensor, "*models"], uniform: Float[Tensor, "*models"] | None
    ) -> Float[Tensor, "*models"]:
        """0 or 1 for each score, differentiable in it (:func:`straight_through`); each from its own score alone."""

    @abstractmethod
    def scores(self, held: Float[Tensor, "*some"]) -> Float[Tensor, "*some"]:
        """What training begins from, of probabilities in [0, 1]."""

    @abstractmethod
    def live(self, held: Float[Tensor, "*some"], uniform: Float[Tensor, "*some"]) -> Bool[Tensor, "*some"]:
        """The mask of the global model that is tested, counted and exported, of probabilities in [0, 1]."""

    def bits(self, scores: Float[Tensor, "*some"], uniform: Float[Tensor, "*some"]) -> Bool[Tensor, "*some"]:
        """What a client sends of its scores, and its own mask after training."""
        return self.mask_of(scores, uniform) > 0.5

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """What all hold is everything: the trained mask lies within it."""
        return view.mask


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """``hard`` on the way forward, to the bit, with the gradient of ``soft``."""
    return hard.detach() + (soft - soft.detach())


def even_sigmoid(scores: Tensor) -> Tensor:
    """Their sigmoids, computed in multiples of 64 numbers: what is left over at the end of a tensor may have other last
    bits, and a model's numbers would depend on how many stand beside it."""
    flat = scores.reshape(-1)
    return F.pad(flat, (0, -len(flat) % 64)).sigmoid()[: len(flat)].view(scores.shape)


@dataclass(frozen=True)
class Scoring:
    """Of a job: what makes weights of what it trains. Uniform numbers are drawn at (MASK_DRAWS, *address of the job)"""

    pruner: TrainedMask
    theta: Float[Tensor, " params"]


def trained_mask(pruner: Pruner) -> TrainedMask | None:
    """``pruner``, if it trains its mask."""
    return pruner if isinstance(pruner, TrainedMask) else None


def role_of(pruner: TrainedMask, segment: Segment) -> Role:
    """The role of a tensor, running statistics and frozen tensors included."""
    if segment.kind == "buffer":
        return "shared"
    return "fixed" if segment.frozen else pruner.role(segment)


def coordinates(pruner: TrainedMask, layout: Layout, *roles: Role) -> Bool[Tensor, " params"]:
    """Where tensors have one of ``roles``."""
    found = pruner.roles(layout)
    return layout.where(*(segment for segment in layout if found[segment.name] in roles))
