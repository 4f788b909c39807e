"""The part of the logbook about secure sums: what went through the parties, and what the server saw none the less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from autoflip_secure.records.run import SecretPhase, SecureSumRecord
from autoflip_secure.secure_rows.secure_sum import SecureTransfer

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Protocol

Phase = Literal["exploration", "updates", "channels"]


class SecureLog:
    """Collects one cell's passages."""

    def __init__(self, protocol: Protocol, channels: Sequence[str] = ()) -> None:
        """``channels``: names of what clients send beside their updates."""
        self.protocol, self.channels = protocol, channels
        self._transfers: dict[Phase, list[SecureTransfer]] = {}

    def add(self, phase: Phase, transfer: SecureTransfer | None) -> None:
        """Note one batch."""
        if transfer is not None:
            self._transfers.setdefault(phase, []).append(transfer)

    def record(self) -> SecureSumRecord | None:
        """All of it; None when the scenario asks for none."""
        config = self.protocol.secure_sum
        if config is None:
            return None
        phases = [_phase(phase, transfers) for phase, transfers in self._transfers.items()]
        sees = self.protocol.visibility.server_sees(self.channels)
        return SecureSumRecord(parties=config.count, phases=phases, server_sees=sees, links=config.links)

    def timing(self) -> dict[str, float]:
        """Seconds that the parties took."""
        if not self._transfers:
            return {}
        return {"secure_seconds": round(sum(p.seconds for transfers in self._transfers.values() for p in transfers), 4)}


def _phase(phase: Phase, transfers: list[SecureTransfer]) -> SecretPhase:
    return SecretPhase(
        phase=phase,
        batches=len(transfers),
        rows=sum(p.clients for p in transfers),
        sums=sum(p.revealed.sums for p in transfers),
        numbers_per_client=max(p.revealed.products + p.revealed.norms for p in transfers),
        client_bytes=sum(p.traffic.from_clients for p in transfers),
        server_bytes=sum(p.traffic.from_server for p in transfers),
        revealed_bytes=sum(p.traffic.to_server for p in transfers),
        party_bytes=sum(p.traffic.between_parties for p in transfers),
        largest_error=max((p.error for p in transfers if p.error is not None), default=None),
    )
