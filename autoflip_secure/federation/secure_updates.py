r"""A round of updates through the parties: clients clip and share, the server decides by what it may read.

For scores clients clip u_k to the public norm B, round it to integers and share it. B leaves room for a liar's norm of
16 B inside the ring; larger norms, which could wrap around to a small one, show in products with public random signs (4
a client). A mean asks for one sum and nothing else, so there clients share what they have.

What knows rows (:func:`score_secretly`) and what decides (:func:`secure_aggregate`) are apart: the server's side is
handed a :class:`PublicView` and rows in shares, and asks clients by a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.federation.secure_clients import clipped, norm_bound, own_cosine, update_points
from autoflip_secure.federation.secure_rounds import Error, encoded, read_sum
from autoflip_secure.interfaces import Aggregate, Aggregator, PublicView, ReadingAggregator, RowReader
from autoflip_secure.secure_rows.account import Account, allowance
from autoflip_secure.secure_rows.fixed_point import FixedPoint, within
from autoflip_secure.secure_rows.secret_reader import SecretReader
from autoflip_secure.secure_rows.secret_rows import LiveRows, SecretRows
from autoflip_secure.secure_rows.secure_sum import LEAST_CROWD, Revealed, SecureSum
from autoflip_secure.secure_rows.sum_error import WatchedRows


@dataclass(frozen=True)
class SecretUpdates:
    """The updates of a cohort in shares, and how its clients are asked for what they say of themselves."""

    rows: SecretRows  # u_k
    points: FixedPoint
    bound: float  # B
    ask: Callable[[Tensor], Tensor] | None = None  # a public vector -> (clients,); see :func:`.own_cosine`


@dataclass(frozen=True)
class Scored:
    """One round's scores and step as the server learns them."""

    aggregate: Aggregate | None  # of the clients in it; None: no step
    taken: Bool[Tensor, " clients"]
    revealed: Revealed
    events: tuple[str, ...]
    error: Error | None = None  # for the record: how exact the sum is


def secure_aggregate(
    aggregator: Aggregator, state: Any, view: PublicView, updates: SecretUpdates, draws: torch.Generator,
    width: int | None = 256,
) -> Aggregate:  # fmt: skip
    """Let ``aggregator`` decide on secret rows.

    Args:
        aggregator: one without an :meth:`~autoflip_secure.interfaces.Aggregator.obstacle`.
        state: its state; the new one is in the result.
        view: the round.
        updates: rows of :func:`~.secure_clients.clipped` updates, encoded with :func:`~.secure_clients.update_points`.
        draws: source of public signs and sketches, not known to the clients before their shares are sent.
        width: buckets of the sketch for each group of coordinates; None: exact norms, one Beaver product a coordinate.

    Returns:
        As from ``aggregator.decide``. A client whose row cannot be one of clipped updates has score and trust 0 and
        leaves no memory. With fewer than two clients to be trusted there is no step: it would show one's update.

    Raises:
        InputError: the aggregator needs more than may be revealed, or asks clients for what they do not say.
    """
    return _decided(aggregator, state, view, updates, draws, width)[0]


def _decided(
    aggregator: Aggregator, state: Any, view: PublicView, updates: SecretUpdates, draws: torch.Generator,
    width: int | None,
) -> tuple[Aggregate, Account]:  # fmt: skip
    """The decision, and what was revealed for it."""
    reason = aggregator.hindrance()
    if reason is not None or not isinstance(aggregator, ReadingAggregator):
        raise InputError(f"secure sum: {reason}")
    outside = aggregator.foreign
    account = Account(allowance(view.layout, view.live, outside=outside))
    reader = SecretReader(
        updates.rows, updates.points, view.live, draws, width, ask=updates.ask, account=account, outside=outside
    )
    valid = reader.check(updates.bound)
    here = valid.to(view.clients.device)
    if not bool(valid.any()):
        nobody = torch.zeros_like(view.samples)
        scores = nobody if aggregator.scores_clients else None
        return Aggregate(torch.zeros_like(view.weights), nobody, scores, state), account
    found = aggregator.decide(state, reader, _of(view, here))
    trust = found.trust if account.sums else torch.zeros_like(found.trust)  # a sum that would hide nothing was not read
    return replace(
        found,
        trust=_spread(trust, here),
        scores=None if found.scores is None else _spread(found.scores, here),
        statistics={name: _spread(value, here) for name, value in found.statistics.items()},
    ), account


