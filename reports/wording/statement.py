"""Who may say what to whom about privacy, on what it rests, and what nobody may say: the page that somebody signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.records.proven import Bound, secret, who
from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.reports.study.privacy import right_guesses


@dataclass(frozen=True)
class Said:
    """What may be said of one observer; ``epsilon`` "": nothing."""

    observer: str
    words: str
    to: str  # whom it may be said to
    epsilon: str = ""
    delta: str = ""
    relation: str = ""
    condition: str = ""  # what has to stay true
    subject: str = ""  # which runs or which setting it is about, where a page has several


@dataclass(frozen=True)
class Statement:
    """Everything on the page."""

    title: str
    lead: str
    said: list[Said]
    rests: list[tuple[str, str]]  # (condition, who answers for it)
    not_covered: list[str]
    basis: list[tuple[str, str]]
    remarks: list[str] = field(default_factory=list)


MEANING = (
    "Epsilon and delta: whatever an observer sees is at most e^ε times as likely for one of two neighbouring cases as "
    "for the other, but for a chance of δ, whatever else it knows. Two epsilons can be compared only where observer, "
    "neighbours and delta are the same. Upper bounds are rounded up."
)

ALWAYS_OPEN = (
    "Anything that left a client outside of the rounds counted here: losses, metrics, numbers of samples, messages, "
    "and who talked to the server when.",
    "Other trainings, evaluations or statistics on the same data: what they release adds up with this.",
    "Who takes part and how many samples a client has, wherever neighbours zero out: both count as public.",
    "Observers that pool what they know beyond the colluding clients counted above, and a server or a client that does "
    "not follow the protocol.",
    "Several units together: for k of them that share a secret epsilon is up to k times as large, and delta grows too.",
    "Rounding of floating-point noise, side channels, leaked seeds and keys.",
    "What a court or an authority calls anonymous: a bound on epsilon is not that.",
)


def open_for(unit: str, relations: Sequence[str]) -> list[str]:
    """What a guarantee for one unit does not say about another."""
    if unit == "sample":
        return ["A whole client, and whatever many of its samples share (a class, a person with several samples)."]
    if any(relation != "replace one client" for relation in relations):
        return [
            "One sample of a client: it may change a clipped row by twice the clip norm, so the number of a whole "
            "client that is zeroed out, added or removed is not that of one sample."
        ]
    return []


def may_say(found: Bound, unit: str) -> str:
    """A sentence that is true of a bound."""
    small, large = upper_delta(found.delta), upper_text(found.epsilon)
    if right_guesses(found.epsilon) >= 100:
        means = "an epsilon so large promises next to nothing"
    else:
        means = (
            f"whoever has to tell two neighbours apart by it is right in at most {right_guesses(found.epsilon)} of 100 "
            "cases (guessing: 50), and in delta more"
        )
    return (
        f"What {who(found.observer)} can see of this is (ε = {large}, δ = {small})-differentially private for one "
        f"{unit} (neighbours: {found.relation}): {means}."
    )


def secret_condition(guarantee: Guarantee) -> str:
    """What an amplified guarantee needs to stay secret, as a clause; "" where nothing does."""
    what = {"cohorts": "who takes part in which round", "batches": "which samples are in which batch"}
    found = secret(guarantee)
    return f"{who(guarantee.observer)} does not learn {what[found]}" if found else ""
