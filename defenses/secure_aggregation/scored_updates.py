"""A round of scored updates through the parties: clients clip and share, the server scores what it may know of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.defenses.secure_aggregation.scored_rows import (
    clipped,
    needs_claims,
    norm_bound,
    own_agreement,
    update_points,
)
from autoflip_secure.defenses.secure_aggregation.scores import SecretUpdates, SecureView, secure_aggregate
from autoflip_secure.federation.secure_rounds import encoded
from autoflip_secure.interfaces import Aggregator, RoundView
from autoflip_secure.secure_rows.fixed_point import within
from autoflip_secure.secure_rows.secret_rows import LiveRows
from autoflip_secure.secure_rows.secure_sum import LEAST_CROWD, Scored, SharedBatch
from autoflip_secure.secure_rows.sum_error import WatchedRows


@runtime_checkable
class _Sums(Protocol):
    """What scoring asks of a session."""

    def share(self, rows: Tensor, clients: tuple[int, ...]) -> SharedBatch: ...

    def tell(self, numbers: int) -> None: ...


def score_secretly(
    sums: _Sums, aggregator: Aggregator, state: Any, view: RoundView, honest: Bool[Tensor, " clients"],
    draws: torch.Generator, width: int | None,
) -> Scored:  # fmt: skip
    """See :meth:`autoflip_secure.secure_rows.secure_sum.SecureSum.score`."""
    assert isinstance(aggregator, AgreementWeighted | RadialAgreement)
    live = view.mask & view.layout.trained.to(view.mask.device)
    sent = view.mask & view.layout.sent.to(view.mask.device)
    bound = norm_bound(state, view.weights * live)
    points = update_points(bound, int(view.layout.sent.sum()))
    rows = [
        clipped(row[None], bound, live)[0] if fine else row.double()
        for row, fine in zip(view.updates, honest.tolist(), strict=True)
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
