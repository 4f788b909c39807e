"""Privacy in words: what a setting is called, what is proven, and what the numbers mean and do not mean."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, exp
from typing import Any

from autoflip_secure.records.privacy import Guarantee, PrivacyRecord, Release
from autoflip_secure.records.proven import above_target, bound, pays_most, who
from autoflip_secure.records.rounding import lower_text, upper_delta, upper_number, upper_text
from autoflip_secure.reports.study.labels import clean_text, kind_words, number
from autoflip_secure.terminal.counting import listed

NO_PRIVACY = "no privacy"
_KINDS = {"sample_level": "single samples", "client_level": "whole clients", "nbafl": "NbAFL"}


def claimed_words(privacy: Mapping[str, Any] | None) -> str:
    """An epsilon that a setting claims without a proof, in words; "": none."""
    claimed = (privacy or {}).get("claimed_epsilon")
    return "" if claimed is None else f"ε {number(claimed)} claimed, not proven"


def right_guesses(epsilon: float) -> int:
    """Of 100 guesses which of two neighbours was used, each as likely as the other, how many can be right: rounded up.

    >>> right_guesses(0.0), right_guesses(1.0), right_guesses(4.0)
    (50, 74, 99)
    """
    return ceil(100 / (1 + exp(-epsilon)) - 1e-9)


MEANING = (
    "Epsilon bounds how much more likely anything that an observer sees can become when the data are exchanged for "
    "neighbouring ones: by the factor e^epsilon, but for a chance of delta. Every number names its neighbouring "
    "relation: one sample, or one whole client, counts as zeros (zero out), is absent (add or remove), or is another "
    "one (replace); a bound for one relation is not a bound for another, and two epsilons can be compared only when "
    "observer, neighbours and delta are the same. An attacker who has to tell two neighbours apart is right in at "
    f"most {right_guesses(1)} of 100 cases at epsilon 1, in {right_guesses(4)} at 4 (and in delta more); large values "
    "promise next to nothing. The bound holds whatever else the attacker knows about the data, as long as the "
    "protocol is followed as the threat model says, and it is about the mechanism: it does not cover the "
    "experimenter's view (records and reports hold figures that no party sees), a leaked random seed, or secrets "
    "that many samples share, such as the classes that a client owns where single samples are protected."
)

ONE_RUN = (
    "Every epsilon is that of one cell, a single run. Anybody who sees several runs on the same data (other seeds, "
    "other settings, a whole sweep), or a setting that was chosen by looking at their results, has seen their sum "
    "(autoflip-secure budget). A split made from labels is not counted: it stands for clients that own such data "
    "already."
)

EVIDENCE = (
    "A lower bound is what these attacks showed on this run: it refutes any smaller epsilon at the same delta, with "
    "95 % confidence for all bounds of one setting together. That "
    "it stays below the proven bound is what a correct implementation must show; it is no proof of correctness, and a "
    "stronger attack may show more. A small lower bound is not a guarantee. An AUC near 0.5 says that this attack "
    "failed on these data, not that every attack would."
)

SECRETS = {
    "cohorts": "amplified: it holds only as long as this observer does not learn who takes part in which round, from "
    "the seed or otherwise",
    "batches": "amplified: it holds only as long as this observer does not learn which samples are in which batch, "
    "from the seed or otherwise",
}


def protection(privacy: Mapping[str, Any] | None, lacking: str = "") -> str:
    """What a privacy setting is called: what was asked for, never what is proven.

    Args:
        lacking: what its runs do not promise (:func:`~.no_guarantee`); stands before the target,
            so that no cut label keeps the one without the other.

    >>> protection({"kind": "sample_level", "clip": 1.0, "target_epsilon": 4.0})
    'single samples, target ε 4'
    >>> protection({"kind": "client_level", "noise": "distributed", "noise_multiplier": 2.0})
    'whole clients, each adds noise, σ 2'
    >>> protection({"kind": "sample_level", "target_epsilon": 4.0}, "no guarantee")
    'single samples, no guarantee, target ε 4'
    >>> protection({"kind": "nbafl", "claimed_epsilon": 50, "delta": 0.01}, "no guarantee")
    'NbAFL, no guarantee, ε 50 claimed, not proven'
    >>> protection({"kind": "none"})
    'no privacy'
    """
    if not privacy or privacy.get("kind") in (None, "none"):
        return NO_PRIVACY
    kind = str(privacy["kind"])
    words = [_KINDS.get(kind, kind_words(kind))]
    if kind == "client_level":
        words.append("each adds noise" if privacy.get("noise") == "distributed" else "server adds noise")
    words += [lacking] if lacking else []
    if privacy.get("target_epsilon") is not None:
        words.append(f"target ε {number(privacy['target_epsilon'])}")
    elif privacy.get("noise_multiplier") is not None:
        words.append(f"σ {number(privacy['noise_multiplier'])}")
    words += [claimed] if (claimed := claimed_words(privacy)) else []
    return ", ".join(words)


def proven_sentences(record: PrivacyRecord) -> list[str]:
    """What is proven against every observer; those against whom the same is proven share a sentence."""
    alike: dict[str, list[str]] = {}
    for guarantee in record.guarantees:
        alike.setdefault(_against(guarantee), []).append(who(guarantee.observer))
    return [f"Against {listed(observers)}: {words}" for words, observers in alike.items()]


def proven(guarantee: Guarantee) -> str:
    """One or two sentences on what is proven against one observer, and on what that rests."""
    return f"Against {who(guarantee.observer)}: {_against(guarantee)}"


def _against(guarantee: Guarantee) -> str:
    if not guarantee.proven:
        return f"no guarantee: {clean_text(guarantee.reason)}."
    if not guarantee.clients:
        return "nothing was released by anybody who is protected."
    found = bound(guarantee)
    if found is None:
        return "no guarantee: no bound is finite."
    worst = max(guarantee.clients, key=lambda entry: (entry.epsilon or 0.0, entry.rdp or 0.0))
    beside = dict.fromkeys(name for release in guarantee.releases for name in release.name.split(", ")[1:])
    parts = f"the updates and {', '.join(beside)}" if beside else "the updates alone"
    alone = f", of which {upper_text(worst.training)} for {parts}" if worst.training is not None else ""
    pays = f" ({most})" if (most := pays_most(guarantee)) else ""
    rests = f" It is {SECRETS[found.secret]}." if found.secret else ""
    return (
        f"ε ≤ {upper_text(found.epsilon)} at δ = {upper_delta(found.delta)} for every honest client{pays}, "
        f"everything released{alone}; neighbours: {found.relation}.{rests}"
    )


def exceeded(record: PrivacyRecord, privacy: Mapping[str, Any]) -> str:
    """One sentence if the ledger went above the target that the setting names, else ""."""
    target = privacy.get("target_epsilon")
    above = above_target(record, target if isinstance(target, int | float) else None)
    if not above:
        return ""
    against = f"against {listed([who(b.observer) for b in above])}"
    again = (
        f": it was begun {record.attempts} times, and anything that may differ counts again"
        if record.attempts > 1
        else ""
    )
    return f"Above the target of {number(target)} {against}{again}."


def sampling(release: Release) -> str:
    """The sampling scheme of a release in words."""
    if release.sampling == "none":
        return "none"
    drawn = f"{upper_number(100 * release.rate, 2):g} %"
    kept = f", secret {'batches' if 'sample' in release.relation else 'cohorts'}" if release.rate < 1 else ""
    if release.sampling == "poisson":
        return f"Poisson, {drawn}{kept}"
    return f"fixed number, {drawn} of {release.population}{kept}"


def derived(record: PrivacyRecord) -> str:
    """What is computed from the releases, in words; "" if nothing is proven or nothing was released."""
    made = {what: None for g in record.guarantees if g.proven for r in g.releases for what in r.post_processing}
    return ", ".join(map(clean_text, made))


def ledger_rows(record: PrivacyRecord, most: int = 6) -> tuple[list[dict[str, str]], int]:
    """Rows of the ledger for a table, and how many are left out.

    For each observer what every honest client pays, then the clients that pay most first. What several observers get
    alike is one row.
    """
    seen: dict[tuple[tuple[str, str], ...], list[str]] = {}  # a row without its observer -> who sees it
    for guarantee in record.guarantees:
        cost = {entry.client: (-(entry.epsilon or 0.0), -(entry.rdp or 0.0)) for entry in guarantee.clients}
        releases = sorted(
            guarantee.releases,
            key=lambda r: (r.client is not None, cost.get(r.client, (0.0, 0.0)), r.client or 0, r.first_round),
        )
        for release in releases:
            seen.setdefault(tuple(_row(release).items()), []).append(who(guarantee.observer))
    rows: dict[str, list[dict[str, str]]] = {}
    for row, observers in seen.items():
        by = ", ".join(dict.fromkeys(observers))
        rows.setdefault(by, []).append({"seen by": by, **dict(row)})
    shown = [row for own in rows.values() for row in own[:most]]
    return shown, sum(map(len, rows.values())) - len(shown)


def _row(release: Release) -> dict[str, str]:
    last = f" to {release.last_round}" if release.last_round != release.first_round else ""
    return {
        "release": release.name,
        "client": "every honest one" if release.client is None else str(release.client),
        "rounds": "before round 1" if release.last_round == 0 else f"{release.first_round}{last}",
        "mechanism": "Gaussian" if release.mechanism == "gaussian" else "as it is",
        "neighbours": release.relation,
        "sampling": sampling(release),
        "steps": str(release.steps),
        "noise multiplier": lower_text(release.noise_multiplier, 4),
        "guarantee": f"none: {clean_text(release.reason)}" if release.reason else "counted",
    }
