"""Bytes of what clients send besides their updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from autoflip_secure.models.amounts import Bytes
from autoflip_secure.models.channel_messages import channel_bytes

if TYPE_CHECKING:
    from autoflip_secure.federation.outcome import Outcome
    from autoflip_secure.federation.preparing import Preparation


def uplink_beside(outcome: Outcome | Preparation) -> dict[str, int]:
    """Bytes that the participants of a round sent, by channel: shares to every party where rows are secret."""
    found = dict[str, int]()
    for channel in outcome.channels:
        transfer = outcome.channel_transfers.get(channel.name)
        plain = channel_bytes(channel.size, channel.bits, len(outcome.participants))
        found[channel.name] = plain if transfer is None else transfer.traffic.from_clients
    return found


def with_uplink(total: Bytes, more: int) -> Bytes:
    """``total`` with ``more`` bytes that clients sent."""
    up = {"uplink_values": total.uplink_values + more, "uplink_bitmask": total.uplink_bitmask + more}
    return total.model_copy(update=up)


def channel_totals(rounds: Iterable[Mapping[str, int] | None]) -> dict[str, int] | None:
    """Bytes of a run by channel; None: nothing was sent beside the updates."""
    found = dict[str, int]()
    for one in rounds:
        for name, count in (one or {}).items():
            found[name] = found.get(name, 0) + count
    return found or None
