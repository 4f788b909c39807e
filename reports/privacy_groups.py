"""Settings of privacy in a study: which facets differ in its strength only, and what is proven of each run.

Epsilon is what the ledger proves for everything released and for the client that pays most: against the server where
that is proven, else against the public.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoflip_secure.privacy_record import OBSERVERS, Guarantee
from autoflip_secure.record import RunRecord
from reports.labels import NO_ATTACK, canonical, leaves, number, partition_label, passage, setting, varying
from reports.privacy_words import protection
from reports.study import Condition, Study

_OF_PRIVACY = ("privacy", "sampling")
_TOLD = 3  # groups in the verdict


@dataclass(frozen=True)
class Group:
    """Facets that differ in how strong their privacy is only: one row of panels."""

    title: str
    facets: tuple[str, ...]  # weakest privacy last; "no privacy" at the end when it was run


def is_private(study: Study) -> bool:
    """Whether any run has a ledger."""
    return any(record.privacy is not None for record in study.records)


def against(record: RunRecord) -> Guarantee | None:
    """The guarantee that counts: the first proven one of server and public."""
    found = {g.observer: g for g in record.privacy.guarantees} if record.privacy is not None else {}
    return next((found[o] for o in OBSERVERS if o in found and found[o].proven), None)


def proven_epsilon(record: RunRecord) -> float | None:
    """Epsilon of :func:`against`; None: nothing is proven."""
    guarantee = against(record)
    return record.privacy.epsilon(guarantee.observer) if guarantee is not None and record.privacy is not None else None


def groups(study: Study) -> list[Group]:
    """Rows of panels: what is learned and the kind of privacy are the same in each, its strength varies."""
    bare: dict[str, list[str]] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for facet, config in study.facets.items():
        privacy = config.get("privacy") or {}
        rest = canonical({k: v for k, v in config.items() if k not in _OF_PRIVACY})
        if privacy.get("kind") in (None, "none"):
            bare.setdefault(rest, []).append(facet)
        else:
            found.setdefault((rest, f"{privacy['kind']} {privacy.get('noise', '')}"), []).append(facet)
    named = (*_OF_PRIVACY, "partition", "cohort", "secure_sum")
    paths = varying({k: v for k, v in c.items() if k not in named} for c in study.facets.values())
    partitions, sums = ({canonical(c.get(key)) for c in study.facets.values()} for key in ("partition", "secure_sum"))
    made = []
    for (rest, _), facets in found.items():
        config = study.facets[facets[0]]
        flat = leaves(config)
        words = [f"{setting(path)} {number(flat[path])}" for path in paths if path in flat]
        if len(partitions) > 1:
            words.append(partition_label(config.get("partition") or {}))
        if len(sums) > 1:
            words.append(passage(config.get("secure_sum")))
        if len({kind for _, kind in found}) > 1 or not words:
            words.append(protection({k: v for k, v in config["privacy"].items() if k in ("kind", "noise")}))
        order = sorted(facets, key=lambda f: _strength(study, f))
        made.append(Group(" · ".join(words), (*order, *bare.get(rest, []))))
    return made


def _strength(study: Study, facet: str) -> float:
    values = [e for r in _records(study, facet) if (e := proven_epsilon(r)) is not None]
    return float(np.mean(values)) if values else float("inf")


def _records(study: Study, facet: str) -> list[RunRecord]:
    return [study.records[i] for i in study.cells.index[study.cells["facet"] == facet]]


def tick(study: Study, facet: str) -> str:
    """Epsilon of a facet as a label: a number, a span over seeds, ``∞`` without privacy, or ``none proven``."""
    if (study.facets[facet].get("privacy") or {}).get("kind") in (None, "none"):
        return "∞"
    values = [e for r in _records(study, facet) if (e := proven_epsilon(r)) is not None]
    if not values:
        return "none\nproven"
    low, high = (f"{v:.2g}" if v < 100 else f"{v:.0f}" for v in (min(values), max(values)))
    return low if low == high or float(np.ptp(values)) < 0.3 * max(values) else f"{low} to {high}"


def sentences(study: Study) -> list[str]:
    """What privacy costs, in words: accuracy at every proven epsilon, of the baseline and of the first other."""
    told = []
    attack = NO_ATTACK if NO_ATTACK in study.attacks else next(iter(study.attacks))
    chosen = list(dict.fromkeys([a for a in (study.baseline, *study.headline[:1]) if a is not None]))
    for group in groups(study)[:_TOLD]:
        for algorithm in chosen:
            parts = []
            for facet in reversed(group.facets):
                seeds = list(study.values(Condition(facet, attack), algorithm).values())
                epsilon = tick(study, facet)
                if seeds:
                    at = {"∞": "without privacy", "none\nproven": "with noise but no proof"}.get(
                        epsilon, f"at ε {epsilon}"
                    )
                    parts.append(f"{100 * float(np.mean(seeds)):.1f} % {at}")
            if len(parts) > 1:
                told.append(f"{algorithm}, {group.title}, {attack}: {', '.join(parts)}.")
    if not told:
        return []
    return [
        f"What privacy costs (mean accuracy at the epsilon that is proven for everything released): {' '.join(told)}",
        *_pruning(study, attack),
    ]


def _pruning(study: Study, attack: str) -> list[str]:
    """What privacy does to pruning, in words, where something was pruned without it."""
    told = []
    for group in groups(study)[:_TOLD]:
        for algorithm in study.headline[:1]:
            kept = {f: _kept(study.runs(Condition(f, attack), algorithm)) for f in group.facets}
            shares = {f: v for f, v in kept.items() if v is not None}
            bare = next((v for f, v in shares.items() if tick(study, f) == "∞"), None)
            private = [v for f, v in shares.items() if tick(study, f) != "∞"]
            if bare is not None and bare < 0.995 and private:
                low, high = (f"{100 * v:.0f}" for v in (min(private), max(private)))
                span = f"{low} %" if low == high else f"{low} to {high} %"
                told.append(
                    f"{algorithm}, {group.title}, {attack}: {100 * bare:.0f} % of the weights are alive at the end "
                    f"without privacy, {span} with it."
                )
    return [f"What privacy does to pruning: {' '.join(told)}"] if told else []


def _kept(runs: list[RunRecord]) -> float | None:
    """Living share of all weights at the end, mean over seeds."""
    shares = [sum(x.live_weights for x in r.layers) / sum(x.weights for x in r.layers) for r in runs if r.layers]
    return float(np.mean(shares)) if shares else None
