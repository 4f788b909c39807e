"""The part of the logbook about secure sums: what passed through the parties, and what the server saw none the less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from autoflip_secure.records.run import SecretPhase, SecureSumRecord
from autoflip_secure.secure_rows.secure_sum import Passage

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Protocol

Phase = Literal["exploration", "updates"]


class SecureLog:
    """Collects one cell's passages."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._passed: dict[Phase, list[Passage]] = {}

    def add(self, phase: Phase, passage: Passage | None) -> None:
        """Note one batch."""
        if passage is not None:
            self._passed.setdefault(phase, []).append(passage)

    def record(self) -> SecureSumRecord | None:
        """All of it; None when the scenario asks for none."""
        config = self.protocol.secure_sum
        if config is None:
            return None
        phases = [_phase(phase, passed) for phase, passed in self._passed.items()]
        return SecureSumRecord(parties=config.count, phases=phases, server_sees=self._server_sees(), links=config.links)

    def timing(self) -> dict[str, float]:
        """Seconds that the parties took."""
        if not self._passed:
            return {}
        return {"secure_seconds": round(sum(p.seconds for passed in self._passed.values() for p in passed), 4)}

    def _server_sees(self) -> list[str]:
        protocol, lines = self.protocol, []
        if protocol.explores:
            what = "their sum" if protocol.exploration.reveal == "sum" else "sums of them, and a few numbers about each"
            lines.append(f"deviations of the explorers: {what}")
        mean = "their weighted sum" if protocol.aggregator.linear else "a weighted sum, and a few numbers about each"
        lines.append(f"updates: {mean if protocol.secret_updates else 'every one of them'}")
        return lines


def _phase(phase: Phase, passed: list[Passage]) -> SecretPhase:
    return SecretPhase(
        phase=phase,
        batches=len(passed),
        rows=sum(p.clients for p in passed),
        sums=sum(p.revealed.sums for p in passed),
        numbers_per_client=max(p.revealed.products + p.revealed.norms for p in passed),
        client_bytes=sum(p.traffic.from_clients for p in passed),
        server_bytes=sum(p.traffic.from_server for p in passed),
        revealed_bytes=sum(p.traffic.to_server for p in passed),
        party_bytes=sum(p.traffic.between_parties for p in passed),
        largest_error=max((p.error for p in passed if p.error is not None), default=None),
    )
