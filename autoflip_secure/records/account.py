"""What is proven about a federation that ran somewhere else, and on what it rests: from its log, for who signs it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from autoflip_secure.records.privacy import PrivacyRecord


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class FederationAccount(_Record):
    """The ledger of a log."""

    name: str
    unit: Literal["client", "sample"]
    delta: float
    clients: int  # who could have taken part
    names: list[str]  # of the clients that the ledger numbers; [] where the log names none
    protected: list[str]  # names of those that do not collude, as far as the log tells
    colluding: int
    rounds: int  # in which somebody took part, or a Poisson cohort was drawn
    participations: int
    clips: tuple[float, float] | None  # the smallest and the largest; None: no round has one
    noise_multipliers: tuple[float, float]
    noise: Literal["central", "distributed"] | None  # None: inside each client
    secure_sum: bool
    sampling: str  # in words
    secret_from: list[str]  # who is said not to know the cohorts
    files: dict[str, str]  # what it was read from -> SHA-256
    versions: dict[str, str]
    privacy: PrivacyRecord
    remarks: list[str]  # what was not counted in favour of the federation, and why
