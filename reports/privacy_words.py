"""Privacy in words: what a setting is called, what is proven, and what the numbers mean and do not mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoflip_secure.privacy_record import Guarantee, PrivacyRecord, Release
from reports.labels import clean_text, number

NO_PRIVACY = "no privacy"

MEANING = (
    "Epsilon bounds how much more likely anything that an observer sees can become when one sample (or one whole "
    "client) is added, removed or replaced: by the factor e^epsilon, but for a chance of delta. At epsilon 1 an "
    "attacker who guesses whether somebody took part is right in at most 73 of 100 cases; at 4, in 98 of 100, and "
    "large values promise next to nothing. The bound holds against every attacker, with whatever knowledge, as long as "
    "the protocol is followed as the threat model says. It is about the mechanism: it does not cover the "
    "experimenter's view (records and reports hold figures that no party sees), a leaked random seed, or secrets that "
    "many samples share, such as the classes that a client owns where single samples are protected."
)

EVIDENCE = (
    "A lower bound is what these attacks showed on this run: it refutes any smaller epsilon, with 95 % confidence for "
    "all bounds of one setting together. That "
    "it stays below the proven bound is what a correct implementation must show; it is no proof of correctness, and a "
    "stronger attack may show more. A small lower bound is not a guarantee. An AUC near 0.5 says that this attack "
    "failed on these data, not that every attack would."
)

OBSERVED = {"server": "the server", "public": "the public", "another client": "another client"}


def protection(privacy: Mapping[str, Any] | None) -> str:
    """What a privacy setting is called.

    >>> protection({"kind": "sample_level", "clip": 1.0, "target_epsilon": 4.0})
    'single samples, ε ≤ 4'
    >>> protection({"kind": "client_level", "noise": "distributed", "noise_multiplier": 2.0})
    'whole clients, each adds noise, σ 2'
    >>> protection({"kind": "none"})
    'no privacy'
    """
    if not privacy or privacy.get("kind") in (None, "none"):
        return NO_PRIVACY
    kind = str(privacy["kind"])
    who = {"sample_level": "single samples", "client_level": "whole clients"}.get(
        kind, clean_text(kind).replace("_", " ")
    )
    words = [who]
    if kind == "client_level":
        words.append("each adds noise" if privacy.get("noise") == "distributed" else "server adds noise")
    if privacy.get("target_epsilon") is not None:
        words.append(f"ε ≤ {number(privacy['target_epsilon'])}")
    elif privacy.get("noise_multiplier") is not None:
        words.append(f"σ {number(privacy['noise_multiplier'])}")
    return ", ".join(words)


def epsilon_text(value: float | None) -> str:
    """Epsilon as a reader wants it; None: no bound.

    >>> epsilon_text(1.2345), epsilon_text(387.4), epsilon_text(None)
    ('1.23', '387', 'no bound')
    """
    if value is None:
        return "no bound"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def proven(guarantee: Guarantee) -> str:
    """One sentence on what is proven against one observer."""
    who = OBSERVED[guarantee.observer]
    if not guarantee.proven:
        return f"Against {who}: no guarantee: {clean_text(guarantee.reason)}."
    if not guarantee.clients:
        return f"Against {who}: nothing was released."
    values = [entry.epsilon for entry in guarantee.clients]
    if any(value is None for value in values):
        return f"Against {who}: no finite bound."
    worst = max(guarantee.clients, key=lambda entry: (entry.epsilon or 0.0, entry.rdp or 0.0))
    alone = f", of which {epsilon_text(worst.training)} for the updates alone" if worst.training is not None else ""
    owner = "every honest client" if worst.client is None else f"the client that pays most (client {worst.client})"
    return (
        f"Against {who}: ε ≤ {epsilon_text(worst.epsilon)} at δ = {worst.delta:.2g} for {owner}, everything released"
        f"{alone}; neighbours: {guarantee.relation}."
    )


def sampling(release: Release) -> str:
    """The sampling scheme of a release in words."""
    if release.sampling == "none":
        return "none"
    drawn = f"{100 * release.rate:.3g} %"
    if release.sampling == "poisson":
        return f"Poisson, {drawn}"
    return f"fixed number, {drawn} of {release.population}"


def derived(record: PrivacyRecord) -> str:
    """What is computed from the releases, in words; "" if nothing is proven or nothing was released."""
    made = {what: None for g in record.guarantees if g.proven for r in g.releases for what in r.post_processing}
    return ", ".join(map(clean_text, made))


def ledger_rows(record: PrivacyRecord, most: int = 6) -> tuple[list[dict[str, str]], int]:
    """Rows of the ledger for a table, and how many are left out.

    For each observer what every honest client pays, then the clients that pay most first.
    """
    rows: list[dict[str, str]] = []
    left_out = 0
    for guarantee in record.guarantees:
        cost = {entry.client: (-(entry.epsilon or 0.0), -(entry.rdp or 0.0)) for entry in guarantee.clients}
        releases = sorted(
            guarantee.releases,
            key=lambda r: (r.client is not None, cost.get(r.client, (0.0, 0.0)), r.client or 0, r.first_round),
        )
        left_out += max(0, len(releases) - most)
        for release in releases[:most]:
            last = f" to {release.last_round}" if release.last_round != release.first_round else ""
            rounds = "before round 1" if release.last_round == 0 else f"{release.first_round}{last}"
            rows.append(
                {
                    "seen by": OBSERVED[release.observer],
                    "release": release.name,
                    "client": "every honest one" if release.client is None else str(release.client),
                    "rounds": rounds,
                    "mechanism": "Gaussian" if release.mechanism == "gaussian" else "as it is",
                    "neighbours": release.relation,
                    "sampling": sampling(release),
                    "steps": str(release.steps),
                    "noise multiplier": f"{release.noise_multiplier:.4g}",
                    "guarantee": f"none: {clean_text(release.reason)}" if release.reason else "counted",
                }
            )
    return rows, left_out
