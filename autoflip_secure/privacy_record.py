"""What a run says about privacy: every release, and what is proven for all of them together, per observer."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

Observer = Literal["server", "public"]
"""Who looks: the server, which sees what clients send (or only their secure sum), or anybody who sees the models."""

OBSERVERS: Final[tuple[Observer, ...]] = ("server", "public")

Relation = Literal["add or remove one sample", "zero out one client", "add or remove one client", "replace one client"]
"""Neighbouring data sets; ``zero out``: the client sends zeros, its presence is public (participations are)."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Release(_Record):
    """One or several releases of the same mechanism: a row of the ledger.

    ``noise_multiplier`` is the standard deviation of the noise / the L2 sensitivity under ``relation``.
    """

    name: str  # "exploration", "updates", "clip norm", …
    observer: Observer
    client: int | None  # None: the same for every honest client
    first_round: int  # 0 = exploration
    last_round: int
    mechanism: Literal["gaussian", "none"]  # none: released as it is
    relation: Relation
    sampling: Literal["none", "poisson", "fixed"]  # fixed: without replacement, a fixed number
    rate: float  # probability of being drawn; 1 without sampling
    population: int | None  # for fixed: n of which round(rate * n) are drawn
    steps: int  # adaptive compositions of the mechanism
    noise_multiplier: float
    reason: str  # "", or why there is no guarantee
    post_processing: list[str]  # what else is computed from it, at no further cost


class ClientEpsilon(_Record):
    """What is proven for one client (or for every one of them); None: no finite bound."""

    client: int | None
    delta: float
    rdp: float | None  # epsilon of everything released, by Renyi accounting
    prv: float | None  # the same by PRV accounting; None where PRV has no proof
    training: float | None  # epsilon of the updates alone, the tighter of what was asked: shown beside, never instead

    @property
    def epsilon(self) -> float | None:
        """The tighter of the proven bounds for everything released."""
        return min((e for e in (self.rdp, self.prv) if e is not None), default=None)


class Guarantee(_Record):
    """What one observer learns at most."""

    observer: Observer
    relation: Relation
    proven: bool
    reason: str  # why not, or on what the proof rests
    releases: list[Release]
    clients: list[ClientEpsilon]  # honest clients; one entry with client None where all are alike
    over_rounds: list[tuple[int, float]]  # (round, largest epsilon of any client so far), round 0 = exploration


class PrivacyRecord(_Record):
    """The ledger of one run."""

    unit: Literal["sample", "client"]
    noise_multipliers: list[float]  # per client (sample level), or one
    guarantees: list[Guarantee]  # one per observer
    attempts: int  # how often a run of this cell began; runs of the same seed and versions release the same twice
    notes: list[str]

    def epsilon(self, observer: Observer = "public") -> float | None:
        """Largest proven epsilon of any client for ``observer``; None: no guarantee."""
        found = next((g for g in self.guarantees if g.observer == observer), None)
        if found is None or not found.proven:
            return None
        values = [client.epsilon for client in found.clients]
        return None if not values or any(v is None for v in values) else max(v for v in values if v is not None)
