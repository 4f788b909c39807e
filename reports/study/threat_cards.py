"""The threat card of every attack of a study: what it knows, what it changes (the channel), its goal, its memory.

A record has the cards of its attacks where one of them knows more than its own data and update. Of the built-in attacks
that know no more the cards are here; a test holds them to the classes. Other attacks then know their own data and
update too, and what they change is not recorded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoflip_secure.interfaces.attack_view import KNOWLEDGE, MEANS, Goal, Means, Threat
from autoflip_secure.records.robustness import parts_of
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.threats import ThreatRecord
from autoflip_secure.reports.study.labels import is_clean, kind_words
from autoflip_secure.reports.study.study import Study

_OWN: dict[str, tuple[tuple[Means, ...], Goal]] = {
    "anchor_inflation": (("exploration",), "denial"),
    "backdoor": (("labels", "inputs"), "backdoor"),
    "buffers": (("buffers",), "untargeted"),
    "dirty_label": (("labels",), "targeted"),
    "fault": (("update", "exploration"), "untargeted"),
    "gaussian_noise": (("update", "exploration"), "untargeted"),
    "label_flip": (("labels",), "untargeted"),
    "lie_samples": (("samples",), "untargeted"),
    "model_replacement": (("update",), "backdoor"),
    "norm_bound": (("update",), "backdoor"),
    "over_participation": (("participation",), "untargeted"),
    "sign_flip": (("update", "exploration"), "untargeted"),
}
_WHO = re.compile(r" on (?:[\d.e-]+ %|\d+ chosen clients?)(?= · | \+ |$)")  # worst cases name attacks without it
_KNOWS = {"own": "O", "colluders": "C", "rows": "R", "defence": "D"}
_CHANGES = {
    "labels": "L",
    "inputs": "I",
    "update": "U",
    "exploration": "E",
    "samples": "S",
    "buffers": "B",
    "participation": "P",
}
_GOALS = {"untargeted": "A", "targeted": "T", "backdoor": "B", "denial": "D"}
_FOR = {"A": "lower accuracy", "T": "one class", "B": "a backdoor", "D": "no pruning, or no scoring"}
LETTERS = (
    ("knowledge", [(letter, KNOWLEDGE[name]) for name, letter in _KNOWS.items()]),  # type: ignore[index]
    ("channel", [(letter, MEANS[name]) for name, letter in _CHANGES.items()]),  # type: ignore[index]
    ("goal", [*_FOR.items()]),
    ("memory", [("M", "remembers earlier rounds"), ("–", "stateless")]),
)
"""What the letters of a badge stand for, part by part."""


@dataclass(frozen=True)
class Card:
    """One kind of attack. ``threat`` is None where nobody said what it changes."""

    kind: str
    threat: Threat | None

    @property
    def name(self) -> str:
        """The attack in words."""
        return kind_words(self.kind)

    @property
    def badge(self) -> str:
        """Knowledge, channel, goal and memory as letters.

        >>> Card("mimic", Threat("rows", ("update", "exploration"), memory=True)).badge
        'R·UE·A·M'
        """
        if self.threat is None:
            return "O·?·?·?"
        changes = "".join(_CHANGES[one] for one in self.threat.means)
        memory = "M" if self.threat.memory else "–"
        return "·".join([_KNOWS[self.threat.knowledge], changes, _GOALS[self.threat.goal], memory])

    @property
    def words(self) -> str:
        """The whole card as one line."""
        return f"knows {KNOWLEDGE['own']}; the rest is not declared" if self.threat is None else str(self.threat)

    @property
    def terms(self) -> str:
        """Knowledge, channel, goal and memory in the terms of ``docs/attacks.md``, for a column of a table.

        >>> Card("mimic", Threat("rows", ("update", "exploration"), memory=True)).terms
        'rows; update, exploration; untargeted; remembers'
        """
        if self.threat is None:
            return "own; not declared"
        memory = "remembers" if self.threat.memory else "stateless"
        return "; ".join([self.threat.knowledge, ", ".join(self.threat.means), self.threat.goal, memory])

    @property
    def fields(self) -> tuple[str, str, str, str]:
        """Knowledge, channel, goal and memory in words."""
        if self.threat is None:
            return KNOWLEDGE["own"], *["not declared"] * 3  # type: ignore[return-value]
        changes = ", ".join(MEANS[one] for one in self.threat.means)
        memory = "remembers earlier rounds" if self.threat.memory else "stateless"
        return KNOWLEDGE[self.threat.knowledge], changes, _FOR[_GOALS[self.threat.goal]], memory


def cards_of(record: RunRecord) -> list[Card]:
    """The cards of a run, one for each kind of attack in it; empty where nobody attacks."""
    known = {one.kind: one for one in record.threats or ()}
    found: dict[str, Card] = {}
    for part in parts_of(record.config.get("attack")):
        kind = str(part.get("kind"))
        if is_clean(part):
            continue
        written = known.get(kind) or known.get(kind.rpartition(":")[2])
        found[kind] = Card(kind, _recorded(written) if written else _own(kind, part))
    return list(found.values())


class Cards:
    """The cards of a study, by the label of an attack; an attack of several parts has one for each kind."""

    def __init__(self, study: Study) -> None:
        self.of: dict[str, list[Card]] = {}
        for row, record in study.rows:
            if row.attack not in self.of and not row.clean:
                self.of[row.attack] = cards_of(record)

    @property
    def all(self) -> list[Card]:
        """Every card once, in the order of the study."""
        return list(dict.fromkeys(card for cards in self.of.values() for card in cards))

    def badge(self, attack: str) -> str:
        """Of one attack; nothing where nobody attacks."""
        return " + ".join(card.badge for card in self.of.get(attack, ()))

    def terms(self, attack: str) -> str:
        """Of one attack; nothing where nobody attacks."""
        return " + ".join(card.terms for card in self.of.get(attack, ()))

    def words(self, attack: str) -> str:
        """Of one attack; nothing where nobody attacks."""
        cards = self.of.get(attack, ())
        return " + ".join(f"{card.name}: {card.words}" if len(cards) > 1 else card.words for card in cards)

    def named_by(self, text: str) -> str:
        """The attack that ``text`` names: as the study calls it, without its clients, or at the end of a condition."""
        for label in self.of:
            if text in (label, _WHO.sub("", label)) or text.endswith(f", {label}"):
                return label
        return ""


def _recorded(card: ThreatRecord) -> Threat:
    means = [name for name in MEANS if name in card.means]
    return Threat(card.knowledge, tuple(means), card.goal, card.memory)


def _own(kind: str, part: Mapping[str, Any]) -> Threat | None:
    """The card of a built-in attack that knows no more than its own data and update."""
    if kind not in _OWN:
        return None
    means, goal = _OWN[kind]
    return Threat("own", means, goal, memory=kind == "fault" and part.get("sends") == "free_rider")
