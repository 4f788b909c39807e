r"""FedMask, in the reading of SenSys 2021: every client trains a mask of its own over frozen weights, and sends bits.

.. math::
    w_k = \theta \odot m_k \odot h_k, \quad m_k = [\sigma(s_k) \ge 0.5], \qquad
    a_j = \frac{\sum_k h_{kj} m_{kj}}{\sum_k h_{kj}} \text{ where } \sum_k h_{kj} \ge 2, \\
    s_{kj} \leftarrow \mathrm{logit}\big(\mathrm{clip}(a_j, c, 1 - c)\big) \text{ on } h_k
    \text{ where } a_j \text{ is known, else as the client left it}

The structure h_k is cut once, by the local rule ``one_shot``, after the first epoch of a client's first round. The
output layer and biases (and parameters of normalisation) are trained by each client for itself, and never sent. After
the last round every client trains its live weights for ``tuning_epochs``, and keeps them.

The AutoFLIP paper cites a "FedMask" (Gong et al., ACM MM 2021) of which no trace was found; the public FedMask of that
year is A. Li et al., SenSys 2021 (doi 10.1145/3485730.3485929), and this is that one.

**Evidence**: known from the abstract and notes only; the authors published no code. Theirs: frozen random weights, a
straight-through estimator, a structure by one-shot pruning, bits, aggregation over what overlaps, tuning at the end.
Ours, and so marked: signed constants ± sqrt(2 / n), scores that begin at 0 (everything live), c, the overlap of at
least two *in one round* (the server keeps the latest such mean), that who comes anew begins from its own scores, and
all defaults. ``training.lr`` is that of scores:
0.1 is our choice for plain SGD on small models.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import (
    ClientPruneView,
    FrozenStart,
    OwnMask,
    Role,
    SeedView,
    TrainedMask,
    straight_through,
)
from autoflip_secure.interfaces.trained_mask import coordinates
from autoflip_secure.local_rules.one_shot import masked_tensor
from autoflip_secure.models.layout import Segment
from autoflip_secure.pruning.signed_constant import signed_constants

_TRAINED = "trained"


class FedMask(TrainedMask):
    """FedMask (SenSys 2021): a binary mask per client over frozen weights, averaged where structures overlap."""

    kind: Literal["fedmask"] = "fedmask"
    source: ClassVar[str] = "Li et al. 2021 (FedMask), SenSys, doi 10.1145/3485730.3485929; our reading of it"
    own: ClassVar[bool] = True
    client_rows: ClassVar[Mapping[str, Literal["bits", "numbers"]]] = {_TRAINED: "numbers"}
    kept: ClassVar[str] = _TRAINED
    least_holders: ClassVar[int] = 2
    clip: Annotated[
        float, Field(gt=0, lt=0.5, description="means of masks are taken into [clip, 1 - clip] to make scores of them")
    ] = 0.02
    gain: Annotated[float, Field(gt=0, le=100, description="frozen weights are ± gain / sqrt(inputs of a unit)")] = (
        sqrt(2)
    )
    tuning_epochs: Annotated[
        int, Field(ge=0, le=1000, description="epochs in which clients train their live weights, after the last round")
    ] = 1

    tuning_lr: Annotated[float, Field(gt=0, le=1e6, description="learning rate of those epochs, of weights again")] = (
        0.01
    )

    @property
    def tuning(self) -> tuple[int, float]:
        """As configured."""
        return self.tuning_epochs, self.tuning_lr

    def role(self, segment: Segment) -> Role:
        """Weights are scored but for the output layer's; whatever else is trained is personal."""
        return "scored" if masked_tensor(segment) else "personal"

    def begin(self, view: SeedView) -> FrozenStart:
        """Signed constants; probabilities of 0.5, of which none is known."""
        theta = signed_constants(view, self.gain, masked_tensor)
        for segment in view.layout:
            if segment.trained and not masked_tensor(segment):
                theta[segment.slice] = view.initial[segment.slice]
        return FrozenStart(theta, torch.where(coordinates(self, view.layout, "scored"), 0.5, theta))

    def mask_of(
        self, scores: Float[Tensor, "*models"], uniform: Float[Tensor, "*models"] | None
    ) -> Float[Tensor, "*models"]:
        """[s >= 0]."""
        return straight_through((scores >= 0).to(scores), scores.sigmoid())

    def scores(self, held: Float[Tensor, "*some"]) -> Float[Tensor, "*some"]:
        """logit(clip(a))."""
        return held.clamp(self.clip, 1 - self.clip).logit()

    def live(self, held: Float[Tensor, "*some"], uniform: Float[Tensor, "*some"]) -> Bool[Tensor, "*some"]:
        """[a >= 0.5]: a view of everybody's mask; the model of nobody, as output layers are personal."""
        return held >= 0.5

    def client_mask(self, view: ClientPruneView) -> OwnMask:
        """The mask as it is; scores from the means that are known, else as the client left them."""
        scored, own = coordinates(self, view.layout, "scored").to(view.mask.device), view.states[_TRAINED]
        if not bool(own.any()):  # its first round
            own = torch.where(scored, 0.0, view.initial)
        elif view.known is not None:
            own = torch.where(scored & view.known, self.scores(view.weights), own)
        shared = coordinates(self, view.layout, "shared").to(view.mask.device)
        return OwnMask(view.mask, torch.where(shared, view.weights, own))
