r"""The engine's side of secure sums: rows are encoded and shared, sums come back and are divided in the open.

.. math:: \Delta = 2^{-b} \Big( \sum_k n_k\, \mathrm{round}(2^b u_k) \bmod 2^{64} \Big) \Big/ \sum_k n_k

with public numbers of samples n_k, as in a plain mean. Only live coordinates travel. The number of bits b follows from
a public bound on what an entry may be; a client that exceeds it is left out and named.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.algorithm.linear_exploration import energy_points, energy_rows, linear_landscape
from autoflip_secure.interfaces import Exploration
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import LiveRows
from autoflip_secure.secure_rows.secure_sum import LEAST_CROWD, Revealed, SecureSum, SecureTransfer, SharedBatch
from autoflip_secure.secure_rows.sum_error import WatchedRows
from autoflip_secure.secure_rows.sum_reader import SumReader

LARGEST_ENTRY = 256.0
"""Of an update; a client that sends more has diverged."""
Error = Callable[[], float | None]
"""How far a sum is from that of the rows themselves; asked for when all is done, for it takes time of its own."""
NEVER = 1e-20
"""Chance that noise alone takes any entry of an honest client's update beyond :data:`LARGEST_ENTRY` in a whole run. A
mechanism that differs from a proven one with this chance has a delta that is larger by at most (1 + e^epsilon) times
it, which at epsilon 30 is 1e-7."""


def largest_clip(noise: float, entries: int) -> float:
    r"""Largest clip norm C with which clipped and noised rows stay within :data:`LARGEST_ENTRY`, but for :data:`NEVER`.

    .. math:: C (1 + \tau z) \le 256, \quad n\, e^{-z^2/2} = 10^{-20}, \quad P(|N(0, 1)| > z) \le e^{-z^2/2}

    Args:
        noise: tau, standard deviation of the noise on an entry / C.
        entries: n, that honest clients send in the whole run.
    """
    return LARGEST_ENTRY / (1 + noise * math.sqrt(2 * math.log(max(1, entries) / NEVER)))


@dataclass(frozen=True)
class SecretMean:
    """One round's mean as the server learns it."""

    delta: Float[Tensor, " params"]
    taken: Bool[Tensor, " clients"]  # whose rows are in it; nobody's: no step
    revealed: Revealed
    events: tuple[str, ...]
    error: Error | None = None  # how exact the sum is


@contextlib.contextmanager
def timed(sums: SecureSum) -> Iterator[Callable[[int, Revealed, Error | None], SecureTransfer]]:
    """What passes within as a :class:`SecureTransfer`, given the number of rows, what was revealed, and how exact."""
    began, before = time.perf_counter(), sums.traffic

    def transfer(clients: int, revealed: Revealed, error: Error | None) -> SecureTransfer:
        seconds = time.perf_counter() - began
        return SecureTransfer(clients, revealed, sums.traffic - before, seconds, None if error is None else error())

    yield transfer


def encoded(
    points: FixedPoint,
    rows: Sequence[Float[Tensor, " params"]],
    clients: tuple[int, ...],
    live: Bool[Tensor, " params"],
) -> Int[Tensor, "clients sent"]:
    """Every client's live coordinates as ring elements, on the CPU, one client at a time as each would do it."""
    everything = bool(live.all())
    found = torch.empty(len(rows), int(live.sum()), dtype=torch.int64)
    for place, (client, row) in enumerate(zip(clients, rows, strict=True)):
        found[place] = points.encode((row if everything else row[live])[None], (client,))[0]
    return found


def secret_landscape(
    clients: tuple[int, ...], deviations: Float[Tensor, "explorers params"], samples: Float[Tensor, " explorers"],
    losses: list[list[float]], reveal: str, draws: torch.Generator, sums: SecureSum,
) -> tuple[Exploration, Revealed, list[str], Error | None]:  # fmt: skip
    """The landscape of explorers whose deviations nobody sees; the same, to the bit, as ``method: linear`` in the open.

    Args:
        deviations: d_k, finite; each explorer encodes and splits its own.
        losses: training loss per explorer and epoch, kept for the record.
        draws: source of the public checks.
    """
    points = energy_points(max(1, len(clients)))
    shared: SharedBatch | None = None
    kept = clients
    energies = list(energy_rows(deviations))
    if len(clients) >= LEAST_CROWD:
        everywhere = torch.ones(deviations.shape[1], dtype=torch.bool, device=deviations.device)
        shared = sums.share(encoded(points, energies, clients, everywhere), clients)
        kept = shared.clients
    events = [f"exploration: {event}" for event in shared.events] if shared is not None else []
    rows = [clients.index(client) for client in kept]
    told = [losses[row] for row in rows]
    ids = torch.tensor(kept, dtype=torch.long, device=deviations.device)
    nothing = deviations[:0]
    if shared is None or len(kept) < LEAST_CROWD:
        events.append(
            f"exploration: {len(kept)} explorers reached the parties, whose sum hides nothing: flat landscape"
        )
        return explore(ids, samples[rows], nothing, "linear", told), Revealed(), events, None
    watched, own = WatchedRows(shared, points), [energies[row] for row in rows]
    seen = linear_landscape(watched, points, reveal, draws)
    revealed = shared.revealed
    shared.forget()
    events += [f"exploration: client {k} sent shares of what is no energy: left out" for k in seen.invalid]
    energy, agreement = (x.to(deviations) for x in (seen.energy, seen.agreement))
    history = tuple(map(tuple, told))
    explored = Exploration(ids, samples[rows], nothing, energy, agreement, seen.kept.to(ids.device), history)
    return explored, revealed, events, lambda: watched.error(own)


