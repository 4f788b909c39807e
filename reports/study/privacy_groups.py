"""Settings of privacy in a study: which facets differ in its strength only, and where their runs stand by their proofs.

The epsilon of a run is what its ledger proves for everything released, against whoever sees most of those against whom
anything is proven (:func:`autoflip_secure.records.proven.foremost`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import leaves, varying, without
from autoflip_secure.records.proven import Bound, foremost, weakest, who
from autoflip_secure.records.rounding import upper_text
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.labels import (
    NO_ATTACK,
    number,
    partition_label,
    passage,
    percent,
    setting,
)
from autoflip_secure.reports.study.privacy import protection
from autoflip_secure.reports.study.study import Condition, Study

_OF_PRIVACY = ("privacy", "sampling")
_TOLD = 3  # groups in the verdict
_APART = 1.3  # epsilons of one setting that differ by less stand at one place, under the largest


@dataclass(frozen=True)
class Group:
    """Facets that differ in how strong their privacy is only: one row of panels."""

    title: str
    facets: tuple[str, ...]  # private ones, then those without privacy


@dataclass(frozen=True)
class Place:
    """Where runs of one facet stand on the axis of a row of panels.

    ``bound`` is true of each of them; None: their ledgers prove nothing, or (``private`` is false) they have none.
    """

    facet: str
    cells: frozenset[str]
    private: bool
    bound: Bound | None

    @property
    def tick(self) -> str:
        """``7.09``, ``no guarantee``, or ``no privacy`` for runs that promise nothing."""
        if self.bound is None:
            return "no\nguarantee" if self.private else "∞"
        return upper_text(self.bound.epsilon)

    @property
    def words(self) -> str:
        """The same, after the accuracy in a sentence."""
        if self.bound is None:
            return "with noise but no guarantee" if self.private else "without privacy"
        return f"at ε ≤ {upper_text(self.bound.epsilon)}"


def is_private(study: Study) -> bool:
    """Whether any run has a ledger."""
    return any(record.privacy is not None for record in study.records)


def groups(study: Study) -> list[Group]:
    """Rows of panels: what is learned and the kind of privacy are the same in each, its strength varies."""
    bare: dict[str, list[str]] = {}
    found: dict[tuple[str, str], list[str]] = {}
    for facet, config in study.facets.items():
        privacy = config.get("privacy") or {}
        rest = canonical(without(config, *_OF_PRIVACY))
        if privacy.get("kind") in (None, "none"):
            bare.setdefault(rest, []).append(facet)
        else:
            found.setdefault((rest, f"{privacy['kind']} {privacy.get('noise', '')}"), []).append(facet)
    named = (*_OF_PRIVACY, "partition", "cohort", "secure_sum")
    paths = varying(without(c, *named) for c in study.facets.values())
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
        made.append(Group(" · ".join(words), (*facets, *bare.get(rest, []))))
    return made


def places(study: Study, group: Group) -> list[Place]:
    """Every place on the axis of a group: the smallest epsilon first, then what has no guarantee, then no privacy.

    Runs of one facet stand apart where different things are proven of them: another observer, other neighbours, or an
    epsilon that is larger by more than a few tenths. So no run stands at an epsilon that is not its own.
    """
    found = [place for facet in group.facets for place in _of_facet(study, facet)]
    return sorted(found, key=lambda p: (p.bound is None, not p.private, p.bound.epsilon if p.bound else 0.0))


def _of_facet(study: Study, facet: str) -> list[Place]:
    alike: dict[tuple[str, str, str], list[tuple[str, Bound]]] = {}  # (algorithm, observer, relation) -> cell, bound
    bare: dict[bool, set[str]] = {}
    for row, record in study.rows:
        if row.facet == facet:
            bound = foremost(record.privacy)
            if bound is None:
                bare.setdefault(record.privacy is not None, set()).add(record.cell)
            else:
                alike.setdefault((row.algorithm, bound.observer, bound.relation), []).append((record.cell, bound))
    units = [(frozenset(cell for cell, _ in runs), weakest([b for _, b in runs])) for runs in alike.values()]
    clusters: list[list[tuple[frozenset[str], Bound]]] = []
    for unit in sorted(units, key=lambda unit: unit[1].epsilon):
        home = next((c for c in clusters if _near(c[0][1], unit[1])), None)
        if home is None:
            clusters.append([unit])
        else:
            home.append(unit)
    return [
        *(Place(facet, frozenset(cells), private, None) for private, cells in bare.items()),
        *(
            Place(facet, frozenset().union(*(cells for cells, _ in c)), private=True, bound=weakest([b for _, b in c]))
            for c in clusters
        ),
    ]


def _near(smaller: Bound, larger: Bound) -> bool:
    same = (smaller.observer, smaller.relation) == (larger.observer, larger.relation)
    return same and larger.epsilon <= _APART * smaller.epsilon


def terms(found: Iterable[Place]) -> str:
    """Against whom, for which neighbours and at which delta the epsilons of these places are proven, as a sentence."""
    alike: dict[tuple[str, str], list[Bound]] = {}
    for place in found:
        if place.bound is not None:
            alike.setdefault((place.bound.observer, place.bound.relation), []).append(place.bound)
    if not alike:
        return ""
    told = []
    for one in map(weakest, alike.values()):
        rests = f", as long as {one.secret} stay secret from {who(one.observer)}" if one.secret else ""
        told.append(f"{one.terms}{rests}")
    several = " Epsilons of different observers or neighbours are not comparable." if len(told) > 1 else ""
    return f"Epsilon is proven {'; or '.join(told)}.{several}"


def sentences(study: Study) -> list[str]:
    """What privacy costs, in words: accuracy at every proven epsilon, of the baseline and of the first other."""
    told: list[str] = []
    stands: list[Place] = []
    attack = NO_ATTACK if NO_ATTACK in study.attacks else next(iter(study.attacks))
    chosen = list(dict.fromkeys([a for a in (study.baseline, *study.headline[:1]) if a is not None]))
    for group in groups(study)[:_TOLD]:
        own = places(study, group)
        for algorithm in chosen:
            there = {place: runs_at(study, place, attack, algorithm) for place in reversed(own)}
            there = {place: runs for place, runs in there.items() if runs}
            if any(place.private for place in there):  # its price, not its accuracy alone
                means = {p: float(np.mean([study.accuracy(r) for r in runs])) for p, runs in there.items()}
                parts = [f"{percent(mean)} {place.words}" for place, mean in means.items()]
                stands += there
                told.append(f"{algorithm}, {group.title}, {attack}: {', '.join(parts)}.")
    if not told:
        return []
    return [
        f"What privacy costs (mean accuracy at what is proven for everything released): {' '.join(told)} "
        f"{terms(stands)}".rstrip(),
        *_pruning(study, attack),
    ]


def runs_at(study: Study, place: Place, attack: str, algorithm: str) -> list[RunRecord]:
    """The runs of one algorithm under one attack that stand at a place, by seed."""
    return [r for r in study.runs(Condition(place.facet, attack), algorithm) if r.cell in place.cells]


def _pruning(study: Study, attack: str) -> list[str]:
    """What privacy does to pruning, in words, where something was pruned without it."""
    told = []
    for group in groups(study)[:_TOLD]:
        for algorithm in study.headline[:1]:
            kept = [(p.private, _kept(runs_at(study, p, attack, algorithm))) for p in places(study, group)]
            bare = next((share for private, share in kept if share is not None and not private), None)
            with_it = [share for private, share in kept if share is not None and private]
            if bare is not None and bare < 0.995 and with_it:
                low, high = (f"{100 * v:.0f}" for v in (min(with_it), max(with_it)))
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