def _of(view: PublicView, here: Bool[Tensor, " clients"]) -> PublicView:
    """The round of some of the clients."""
    return replace(view, clients=view.clients[here], samples=view.samples[here], shrinkage=view.shrinkage[here])


def _spread(values: Tensor, valid: Tensor) -> Tensor:
    """Values of the valid clients in their places among all; 0 elsewhere."""
    spread = values.new_zeros(len(valid))
    spread[valid.to(values.device)] = values
    return spread


def score_secretly(
    sums: SecureSum, aggregator: Aggregator, state: Any, view: PublicView, updates: Float[Tensor, "clients params"],
    honest: Bool[Tensor, " clients"], draws: torch.Generator, width: int | None,
) -> Scored:  # fmt: skip
    """What ``aggregator`` makes of updates that nobody sees.

    Args:
        sums: session with the parties.
        aggregator: one that can do with sums and a few numbers about each client.
        state: its state.
        view: the round as the server knows it.
        updates: the clients' own, which leave them in shares only.
        honest: who clips its update as it should.
        draws: source of public checks and sketches.
        width: buckets of a sketch; None: exact norms.
    """
    assert isinstance(aggregator, ReadingAggregator)
    live, sent = view.live, view.mask & view.layout.sent.to(view.mask.device)
    bound = norm_bound(aggregator.typical_norm(state), view.weights * live)
    points = update_points(bound, int(view.layout.sent.sum()))
    rows = [
        clipped(row[None], bound, live)[0] if fine else row.double()
        for row, fine in zip(updates, honest.tolist(), strict=True)
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
        events += shared.events[told:]
        shared.forget()
        return Scored(None, torch.zeros_like(taken), shared.revealed, tuple(events))

    def ask(vector: Tensor) -> Tensor:
        """Every client says one number of its own row."""
        sums.tell(len(own))
        return torch.tensor([own_cosine(row, vector, live) for row in own], dtype=torch.float64)

    watched = WatchedRows(shared, points)
    secret = SecretUpdates(LiveRows(watched, sent), points, bound, ask)
    found, account = _decided(aggregator, state, _of(view, taken), secret, draws, width)
    events += shared.events[told:]  # about square pairs
    shared.forget()
    return Scored(found, taken, account.revealed, tuple(events), lambda: watched.error(own, sent))


def sum_secretly(
    sums: SecureSum, aggregator: Aggregator, state: Any, view: PublicView, updates: Float[Tensor, "clients params"],
    *, noised: bool,
) -> Scored:  # fmt: skip
    """What a linear aggregator makes of updates that nobody sees: of a mean the server learns nothing but the sum.

    Args:
        sums: session with the parties.
        aggregator: a linear one.
        state: its state.
        view: the round as the server knows it.
        updates: the clients' own, which leave them in shares only.
        noised: every row has a share of the noise that the ledger counts in the sum.
    """
    assert isinstance(aggregator, ReadingAggregator)
    found: Aggregate | None = None

    def decide(reader: RowReader, taken: Tensor) -> None:
        nonlocal found
        found = aggregator.decide(state, reader, _of(view, taken))

    live, clients = view.mask & view.layout.sent.to(view.mask.device), tuple(view.clients.tolist())
    taken, revealed, events, error = read_sum(
        clients, updates, view.samples.round().long(), live, sums, decide, noised=noised
    )
    return Scored(found, taken, revealed, events, error)
