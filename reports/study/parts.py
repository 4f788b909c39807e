"""What a run was asked with, in parts: facet, attack, algorithm; what these are called, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.records.configs import leaves, varying, without, without_paths
from autoflip_secure.records.newer_keys import NEWER, with_newer
from autoflip_secure.records.privacy import PrivacyRecord
from autoflip_secure.records.proven import lack, unprotected
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.privacy import NO_PRIVACY, protection

_SPLITS = ("iid", "dirichlet", "pathological", "by_group")
OF_ALGORITHM = ("algorithm", "exploration", "guidance")


def asked(record: RunRecord) -> dict[str, Any]:
    """What a run was asked with. What was tuned is no part of that: each algorithm has its own value of it."""
    return without_paths(with_newer(record.config), record.tuning.chosen if record.tuning else ())


def attack_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The attack of a configuration; one of no strength is none."""
    attack = config.get("attack")
    return {"kind": "none"} if labels.is_clean(attack) else dict(attack or {})


def variant_of(record: RunRecord) -> dict[str, Any]:
    """The algorithm's settings. Exploration and guidance count only for runs that explored."""
    used = OF_ALGORITHM if record.has("exploration") else OF_ALGORITHM[:1]
    config = asked(record)
    settings = {key: config.get(key) for key in used}
    if isinstance(settings["algorithm"], Mapping):
        settings["algorithm"] = without(settings["algorithm"], "name")
    return {"family": record.algorithm, "settings": settings}


class Alike(dict[str, dict[str, Any]]):
    """Canonical text -> configuration: of those that are equal the first one, however many runs have it."""

    def add(self, config: dict[str, Any]) -> str:
        """Note a configuration; its canonical text."""
        text = canonical(config)
        self.setdefault(text, config)
        return text


def lacking(records: Sequence[RunRecord], facets: Sequence[str], algorithms: Sequence[str]) -> dict[str, str]:
    """Canonical facet -> what its private runs do not promise, with the algorithms where it is not all of them.

    Args:
        records: the runs.
        facets: the canonical text of each one's facet.
        algorithms: the label of each one's algorithm.
    """
    runs: dict[str, dict[str, list[PrivacyRecord]]] = {}  # facet -> algorithm -> ledgers
    for record, facet, algorithm in zip(records, facets, algorithms, strict=True):
        if record.privacy is not None:
            runs.setdefault(facet, {}).setdefault(algorithm, []).append(record.privacy)
    return {facet: lack_of(own) for facet, own in runs.items()}


def lack_of(runs: Mapping[str, Sequence[PrivacyRecord]]) -> str:
    """Algorithm -> ledgers, as one phrase: what nobody promises, then who promises less."""
    observed = list(dict.fromkeys(g.observer for found in runs.values() for ledger in found for g in ledger.guarantees))
    missing = {algorithm: {o for ledger in found for o in unprotected(ledger)} for algorithm, found in runs.items()}
    shared = set.intersection(*missing.values())
    told = lack(shared, observed)
    worse: dict[str, list[str]] = {}
    for algorithm, observers in missing.items():
        if observers > shared:
            worse.setdefault(lack(observers, observed), []).append(algorithm)
    for words, algorithms in worse.items():
        names = " and ".join(algorithms) if len(algorithms) < 3 else f"{len(algorithms)} algorithms"
        told += f", {words} at all for {names}" if told else f"{words} for {names}"
    return told


def facet_labels(facets: list[dict[str, Any]], lacks: Mapping[str, str]) -> dict[str, str]:
    """What tells facets apart, in words; a single one is called by its split."""
    named = ("partition", "privacy", "secure_sum")
    rest = varying(without(f, *named) for f in facets)
    split, private, secure = (len({canonical(f.get(key)) for f in facets}) > 1 for key in named)
    distinct = {canonical(f): f for f in facets}

    def describe(facet: dict[str, Any]) -> str:
        flat = leaves(facet)
        partition = labels.partition_label(facet.get("partition") or {})
        words = [partition] if split else []
        words += [protection(facet.get("privacy"), lacks.get(canonical(facet), ""))] if private else []
        words += [labels.passage(facet.get("secure_sum"))] if secure else []
        words += [labels.level(path, flat[path]) for path in rest if path in flat]
        return " · ".join(words or [partition])

    for follower in ("sampling", "cohort"):  # often they follow from what else varies; then nothing is said of them
        if follower in rest and len({describe(f) for f in distinct.values()}) == len(distinct):
            rest.remove(follower)
            if len({describe(f) for f in distinct.values()}) < len(distinct):
                rest.append(follower)
    return labels.label_all(facets, describe)


def natural(config: Any) -> tuple[tuple[int, float, str], ...]:
    """Sort key that puts numbers in numeric order."""
    flat = leaves(config)
    return tuple((0, float(v), "") if isinstance(v, int | float) else (1, 0.0, str(v)) for _, v in sorted(flat.items()))


def usual(path: str) -> Any:
    """The default of a setting, as far as it is known here.

    >>> usual("training.precision"), usual("training.optimizer"), usual("algorithm.aggregator.weighting")
    ('float32', 'sgd', 'samples')
    """
    above, _, key = path.rpartition(".")
    if above == "training" and key in TrainingSchedule.model_fields:
        return TrainingSchedule.model_fields[key].default
    return NEWER.get(path)


def facet_order(facet: dict[str, Any]) -> tuple[Any, ...]:
    """Sort key: the easiest split first, without privacy before with it, in the open before in shares."""
    partition = facet.get("partition") or {}
    kind = partition.get("kind")
    rank = _SPLITS.index(kind) if kind in _SPLITS else len(_SPLITS)
    return (
        rank,
        -float(partition.get("alpha") or 0),
        natural(partition),
        protection(facet.get("privacy")) != NO_PRIVACY,
        labels.passage(facet.get("secure_sum")) != labels.OPEN,
        natural(without(facet, "partition")),
    )


def attack_order(attack: dict[str, Any]) -> tuple[Any, ...]:
    """Sort key: none first, then by kind and strength."""
    kind = str(attack.get("kind"))
    return (
        kind != "none",
        kind,
        *(float(attack.get(key) or 0) for key in ("scope", "sigma", "share")),
        natural(attack),
    )
