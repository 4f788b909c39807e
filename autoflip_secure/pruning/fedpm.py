r"""FedPM: clients train a probability for each frozen random weight, and send one coin toss of it.

.. math::
    s \leftarrow \mathrm{logit}\big(\varepsilon + (1 - 2\varepsilon) p\big), \quad
    \text{each step: } m \sim \mathrm{Bernoulli}(\sigma(s)), \; w = \theta \odot m, \;
    \frac{\partial L}{\partial s} = \frac{\partial L}{\partial w} \odot \theta \odot \sigma'(s), \\
    \text{sent: } b_k \sim \mathrm{Bernoulli}(\sigma(s_k)), \qquad
    p \leftarrow \frac{\alpha - 1}{\alpha + \beta - 2} = \frac1K \sum_k b_k, \quad
    \alpha = 1 + \sum_k b_k, \; \beta = 1 + \sum_k (1 - b_k)

The server's step is the mode of a Beta posterior whose prior, Beta(1, 1), is set anew in every round: the plain mean of
the bits, so the aggregator is ``mean`` with ``weighting: equal``, or any other that works on rows.

**Evidence**: read in public code (BerivanIsik/sparse-random-networks, MIT): signed constants e/sqrt(n) for weights and
biases, scores that begin as standard normal numbers, epsilon 0.01, the prior set anew in every round, and tests with
sampled masks. Their schedule is 3 local epochs, batches of 128 and a learning rate of 0.01, which is the scenario's to
set (``training``). Their bits are averaged as epsilon and 1 - epsilon; here the mean of bits is held, which the secure
sum gives exactly, and epsilon comes in when scores are made of it: the same numbers. Parameters of normalisation, which
their networks do not have, stay 1 and 0; running statistics are averaged as numbers.
"""

from __future__ import annotations

from math import e
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import FrozenStart, Role, SeedView, TrainedMask, straight_through
from autoflip_secure.models.layout import Segment
from autoflip_secure.pruning.signed_constant import signed_constants


class FedPM(TrainedMask):
    """FedPM: frozen random weights; clients train the probabilities of a mask and send one bit a weight."""

    kind: Literal["fedpm"] = "fedpm"
    source: ClassVar[str] = "Isik et al. 2023 (FedPM), ICLR, Algorithm 1; defaults as in the authors' code"
    draws: ClassVar[bool] = True
    gain: Annotated[
        float, Field(gt=0, le=100, description="frozen weights are ± gain / sqrt(inputs of a unit); the authors': e")
    ] = e
    epsilon: Annotated[
        float, Field(gt=0, lt=0.5, description="training begins from probabilities between epsilon and 1 - epsilon")
    ] = 0.01
    tested: Literal["sample", "threshold"] = Field(
        default="sample",
        description="mask of the global model in a round: drawn once from its probabilities (theirs), or p >= 0.5",
    )

    def role(self, segment: Segment) -> Role:
        """Weights and biases are scored, parameters of normalisation fixed."""
        return "scored" if segment.kind in ("weight", "bias") else "fixed"

    def begin(self, view: SeedView) -> FrozenStart:
        """Signed constants, and sigmoids of standard normal numbers, drawn at (FROZEN_WEIGHTS, 1)."""
        theta = signed_constants(view, self.gain, lambda segment: self.role(segment) == "scored")
        start = torch.randn(len(theta), generator=view.generator(1)).sigmoid().to(theta)
        held = theta.clone()
        for segment in view.layout:
            if segment.trained and self.role(segment) == "scored":
                held[segment.slice] = start[segment.slice]
        return FrozenStart(theta, held)

    def mask_of(
        self, scores: Float[Tensor, "*models"], uniform: Float[Tensor, "*models"] | None
    ) -> Float[Tensor, "*models"]:
        """[u < sigmoid(s)]."""
        assert uniform is not None
        chance = scores.sigmoid()
        return straight_through((uniform < chance).to(chance), chance)

    def scores(self, held: Float[Tensor, "*some"]) -> Float[Tensor, "*some"]:
        """logit(epsilon + (1 - 2 epsilon) p)."""
        return (self.epsilon + (1 - 2 * self.epsilon) * held).logit()

    def live(self, held: Float[Tensor, "*some"], uniform: Float[Tensor, "*some"]) -> Bool[Tensor, "*some"]:
        """[u < p], or [p >= 0.5]."""
        return uniform < held if self.tested == "sample" else held >= 0.5
