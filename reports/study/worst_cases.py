"""Worst cases over the suites of a sweep: of every algorithm, by setting and share of malicious clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import without
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.statistics.paired import Paired, paired
from autoflip_secure.reports.statistics.worst_case import Rank, Ranks, Tried, Worst, ranks_of_all, worst_case
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.terminal.counting import count_of, listed

ADAPTIVE = "adaptive"  # the suite of attacks that each algorithm's parts name themselves
_SHARED = ("scope", "clients", "window", "explorers")


@dataclass(frozen=True)
class Suites:
    """The suites that a scenario names."""

    names: tuple[str, ...]
    own: int  # attacks of the scenario's own

    @property
    def adaptive(self) -> bool:
        """Whether attacks that know the defence are among them."""
        return ADAPTIVE in self.names

    @property
    def words(self) -> str:
        """What they are called in a sentence."""
        own = [f"the scenario's {count_of(self.own, 'attack')}"] if self.own else []
        return listed([*map(labels.clean_text, self.names), *own])


@dataclass(frozen=True)
class Defended:
    """One algorithm: what each attack leaves of it, and the worst of that."""

    algorithm: str
    accuracies: dict[str, Interval]  # attack -> over seeds
    worst: Worst
    clean: Interval | None  # without attack; None: not run
    cost: Paired | None  # clean accuracy of the baseline minus its own; None: it is the baseline, or either was not run
    rank: Rank  # best and worst that the seeds leave possible
    place: Rank  # the same, corrected for all settings too


@dataclass(frozen=True)
class WorstCases:
    """All algorithms in one setting, at one share of malicious clients, the highest worst case first (behind them those
    that lack an attack, where all should have met all)."""

    facet: str
    who: str  # malicious clients, in words
    attacks: list[str]  # in the order of the study
    defended: list[Defended]

    @property
    def where(self) -> str:
        """The setting and the share."""
        return f"{self.facet}, {self.who}"


def suites_of(scenario: Mapping[str, Any]) -> Suites | None:
    """The suites that a scenario names; None: it names none."""
    written = scenario.get("suite")
    if not written:
        return None
    parts = written if isinstance(written, Mapping) else {"name": written}
    name, own = parts.get("name") or (), parts.get("attacks") or ()
    return Suites((name,) if isinstance(name, str) else tuple(map(str, name)), len(own))


def worst_cases(study: Study, *, alike: bool = False) -> list[WorstCases]:
    """Every setting and share with an attack, in the order of the study.

    Args:
        study: by algorithms.
        alike: every algorithm should have met every attack; one that has not may be worse under those it lacks, so it
            stands above none, and behind the others.
    """
    attacked = {label: config for label, config in study.attacks.items() if config["kind"] != "none"}
    shares = labels.label_all(map(_shared, attacked.values()), _who)
    names = labels.label_all(map(_bare, attacked.values()), _name)
    groups: dict[tuple[str, str], dict[str, str]] = {}  # setting, who -> name of an attack -> its label in the study
    for condition in study.conditions:
        if condition.attack in attacked:
            config = attacked[condition.attack]
            key = condition.facet, shares[canonical(_shared(config))]
            groups.setdefault(key, {})[names[canonical(_bare(config))]] = condition.attack
    tried = [_tried(study, facet, attacks) for (facet, _), attacks in groups.items()]
    lacking: list[Tried] = [{name: {} for name in attacks} if alike else {} for attacks in groups.values()]
    standing = ranks_of_all(
        [{a: {**none, **met} for a, met in own.items()} for own, none in zip(tried, lacking, strict=True)]
    )
    return [
        _group(study, *key, [*attacks], own, ranks, behind=alike)
        for (key, attacks), own, ranks in zip(groups.items(), tried, standing, strict=True)
    ]


def _tried(study: Study, facet: str, attacks: Mapping[str, str]) -> dict[str, Tried]:
    """Algorithm -> what it met."""
    tried = {
        algorithm: {
            name: values
            for name, label in attacks.items()
            if (values := study.values(Condition(facet, label), algorithm))
        }
        for algorithm in study.algorithms
    }
    return {algorithm: own for algorithm, own in tried.items() if own}


def _group(
    study: Study, facet: str, who: str, attacks: list[str], tried: Mapping[str, Tried], standing: Ranks, *, behind: bool
) -> WorstCases:
    """``behind``: those that lack an attack come last."""
    clean = {algorithm: study.values(Condition(facet, labels.NO_ATTACK), algorithm) for algorithm in study.algorithms}
    base = clean.get(study.baseline or "", {})
    defended = [
        Defended(
            algorithm,
            {name: mean_interval(list(values.values()), share=True) for name, values in own.items()},
            worst_case(own),
            mean_interval(list(clean[algorithm].values()), share=True) if clean[algorithm] else None,
            paired(base, clean[algorithm]) if algorithm != study.baseline else None,
            standing.alone[algorithm],
            standing.together[algorithm],
        )
        for algorithm, own in tried.items()
    ]
    most = len(attacks) if behind else 0
    order = sorted(defended, key=lambda one: (one.worst.attacks < most, -one.worst.accuracy.mean))
    return WorstCases(facet, who, attacks, order)


def _parts(attack: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(attack["attacks"]) if attack.get("kind") == "several" else [attack]


def _shared(attack: Mapping[str, Any]) -> dict[str, Any]:
    """Who is malicious, and when."""
    return {key: value for key, value in _parts(attack)[0].items() if key in _SHARED}


def _bare(attack: Mapping[str, Any]) -> dict[str, Any]:
    """What they do."""
    parts = [without(part, *_SHARED) for part in _parts(attack)]
    return parts[0] if len(parts) == 1 else {"kind": "several", "attacks": parts}


def _who(shared: Mapping[str, Any]) -> str:
    if shared.get("clients") is not None:
        return f"{count_of(len(shared['clients']), 'chosen client')} malicious"
    return f"{100 * float(shared.get('scope', 0)):.3g} % malicious"


def _name(attack: Mapping[str, Any]) -> str:
    """``noise σ 0.5``: the label of an attack in a report, without the clients."""
    return " + ".join(labels.attack_label(part).rpartition(" on ")[0] for part in _parts(attack))
