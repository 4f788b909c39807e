"""Who plays which part in the paper's claims: recognised by the settings of an algorithm, never by its name alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.reports.study.labels import NO_ATTACK
from autoflip_secure.reports.study.study import Condition, Study

SUBJECT = "autoflip"
_PRUNER, _AGGREGATOR = "algorithm.pruner.", "algorithm.aggregator."


@dataclass(frozen=True)
class PrunedPair:
    """A pruned algorithm and the unpruned one it is compared with. ``why`` says what else differs, or nothing."""

    pruned: str
    unpruned: str
    why: str


def as_published(study: Study) -> tuple[Study, str]:
    """The runs that the paper's claims are about, and how to call them; all of them where they have one setting.

    The paper has no privacy and no parties: runs without are taken where there are any. Else it is the first setting
    alone, so that no claim is a mean over epsilons.
    """
    settings = {
        facet: (config.get("privacy") or {}, config.get("secure_sum")) for facet, config in study.facets.items()
    }
    different = {canonical(setting) for setting in settings.values()}
    if len(different) == 1:
        return study, ""
    bare = [f for f, (privacy, sums) in settings.items() if privacy.get("kind") in (None, "none") and not sums]
    first = canonical(next(iter(settings.values())))
    kept = bare or [facet for facet, setting in settings.items() if canonical(setting) == first]
    words = "without privacy and in the open" if bare else "of one setting of privacy and secure sums"
    chosen = [i for i, facet in enumerate(study.cells["facet"]) if facet in kept]
    cells = study.cells.iloc[chosen].reset_index(drop=True)
    records, here = [study.records[i] for i in chosen], set(cells["algorithm"])
    return replace(
        study, records=records, cells=cells, facets={facet: study.facets[facet] for facet in kept},
        algorithms=[a for a in study.algorithms if a in here], strata={},
    ), words  # fmt: skip


def subject(study: Study) -> str | None:
    """Label of AutoFLIP as the paper has it, which explores once; of several settings the middle one."""
    variants = [a for a in study.algorithms if study.families[a] == SUBJECT]
    chosen = [a for a in variants if _once(study, a)] or variants
    return chosen[(len(chosen) - 1) // 2] if chosen else None


def non_iid(study: Study) -> list[str]:
    """Facets whose clients hold different kinds of data."""
    return [f for f, config in study.facets.items() if (config.get("partition") or {}).get("kind") != "iid"]


def clean(study: Study, facet: str) -> Condition:
    """The facet without attack."""
    return Condition(facet, NO_ATTACK)


def pruned_pair(study: Study) -> PrunedPair | None:
    """The pair that isolates pruning by the initial map best: the mask alone differs, and it never changes later.

    In this order: a static mask before a refined one, a plain mean before an agreement score; of several thresholds the
    middle one. Only pairs that share runs on non-IID data without attack count. AutoFLIP against FedAvg is no such
    pair: they score clients differently too.
    """
    found: list[tuple[tuple[bool, bool], str, str]] = []
    for pruned in study.algorithms:
        if study.variants[pruned].get(f"{_PRUNER}kind") != "threshold" or not _once(study, pruned):
            continue
        rule = _part(study, pruned, _AGGREGATOR)
        for other in study.algorithms:
            unpruned = study.variants[other].get(f"{_PRUNER}kind") == "none"
            if unpruned and _part(study, other, _AGGREGATOR) == rule and _meet(study, pruned, other):
                refined = not _static(study, pruned)
                found.append(((refined, rule.get(f"{_AGGREGATOR}kind") != "mean"), pruned, other))
    if found:
        best = min(rank for rank, _, _ in found)
        pairs = [(p, u) for rank, p, u in found if rank == best]
        pruned, unpruned = pairs[(len(pairs) - 1) // 2]
        why = "the mask is refined by agreement later" if best[0] else ""
        return PrunedPair(pruned, unpruned, why)
    return None


def _meet(study: Study, a: str, b: str) -> bool:
    """Whether both ran at one seed, without attack, on non-IID data."""
    places = [clean(study, facet) for facet in non_iid(study)]
    return any(set(study.values(c, a)) & set(study.values(c, b)) for c in places)


def _part(study: Study, algorithm: str, prefix: str) -> dict[str, object]:
    return {k: v for k, v in study.variants[algorithm].items() if k.startswith(prefix)}


def _once(study: Study, algorithm: str) -> bool:
    """Whether the map is explored before round 1 and never again."""
    return study.variants[algorithm].get("exploration.every") is None


def _static(study: Study, algorithm: str) -> bool:
    settings = study.variants[algorithm]
    return settings.get(f"{_PRUNER}refine_every") is None or settings.get(f"{_PRUNER}refine_until") == 0
