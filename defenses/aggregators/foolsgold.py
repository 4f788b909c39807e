r"""FoolsGold (Fung et al. 2020, Algorithm 1): clients whose histories point the same way share the say of one.

Of every client k the server remembers the sum of its updates, :math:`H_k`. Over all clients seen so far, with
:math:`v_k = \max(0, \max_{l \ne k} \cos(H_k, H_l))`, *pardoning* is for whoever is less alike than its like:

.. math::
    c_{kl} = \cos(H_k, H_l) \min(1, v_k / v_l), \qquad
    \beta_k = 1 - \max(0, \max_{l \ne k} c_{kl}), \qquad
    \alpha_k = \mathrm{clip}\bigl(\kappa (\ln \tfrac{\beta_k / \max \beta}{1 - \beta_k / \max \beta} + \tfrac12),
    0, 1\bigr)

and the step is the mean over the cohort weighted with :math:`\alpha_k`. The paper adds the weighted updates up; scaled
to sum 1 they make a step of the size that the other rules have. All coordinates count alike in the cosines: the paper's
weights for indicative features are those of its softmax model. Where everybody is somebody's like there is no step.

What is punished is being alike. So clients whose data are alike are punished too: under IID data it hurts by design,
and a liar who is alone, or whose like has not come yet, has the full say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import shares
from autoflip_secure.defenses.aggregators.cosines import cosines, products
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, RoundView
from autoflip_secure.interfaces.known_attacks import OF_HISTORIES, Known
from autoflip_secure.models.layout import Layout

ALIKE = 1e-12  # of 1 - cos: what is nearer is the same direction, in single precision


@dataclass(frozen=True)
class Histories:
    """H of every client seen so far, and their products; each row is kept once, whatever round it is of."""

    sums: Mapping[int, Float[Tensor, " params"]] = field(default_factory=dict)
    gram: Float[Tensor, "clients clients"] = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    places: Mapping[int, int] = field(default_factory=dict)  # of a client in ``gram``

    def after(self, clients: list[int], rows: Float[Tensor, "clients params"]) -> Histories:
        """With one more round."""
        new = torch.stack([row + self.sums[k] if k in self.sums else row for k, row in zip(clients, rows, strict=True)])
        sums = {**self.sums, **dict(zip(clients, new, strict=True))}
        places = {**self.places}
        for k in clients:
            places.setdefault(k, len(places))
        gram = self.gram.new_zeros(len(places), len(places))
        gram[: len(self.gram), : len(self.gram)] = self.gram
        own = [places[k] for k in clients]
        for k, place in places.items():  # one at a time: all of them together are as large as the population
            column = products(new, sums[k][None]).squeeze(1).to(gram)
            gram[own, place] = column
            gram[place, own] = column
        return Histories(sums, gram, places)


def contributions(gram: Float[Tensor, "clients clients"], confidence: float) -> Float[Tensor, " clients"]:
    """alpha of every client, in [0, 1], from the products of their histories; all 0 where everybody has its like."""
    alike = cosines(gram).fill_diagonal_(0)
    most = alike.amax(1)  # not below 0, that of the client with itself
    pardoned = torch.where(most[:, None] < most, most[:, None] / most.where(most > 0, 1.0), 1.0)
    unlike = 1 - (alike * pardoned).amax(1)
    unlike = unlike.where(unlike > ALIKE, 0.0)
    share = unlike / unlike.max() if bool(unlike.any()) else unlike
    return (confidence * (share.logit() + 0.5)).clamp(0, 1)


class FoolsGold(Aggregator):
    """Mean weighted by how unlike a client's history is to all others'; against sybils. Hurts IID data by design."""

    kind: Literal["foolsgold"] = "foolsgold"
    source: ClassVar[str] = (
        "Fung et al. 2020, Algorithm 1 (FoolsGold): alpha_k = kappa (logit of 1 - max_l cos(H_k, H_l), pardoned and "
        "rescaled, + 1/2); sum_k alpha_k u_k / sum_k alpha_k"
    )
    scores_clients: ClassVar[bool] = True
    remembers: ClassVar[Literal["", "steps", "clients", "rows"]] = "rows"
    known_by: ClassVar[Known] = OF_HISTORIES
    confidence: Annotated[float, Field(gt=0, le=1e6, description="kappa, how sharply it tells like from unlike")] = 1.0

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> Histories:
        """Nobody seen."""
        return Histories()

    def aggregate(self, state: Histories, view: RoundView) -> Aggregate:
        """One round; scores are alpha, and trust is alpha scaled to sum 1."""
        clients = view.clients.tolist()
        state = state.after(clients, view.directions)
        alpha = contributions(state.gram, self.confidence)
        scores = alpha[[state.places[k] for k in clients]].to(view.samples)
        trust = shares(scores)
        return Aggregate(trust @ view.updates, trust, scores, state)
