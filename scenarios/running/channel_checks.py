"""What clients would send beside their update, held against privacy and secure sums before anything runs.

| channel | sample level | client level | updates through the parties |
|---|---|---|---|
| sum, with a bound | refused | clipped, noised, in the ledger | a secure sum |
| sum, no bound | refused | refused | a secure sum |
| rows | refused | refused | refused |
"""

from __future__ import annotations

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import wanted
from autoflip_secure.interfaces import Channel, ChannelRequest, ChannelSource, ClientPrivacy, Pruner
from autoflip_secure.scenarios.config.messages import kind_of


def refuse_channels(cell: Cell) -> None:
    """Refuse what would leave a client without the protection that the cell asks for.

    Raises:
        InputError: with the channel, who asks for it, and the way out.
    """
    if cell.protocol.pruner.needs_units and cell.problem.units is None:
        return  # refused with that reason
    _refuse_sums(cell)
    met = set[tuple[Channel, bool]]()
    for number in range(cell.protocol.rounds + 1):
        for channel, source in wanted(cell, number):
            if (channel, isinstance(source, Pruner)) not in met:
                met.add((channel, isinstance(source, Pruner)))
                _refuse(cell, channel, source)


def _refuse_sums(cell: Cell) -> None:
    """Sums of gradients go with plain training only."""
    mechanism = cell.protocol.mechanism
    if mechanism is None or mechanism.works_on_updates:
        return
    rounds, problem = cell.protocol.rounds, cell.problem
    asked = [ChannelRequest(number, rounds, problem.layout, problem.units) for number in range(1, rounds + 1)]
    for source in cell.channel_sources:
        if any(map(source.accumulates, asked)):
            role = "pruner" if isinstance(source, Pruner) else "aggregator"
            raise InputError(
                f"privacy.kind = {kind_of(type(mechanism))}: the {role} {kind_of(type(source))} has clients sum up "
                "their gradients, and DP-SGD clips and noises live coordinates only, so there are none at masked ones; "
                f"use another {role}, or privacy: none"
            )


def _refuse(cell: Cell, channel: Channel, source: ChannelSource) -> None:
    role = "pruner" if isinstance(source, Pruner) else "aggregator"
    what = f"the {role} {kind_of(type(source))} has clients send {channel.name} beside their update"
    other = f"use another {role}, or privacy: none"
    if channel.needs == "rows" and cell.protocol.visibility.secret:
        raise InputError(
            f"secure_sum.updates = true: {what}, of every single client, and the server sees only sums; use another "
            f"{role}, or set secure_sum.updates: false"
        )
    mechanism = cell.protocol.mechanism
    obstacle = None if mechanism is None else _unprotected(mechanism, channel)
    if mechanism is not None and obstacle is not None:
        unbounded = mechanism.works_on_updates and channel.bound is None and "bound" in type(source).model_fields
        way_out = f"give algorithm.{role}.bound, {other}" if unbounded else other
        raise InputError(f"privacy.kind = {kind_of(type(mechanism))}: {what}, {obstacle}; {way_out}")


def _unprotected(mechanism: ClientPrivacy, channel: Channel) -> str | None:
    """Why nothing could be proven of a channel; None: it is clipped and noised like the update."""
    reasons = {
        "measured on samples without noise, and DP-SGD covers updates alone": not mechanism.works_on_updates,
        "and this mechanism does not say how it protects that (covers_channels)": not mechanism.covers_channels,
        "of which the server needs every client's, and what is proven is about sums": channel.needs == "rows",
        "without a bound, so noise for it has no scale": channel.bound is None,
        f"in {channel.bits} bits a number, and noise that is rounded is not the noise of the ledger": (
            channel.bits != 32
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), None)
