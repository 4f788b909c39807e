"""What clients send besides their update, from the clients to the server: attacked, protected, filtered, summed.

The update takes the same way (:mod:`.clients`, :mod:`.server`); a client whose row cannot be used on any channel is
left out of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.federation.attacking import attack_channel
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import Measured
from autoflip_secure.federation.clients import UNUSABLE, privacy_view, stated_samples, usable_rows
from autoflip_secure.federation.secure_rounds import LARGEST_ENTRY, secret_mean, timed
from autoflip_secure.interfaces import UPDATE, Channel, PrivacyView, Received
from autoflip_secure.secure_rows.secure_sum import SecureSum, SecureTransfer


@dataclass(frozen=True)
class Sent:
    """A round's channels as they leave the clients, the update apart."""

    channels: tuple[Channel, ...]
    rows: dict[str, Float[Tensor, "clients _"]]
    views: tuple[PrivacyView | None, ...]  # per channel

    def usable(self, updates: Float[Tensor, "clients params"]) -> Bool[Tensor, " clients"]:
        """Clients all of whose rows can be computed with."""
        able = usable_rows(updates)
        for rows in self.rows.values():
            able = able & usable_rows(rows)
        return able

    def unusable(self, clients: Int[Tensor, " clients"]) -> list[str]:
        """Who sent what that cannot be used, a sentence per channel."""
        strange = ((name, clients[~usable_rows(rows).cpu()].tolist()) for name, rows in self.rows.items())
        return [
            f"clients {', '.join(map(str, who))} sent {name} that are {UNUSABLE}: filtered"
            for name, who in strange
            if who
        ]


def sent_beside(cell: Cell, clients: Tensor, measured: Measured, round_: int) -> Sent:
    """Malicious clients change their rows, honest ones protect theirs, and the wire rounds."""
    private, rows, views = cell.protocol.client_level, dict[str, Tensor](), []
    for number, channel in enumerate(measured.channels, 1):
        own = attack_channel(cell, channel, measured.rows[channel.name], clients, round_, number)
        view = None
        if private is not None:
            everything = torch.ones(channel.size, dtype=torch.bool, device=own.device)
            view = privacy_view(cell, clients, everything, round_, number)
            own = private.send_channel(channel, own, view)
        rows[channel.name] = _on_the_wire(own, channel.bits)
        views.append(view)
    return Sent(measured.channels, rows, tuple(views))


def _on_the_wire(rows: Tensor, bits: int) -> Tensor:
    """What is left of numbers that travel in so many bits each."""
    if bits == 16:
        return rows.to(torch.float16).to(rows)
    return rows if bits == 32 else torch.where(rows.isfinite(), (rows > 0.5).to(rows), rows)


@dataclass(frozen=True)
class Delivered:
    """What the server has of a round's channels; without ``received``, nobody's sum may be asked for."""

    received: dict[str, Received] | None
    usable: Bool[Tensor, " clients"]  # whose rows are in it
    events: tuple[str, ...] = ()
    transfers: dict[str, SecureTransfer] = field(default_factory=dict)


def delivered(
    cell: Cell, clients: Tensor, own: Sent, updates: Tensor, sums: SecureSum | None, round_: int
) -> Delivered:
    """Each channel as the server learns it: a mean, or rows; through the parties where updates pass through them.

    At client level the mean is a sum over the expected number of participants, and has the server's noise. It is made
    whether anybody's row is usable or not where the server adds the noise, as the noised step is.
    """
    private, events, transfers = cell.protocol.client_level, list[str](), dict[str, SecureTransfer]()
    received, usable = dict[str, Received](), own.usable(updates)
    if own.channels and cell.visibility.secret:
        usable, events = _within_range(clients, {UPDATE: updates, **own.rows}, usable)
    for channel, view in zip(own.channels, own.views, strict=True):
        rows = own.rows[channel.name]
        if cell.visibility.secret and sums is not None:
            mean, usable, said, transfer = _through_parties(cell, clients, channel, rows, usable, sums, round_)
            events += said
            if transfer is not None:
                transfers[channel.name] = transfer
            if mean is None:
                return Delivered(None, torch.zeros_like(usable), tuple(events), transfers)
            received[channel.name] = Received(_over_expected(mean, usable, view))
            continue
        if not bool(usable.any()) and (private is None or not private.trusted_server):
            return Delivered({}, usable, tuple(events), transfers)
        here = clients.to(rows.device)[usable]
        samples = _samples(cell, here, round_)
        mean = (samples / samples.sum().clamp_min(1)) @ rows[usable]
        if private is not None and view is not None:
            mean = private.publish_channel(channel, _over_expected(mean, usable, view), view)
        shown = (rows[usable], here, samples) if channel.needs == "rows" else (None, None, None)
        received[channel.name] = Received(mean, *shown)
    return Delivered(received, usable, tuple(events), transfers)


def _within_range(
    clients: Tensor, rows: Mapping[str, Tensor], usable: Tensor
) -> tuple[Bool[Tensor, " clients"], list[str]]:
    """Who can be in every secure sum of the round, and who cannot: nobody is in some of them only."""
    events = list[str]()
    for name, own in rows.items():
        fits = torch.stack([row.abs().max() <= LARGEST_ENTRY for row in own]) if len(own) else usable
        out = clients[(usable & ~fits).cpu()].tolist()
        events += [
            f"client {k} sent a value beyond +-{LARGEST_ENTRY:g} ({name}): left out of the secure sums" for k in out
        ]
        usable = usable & fits
    return usable, events


def _samples(cell: Cell, clients: Tensor, round_: int) -> Float[Tensor, " clients"]:
    """n_k as stated; ones at client level, where they stay with the clients."""
    stated = stated_samples(cell, clients, round_)
    return stated if cell.protocol.client_level is None else torch.ones_like(stated)


def _over_expected(mean: Tensor, usable: Tensor, view: PrivacyView | None) -> Tensor:
    """The mean over who came as the sum over how many were expected, at client level."""
    return mean if view is None else mean * (float(usable.sum()) / view.expected)


def _through_parties(
    cell: Cell, clients: Tensor, channel: Channel, rows: Tensor, usable: Tensor, sums: SecureSum, round_: int
) -> tuple[Tensor | None, Tensor, list[str], SecureTransfer | None]:
    """The mean (None: it is not asked for), who is in it, events, and what passed."""
    here = tuple(clients[usable.cpu()].tolist())
    if not here:
        return None, usable, [], None
    everything = torch.ones(channel.size, dtype=torch.bool, device=rows.device)
    samples = _samples(cell, clients.to(rows.device)[usable], round_).long()
    noised = cell.protocol.client_level is not None and cell.noise_multipliers[0] > 0
    with timed(sums) as through:
        found = secret_mean(here, rows[usable], samples, everything, sums, noised=noised)
    taken = usable.clone()
    taken[usable] = found.taken
    events = [f"{channel.name}: {event}" for event in found.events]
    transfer = through(int(taken.sum()), found.revealed, found.error)
    return (found.delta if bool(taken.any()) else None), taken, events, transfer
