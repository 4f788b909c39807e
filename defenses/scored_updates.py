"""A round of scored updates through the parties: clients clip and share, the server scores what it may know of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.agreement import AgreementWeighted
from autoflip_secure.fixed_point import within
from autoflip_secure.interfaces import Aggregator, RoundView
from autoflip_secure.radial import RadialAgreement
from autoflip_secure.secret_rows import LiveRows
from autoflip_secure.secure_rounds import encoded
from autoflip_secure.secure_sum import Scored
from autoflip_secure.sum_error import WatchedRows
from defenses.secure_scores import (
    LEAST_CROWD,
    SecretUpdates,
    SecureView,
    clipped,
    needs_claims,
    norm_bound,
    own_agreement,
    secure_aggregate,
    update_points,
)

if TYPE_CHECKING:
    from defenses.secure_aggregation import Session


def score_secretly(
    sums: Session, aggregator: Aggregator, state: Any, view: RoundView, obeys: Bool[Tensor, " clients"],
    draws: torch.Generator, width: int | None,
) -> Scored:  # fmt: skip
    """See :meth:`autoflip_secure.secure_sum.SecureSum.score`."""
    assert isinstance(aggregator, AgreementWeighted | RadialAgreement)
    live = view.mask & view.layout.trained.to(view.mask.device)
    sent = view.mask & view.layout.sent.to(view.mask.device)
    bound = norm_bound(state, view.weights * live)
    points = update_points(bound, int(view.layout.sent.sum()))
    rows = [
        clipped(row[None], bound, live)[0] if fine else row.double()
        for row, fine in zip(view.updates, obeys.tolist(), strict=True)
    ]
    fits = torch.tensor([within(row, points.bound) for row in rows])
    ids = view.clients.tolist()
    events = [
        f"client {ids[k]} sent a value beyond +-{points.bound:.3g}: left out of the secure sum"
        for k in (~fits).nonzero().squeeze(1).tolist()
    ]
    able = [place for place, ok in enumerate(fits.tolist()) if ok]
    clients = tuple(ids[place] for place in able)
    shared = sums.share(encoded(points, [rows[place] for place in able], clients, sent), clients)
    events += shared.events
    told = len(shared.events)
    here, own = shared.clients, [rows[ids.index(k)] for k in shared.clients]
    taken = torch.tensor([k in here for k in ids], dtype=torch.bool, device=fits.device)
    if len(here) < LEAST_CROWD:
        events.append(f"no step: {len(here)} clients reached the parties, and their sum would hide nothing")
        found, watched = None, None
    else:
        watched = WatchedRows(shared, points, own, sent)
        claims = None
        if needs_claims(aggregator):
            assert view.guidance is not None
            root = (view.guidance.energy * live).sqrt()
            claims = torch.tensor([own_agreement(row, root, live) for row in own], dtype=torch.float64)
            sums.tell(len(claims))
        secret = SecretUpdates(LiveRows(watched, sent), points, bound, claims)
        seen = SecureView(
            clients=view.clients[taken],
            samples=view.samples[taken],
            weights=view.weights,
            mask=view.mask,
            guidance=view.guidance,
            layout=view.layout,
            shrinkage=view.shrinkage[taken],
        )
        found = secure_aggregate(aggregator, state, seen, secret, draws, width)
    events += shared.events[told:]  # about square pairs
    revealed = shared.revealed
    if found is not None and needs_claims(aggregator):
        revealed = replace(revealed, products=revealed.products + 1)
    shared.forget()
    return Scored(found, taken if found is not None else torch.zeros_like(taken), revealed, tuple(events), watched)
