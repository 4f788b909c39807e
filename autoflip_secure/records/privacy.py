"""What a run says about privacy: every release, and what is proven for all of them together, per observer."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

Observer = Literal["server", "public", "another client"]
"""Who looks: the server, which sees what clients send (or only their secure sum); anybody who sees the models; or one
other client, which sees the models too and knows its own row, its own noise and whether it was drawn itself."""

OBSERVERS: Final[tuple[Observer, ...]] = ("server", "public", "another client")


def _as_proven(value: Any) -> Any:
    """Early records call the relation of samples by a name that promises more than was proven."""
    return "zero out one sample" if value == "add or remove one sample" else value


Relation = Annotated[
    Literal["zero out one sample", "zero out one client", "add or remove one client", "replace one client"],
    BeforeValidator(_as_proven),
]
"""Neighbouring data sets. ``zero out``: the sample's gradients, or what the client sends, are zeros in one of them;
how many samples a client has, or who takes part, is the same in both and public."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Release(_Record):
    """One or several releases of the same mechanism: a row of the ledger.

    ``noise_multiplier`` is the standard deviation of the noise / the L2 sensitivity under ``relation``.
    """

    #: "exploration", "preparation, NAME, …" (what all clients send before training), "updates" (with the votes on an
    #: adaptive clip norm), or "updates, NAME, …": with other channels of the same rounds; ``noise_multiplier`` is that
    #: of everything named together
    name: str
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
    pld: float | None = None  # the same by dp-accounting; None where it is not installed or has no proof
    training: float | None  # epsilon of rows named "updates…" alone, the tightest: shown beside, never instead

    @property
    def epsilon(self) -> float | None:
        """The tightest of the proven bounds for everything released."""
        return min((e for e in (self.rdp, self.prv, self.pld) if e is not None), default=None)


class Guarantee(_Record):
    """What one observer learns at most."""

    observer: Observer
    relation: Relation
    proven: bool
    reason: str  # why not, or on what the proof rests
    releases: list[Release]
    clients: list[ClientEpsilon]  # honest clients; one entry with client None where all are alike
    over_rounds: list[tuple[int, float]]  # (round, largest epsilon of any client so far), round 0 = exploration


class Claimed(_Record):
    """What a mechanism says of itself, of everything that one client sends, and what nobody proved: no guarantee."""

    epsilon: float
    delta: float
    unit: Literal["sample"] = "sample"
    proven: Literal[False] = False
    reason: str  # why it is no guarantee


class PrivacyRecord(_Record):
    """The ledger of one run."""

    unit: Literal["sample", "client"]
    noise_multipliers: list[float]  # per client (sample level), or one
    guarantees: list[Guarantee]  # one per observer; early records have none for another client
    attempts: int  # how often a run of this cell began; runs of the same seed and versions release the same twice
    notes: list[str]
    claimed: Claimed | None = None  # beside the guarantees, never one of them

    def epsilon(self, observer: Observer = "public") -> float | None:
        """Largest proven epsilon of any client for ``observer``; None: no guarantee."""
        found = next((g for g in self.guarantees if g.observer == observer), None)
        if found is None or not found.proven:
            return None
        values = [client.epsilon for client in found.clients]
        return None if not values or any(v is None for v in values) else max(v for v in values if v is not None)
