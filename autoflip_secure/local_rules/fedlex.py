r"""FedLEx: local steps are scaled by how far the explorers moved each parameter.

.. math::
    x_j = \frac{1}{n} \sum_k d_{kj}^2, \quad d_k = w_k - w_0, \qquad
    G = \mathrm{minmax}(x) \text{ of each tensor, biases too}, \qquad g \leftarrow g \odot G

An adaptive optimiser undoes this: scaling a coordinate's gradient by a constant leaves Adam's step as it was. So by
default the *update* is scaled, after the optimiser; and G is divided by its mean in each tensor, else all steps become
smaller and nothing but the learning rate is compared. Compare at tuned learning rates and with ``permuted``.

In the authors' program (ChristianInterno/FedLEx@69ed581, without a licence: described, not copied) a share of explorers
gives one G for all rounds; where all explore, G is made anew after every round, from the deviations that *its
participants* found before round 1, and scales the steps of the next (``matrix: per_round``; round 1 has everybody's).
As released, exploration sends ones in their place.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from autoflip_secure.algorithm.exploration import summed_squares
from autoflip_secure.algorithm.guidance import NORMALISATIONS
from autoflip_secure.interfaces import BroadcastView, LocalRule, LocalView


class FedLEx(LocalRule):
    """FedLEx: gradients or updates are scaled by the explorers' squared deviations."""

    kind: Literal["fedlex"] = "fedlex"
    source: ClassVar[str] = "Internò et al. 2024 (FedLEx), IJCNN, arXiv 2506.18640; `apply` and `rescale` are ours"
    needs_exploration: ClassVar[bool] = True
    apply: Literal["gradient", "update"] = Field(
        default="update",
        description="what is scaled: the gradient before the optimiser (theirs; Adam undoes it), or what it adds",
    )
    normalisation: Literal["minmax", "robust_scaler"] = Field(
        default="minmax", description="squared deviations -> G of each tensor, in [0, 1]"
    )
    rescale: Literal["none", "mean"] = Field(
        default="mean", description="G / mean G of each tensor, so that steps keep their size; none: G (theirs)"
    )
    landscape: Literal["deviations", "energy"] = Field(
        default="deviations",
        description="from the mean of the explorers' squared deviations (theirs), or from the energy of "
        "exploration.method, which is all that secure sums reveal",
    )
    matrix: Literal["once", "per_round"] = Field(
        default="once",
        description="one G of all explorers; per_round: anew after every round, of those explorers who took part in it "
        "(theirs where all explore)",
    )
    permuted: bool = Field(default=False, description="control: the values of G in each tensor change places at random")

    @model_validator(mode="after")
    def _of_single_explorers(self) -> FedLEx:
        if self.matrix == "per_round" and self.landscape == "energy":
            raise ValueError(
                "matrix = per_round needs what single explorers found, and landscape = energy is one for all of them; "
                "set landscape: deviations, or matrix: once"
            )
        return self

    @property
    def needs_explorers(self) -> bool:
        """Energy is a sum; deviations are rows."""
        return self.landscape == "deviations"

    @property
    def remembers_explorers(self) -> bool:
        """With a matrix per round."""
        return self.matrix == "per_round"

    def renews(self, round_: int, rounds: int) -> bool:
        """In every round, with a matrix per round."""
        return self.matrix == "per_round"

    @property
    def hooks(self) -> frozenset[str]:
        """One of the two."""
        return frozenset({"gradient" if self.apply == "gradient" else "step"})

    def broadcast(self, view: BroadcastView) -> Float[Tensor, " params"]:
        """G, 1 on what is not trained. Where nobody of the round before has explored, it stays as it was."""
        found = view.exploration
        assert found is not None
        x, rows = found.energy, found.deviations
        if view.round > 1:
            rows = rows[torch.isin(found.clients, torch.tensor(view.participants, dtype=torch.long)).to(rows.device)]
            if not len(rows):
                assert view.before is not None
                return view.before
        if self.landscape == "deviations" and len(rows):
            x = (summed_squares(rows) / len(rows)).to(found.energy)
        matrix = torch.ones_like(x)
        for number, segment in enumerate(view.layout):
            if not segment.trained:
                continue
            own = NORMALISATIONS[self.normalisation](x[segment.slice])
            own = own / own.mean() if self.rescale == "mean" else own
            if self.permuted:
                own = own[torch.randperm(len(own), generator=view.generator(number)).to(own.device)]
            matrix[segment.slice] = own
        return matrix

    def gradient(self, view: LocalView, gradients: list[Tensor]) -> list[Tensor]:
        """g G."""
        return _scaled(gradients, view)

    def step(self, view: LocalView, steps: list[Tensor]) -> list[Tensor]:
        """The update times G."""
        return _scaled(steps, view)


def _scaled(tensors: list[Tensor], view: LocalView) -> list[Tensor]:
    assert view.broadcast is not None
    torch._foreach_mul_(tensors, view.broadcast)
    return tensors