def secret_mean(
    clients: tuple[int, ...], updates: Float[Tensor, "clients params"], samples: Int[Tensor, " clients"],
    live: Bool[Tensor, " params"], sums: SecureSum, *, noised: bool = False,
) -> SecretMean:  # fmt: skip
    """The mean of the updates weighted with public numbers of samples, of which the server learns nothing but the sum.

    Args:
        samples: n_k; ones where they stay with the clients.
        live: coordinates that are sent; 0 elsewhere.
        noised: every row has a share of the noise that the ledger counts in the sum.
    """
    delta = torch.zeros_like(updates[:1].sum(0))

    def mean(reader: SumReader, taken: Tensor) -> None:
        nonlocal delta
        delta = reader.mean(samples[taken].to(updates.dtype))

    taken, revealed, events, error = read_sum(clients, updates, samples, live, sums, mean, noised=noised)
    return SecretMean(delta, taken, revealed, events, error)


def read_sum(
    clients: tuple[int, ...], updates: Float[Tensor, "clients params"], samples: Int[Tensor, " clients"],
    live: Bool[Tensor, " params"], sums: SecureSum, read: Callable[[SumReader, Tensor], None], *, noised: bool,
) -> tuple[Bool[Tensor, " clients"], Revealed, tuple[str, ...], Error | None]:  # fmt: skip
    """Share the updates, and hand ``read`` a reader of their one sum and whose rows are in it; see :func:`secret_mean`.

    Where the rows bring the noise, a sum that lacks a row is not asked for: it would have less noise than the ledger
    counts. Who sends a value out of range is left out none the less: no client that follows the protocol does
    (planning refuses settings in which its noise might), and the noise of others is not counted.

    Returns:
        Whose rows are in the sum (nobody's: it was not asked for), what was revealed, events, and how exact it is.
    """
    fits = torch.stack([row.abs().max() <= LARGEST_ENTRY for row in updates])  # by row: a cohort is large
    events = [
        f"client {k} sent a value beyond +-{LARGEST_ENTRY:g}: left out of the secure sum"
        for k, ok in zip(clients, fits.tolist(), strict=True)
        if not ok
    ]
    taken = torch.zeros_like(fits)
    able = tuple(k for k, ok in zip(clients, fits.tolist(), strict=True) if ok)
    if len(able) < LEAST_CROWD:
        return taken, Revealed(), (*events, _TOO_FEW.format(len(able))), None
    points = FixedPoint.for_sums(LARGEST_ENTRY, int(samples.sum()))
    shared = sums.share(encoded(points, [row for row, ok in zip(updates, fits, strict=True) if ok], able, live), able)
    events += shared.events
    missing = [k for k in able if k not in shared.clients]
    lacking = [_TOO_FEW.format(len(shared.clients))] if len(shared.clients) < LEAST_CROWD else []
    if noised and missing and not lacking:
        lacking = [_LESS_NOISE.format(", ".join(map(str, missing)))]
    if lacking:
        shared.forget()
        return taken, Revealed(), (*events, *lacking), None
    for client in shared.clients:
        taken[clients.index(client)] = True
    watched, own = WatchedRows(shared, points), [row for row, ok in zip(updates, taken, strict=True) if ok]
    read(SumReader(LiveRows(watched, live), points), taken)
    revealed = shared.revealed
    shared.forget()
    return taken, revealed, tuple(events), lambda: watched.error(own, live)


_TOO_FEW = "no step: {} clients reached the parties, and their sum would hide nothing"
_LESS_NOISE = (
    "no step: of clients {} no share of the noise arrived, and a sum with less noise than the ledger counts is not "
    "asked for"
)
