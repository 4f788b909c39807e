r"""FedRTS (2025): every weight has a posterior of being worth its place, fed by votes, and masks are drawn from it.

Each hidden weight j has a Beta(a_j, b_j), at first Beta(1, 1). With K live weights in its tensor and
:math:`\kappa = K - k_l` (the timetable of :mod:`.swapping`), after round t:

.. math::
    \text{live: } X_j &= (1 - \gamma)\,[j \in \mathrm{top}_\kappa |w|] + \gamma \textstyle\sum_k p_k
    [j \in \mathrm{top}_\kappa |w_k|] \\
    \text{dead, in rounds that move the mask: } X_j &= (1 - \gamma)/2 + \gamma \textstyle\sum_k p_k
    [j \in \mathrm{top}_{K - \kappa} |g_k|] \\
    a_j &\leftarrow a_j + r X_j, \qquad b_j \leftarrow b_j + r (1 - X_j)

and in rounds that move it, the mask becomes the K largest draws of the posteriors in each tensor (Thompson sampling).
The first mask is random, by ERK. w is the global model after the round; w_k a client's own after its local training,
and g_k the gradient of its samples there, at dead weights. Clients send bits: one a live weight in every round up to
the last that moves the mask, and one a hidden weight in rounds that move it. The server needs their weighted sum, so a
client moves no more than p_k of a vote; one client can change a vector of P votes by sqrt(P), their bound.

Evidence: read in the authors' public code. Theirs: gamma 0.5, r 10 (1 in their README), R 10, alpha 0.2, T of 300
rounds (here 0.6 of the rounds). Ours: a density of 0.1, as ``fedtiny``; gradients over all samples of a client, not one
batch; no votes after the last round that moves the mask, which could change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Channel, ChannelRequest, ClientView, PruneView
from autoflip_secure.pruning.erk import random_erk
from autoflip_secure.pruning.hidden_cuts import erk_counts
from autoflip_secure.pruning.swapping import Swapping

VOTES = "votes"


class FedRTS(Swapping):
    """Clients vote on what to keep and to grow; masks are drawn from what the server has learned of each weight."""

    kind: Literal["fedrts"] = "fedrts"
    source: ClassVar[str] = "FedRTS (NeurIPS 2025): Thompson sampling of sparse masks"
    dense_gradients: ClassVar[bool] = True
    client_weight: Annotated[
        float, Field(ge=0, le=1, description="gamma: weight of the clients' votes; the rest is the server's own view")
    ] = 0.5
    strength: Annotated[float, Field(gt=0, le=1e6, description="r: how much one round counts in the posterior")] = 10.0

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """A bit for each live weight, or for each hidden one where the mask moves; none after its last move."""
        if not 0 < asked.round <= self.last_move(asked.rounds):
            return ()
        hidden = int(asked.layout.prunable.sum())
        size = hidden if self.moves(asked.round, asked.rounds) else sum(erk_counts(asked.layout, self.density).values())
        return (Channel(VOTES, size, "sum", bound=size**0.5, bits=1),) if hidden else ()

    def measure(self, channel: Channel, view: ClientView) -> Float[Tensor, "clients votes"]:
        """1 for what the client would keep, and where the mask moves for what it would grow."""
        votes, ends, live = torch.zeros_like(view.updates), (view.start + view.updates).abs(), view.mask[0]
        moves = self.moves(view.round, view.rounds)
        gradients = view.gradients("end").abs() if moves else votes
        for segment in view.layout.hidden:
            places = segment.start + live[segment.slice].nonzero().squeeze(1)
            moved = self.moved(len(places), view.round, view.rounds)
            _vote(votes, ends, places, len(places) - moved)
            if moves:
                _vote(votes, gradients, segment.start + (~live[segment.slice]).nonzero().squeeze(1), moved)
        prunable = view.layout.prunable.to(live.device)
        return votes[:, prunable if moves else prunable & live]

    def remember(self, view: PruneView) -> Mapping[str, Tensor]:
        """The posteriors after this round's votes: ``alpha`` and ``beta``, of every coordinate."""
        if view.round == 0:
            return {"alpha": torch.ones_like(view.weights), "beta": torch.ones_like(view.weights)}
        votes = view.channels.get(VOTES)
        if votes is None:
            return view.memory
        prunable, moves = view.layout.prunable.to(view.mask.device), self.moves(view.round, view.rounds)
        asked = prunable if moves else prunable & view.mask
        own = torch.full_like(view.weights, 0.5)
        for segment in view.layout.hidden:
            places = segment.start + view.mask[segment.slice].nonzero().squeeze(1)
            kept = len(places) - self.moved(len(places), view.round, view.rounds)
            own[places] = 0.0
            _vote(own[None], view.weights.abs()[None], places, kept)
        seen = (1 - self.client_weight) * own + self.client_weight * view.layout.spread(votes.mean, asked)
        alpha, beta = view.memory["alpha"], view.memory["beta"]
        return {
            "alpha": torch.where(asked, alpha + self.strength * seen, alpha),
            "beta": torch.where(asked, beta + self.strength * (1 - seen), beta),
        }

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """Random in round 0; drawn from the posteriors, at (PRUNING, round, number of the tensor), where it moves."""
        if view.round == 0:
            return random_erk(view, self.density)
        if VOTES not in view.channels or not self.moves(view.round, view.rounds):
            return view.mask
        drawn = view.mask.clone()
        for number, segment in enumerate(view.layout.hidden):
            source = np.random.default_rng(view.generator(view.round, number).initial_seed())
            alpha, beta = (view.memory[name][segment.slice].double().cpu().numpy() for name in ("alpha", "beta"))
            order = torch.from_numpy(source.beta(alpha, beta)).argsort(descending=True, stable=True)
            drawn[segment.slice] = False
            drawn[segment.start + order[: int(view.mask[segment.slice].sum())].to(drawn.device)] = True
        return drawn


def _vote(votes: Tensor, scores: Tensor, places: Tensor, count: int) -> None:
    """1 in each row of ``votes`` (rows, params) at the ``count`` of ``places`` with that row's largest scores."""
    best = scores[:, places].argsort(dim=1, descending=True, stable=True)[:, :count]
    votes.scatter_(1, places[best], 1.0)
