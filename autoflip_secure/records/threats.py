"""Threat cards of a run's attacks: what malicious clients know and change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from autoflip_secure.interfaces import Attack


class ThreatRecord(BaseModel):
    """The threat card of one attack (:class:`autoflip_secure.interfaces.Threat`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    knowledge: Literal["own", "colluders", "rows", "defence"]
    means: list[str]
    goal: Literal["untargeted", "targeted", "backdoor", "denial"]
    memory: bool


def threats(attacks: Iterable[Attack]) -> list[ThreatRecord] | None:
    """Cards of all attacks of a run; None where nobody knows more than its own data and update, or says so, and the
    draw of cohorts is even."""
    declared = [attack for attack in attacks if attack.declared]
    cards = [attack.threat_card for attack in declared]
    if all(card.knowledge == "own" and "participation" not in card.means for card in cards):
        return None
    return [
        ThreatRecord(
            kind=str(attack.model_dump().get("kind", type(attack).__name__)),
            knowledge=card.knowledge,
            means=list(card.means),
            goal=card.goal,
            memory=card.memory,
        )
        for attack, card in zip(declared, cards, strict=True)
    ]
