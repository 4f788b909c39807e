"""A round of scored updates through the parties: clients clip and share, the server scores what it may know of them."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.agreement import AgreementWeighted
from autoflip_secure.fixed_point import FixedPoint, within
from autoflip_secure.interfaces import Aggregator, RoundView
from autoflip_secure.radial import RadialAgreement
from autoflip_secure.secret_rows import LiveRows
from autoflip_secure.secure_rounds import encoded
from autoflip_secure.secure_sum import Revealed, Scored, SecureSum, SharedBatch
from autoflip_secure.sum_error import WatchedRows
from defenses.secure_scores import (
    LEAST_CROWD,
    SecretUpdates,
    SecureView,
    clipped,
    needs_magnitudes,
    norm_bound,
    secure_aggregate,
    update_points,
)


def score_secretly(
    sums: SecureSum, aggregator: Aggregator, state: Any, view: RoundView, obeys: Bool[Tensor, " clients"],
    draws: torch.Generator, width: int | None,
) -> Scored:  # fmt: skip
    """See :meth:`autoflip_secure.secure_sum.SecureSum.score`."""
    assert isinstance(aggregator, AgreementWeighted | RadialAgreement)
    live = view.mask & view.layout.trainable.to(view.mask.device)
    bound = norm_bound(state, view.weights * live)
    points = update_points(bound, view.layout.size)
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
    kinds = [rows, [row.abs() for row in rows]] if needs_magnitudes(aggregator) else [rows]
    batches, more = _shared(sums, kinds, points, ids, fits, view.mask)
    events += more
    here = batches[0].clients
    taken = torch.tensor([k in here for k in ids], dtype=torch.bool, device=fits.device)
    if len(here) < LEAST_CROWD:
        events.append(f"no step: {len(here)} clients reached the parties, and their sum would hide nothing")
        found, watched = None, None
    else:
        watched = WatchedRows(batches[0], points, [rows[ids.index(k)] for k in here], view.mask)
        through = [LiveRows(batch, view.mask) for batch in (watched, *batches[1:])]
        secret = SecretUpdates(through[0], points, bound, through[1] if len(through) > 1 else None)
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
    events += [event for batch in batches for event in batch.events if event not in more]
    revealed = Revealed(
        sums=sum(batch.revealed.sums for batch in batches),
        products=sum(batch.revealed.products for batch in batches),
        norms=sum(batch.revealed.norms for batch in batches),
    )
    for batch in batches:
        batch.forget()
    return Scored(found, taken if found is not None else torch.zeros_like(taken), revealed, tuple(events), watched)


def _shared(
    sums: SecureSum, kinds: list[list[Tensor]], points: FixedPoint, ids: list[int], fits: Tensor, mask: Tensor
) -> tuple[list[SharedBatch], list[str]]:
    """Every kind of row of the same clients: who drops out between two of them is left out of both."""
    events: list[str] = []
    able = [place for place, ok in enumerate(fits.tolist()) if ok]
    while True:
        clients = tuple(ids[place] for place in able)
        batches = [
            sums.share(encoded(points, [rows[place] for place in able], clients, mask), clients) for rows in kinds
        ]
        events += [event for batch in batches for event in batch.events]
        common = [place for place in able if all(ids[place] in batch.clients for batch in batches)]
        if all(len(batch.clients) == len(common) for batch in batches):
            return batches, events
        for batch in batches:
            batch.forget()
        able = common
