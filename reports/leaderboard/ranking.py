"""Entries of a board -> who stands where: in each setting, and over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.board import Amounts, BoardEntry, BoardTerms, MetAttack
from autoflip_secure.records.configs import without
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.statistics.worst_case import Rank, Tried, Worst, ranks_of_all, worst_case
from autoflip_secure.reports.study import labels

OVERALL = "all settings"
_Tried = dict[tuple[int, int], Mapping[int, float]]
"""(setting, attack) -> seed -> accuracy."""


@dataclass(frozen=True)
class Standing:
    """One defence in one setting of the board, or over all of them."""

    name: str
    entry: BoardEntry
    worst: Worst  # its ``attack`` is a label
    met: MetAttack  # the worst one
    where: str  # the setting in which it is worst
    clean: Interval  # accuracy without attack; over all settings: of their mean
    costs: Amounts  # over all settings: means
    rank: Rank  # best and worst that the seeds leave possible, corrected for all views of the board at once
    attacks: dict[str, Interval]  # attack -> accuracy, in the entry's order

    @property
    def tie(self) -> str:
        """``1``, or ``2–5`` where the seeds do not tell more."""
        low, high = self.rank
        return str(low) if low == high else f"{low}–{high}"


@dataclass(frozen=True)
class View:
    """All defences in one setting, or over all, the highest worst case first."""

    title: str
    standings: list[Standing]


@dataclass(frozen=True)
class Leaderboard:
    """A board with everybody on it."""

    terms: BoardTerms
    question: str
    overall: View
    settings: list[View]

    @property
    def views(self) -> list[View]:
        """Over all settings first; of a board with one setting it alone."""
        return [self.overall, *self.settings] if len(self.settings) > 1 else self.settings

    @property
    def seeds(self) -> int:
        """Runs of each defence under each attack in each setting."""
        return len(self.terms.seeds)


def leaderboard(terms: BoardTerms, question: str, entries: Sequence[BoardEntry]) -> Leaderboard:
    """Rank the defences of ``entries``, each of which is of the board and there once."""
    names, attacks = _names(entries), _attack_names(entries)
    words = labels.label_all(terms.settings, lambda setting: labels.partition_label(setting.get("partition") or {}))
    titles = [words[canonical(setting)] for setting in terms.settings]
    named, every = dict(zip(names, entries, strict=True)), range(len(titles))
    read = [every, *([number] for number in every)] if len(every) > 1 else [every]  # together, so corrected together
    tried = [{name: _tried(entry, numbers) for name, entry in named.items()} for numbers in read]
    ranks = [found.together for found in ranks_of_all([_by_text(own) for own in tried])]
    settings = [
        _view(title, named, attacks, tried[number - len(every)], ranks[number - len(every)], [number], [title])
        for number, title in enumerate(titles)
    ]
    overall = _view(OVERALL, named, attacks, tried[0], ranks[0], every, titles)
    return Leaderboard(terms, labels.clean_text(question), overall, settings)


def _by_text(tried: Mapping[str, _Tried]) -> dict[str, Tried]:
    return {name: {str(place): values for place, values in own.items()} for name, own in tried.items()}


def _names(entries: Sequence[BoardEntry]) -> list[str]:
    """What each defence is called: by its name, and where two have one by what differs."""
    own = [{"name": entry.defence, **without(entry.algorithm, "name"), "sources": entry.sources} for entry in entries]
    words = labels.label_all(own, lambda one: labels.shorten(labels.pretty(one["name"]), 60))
    short = labels.told_apart(words.values(), 120)
    return [short[words[canonical(one)]] for one in own]


def _view(
    title: str,
    named: Mapping[str, BoardEntry],
    attacks: Mapping[str, str],
    tried: Mapping[str, _Tried],
    ranks: Mapping[str, Rank],
    numbers: Sequence[int],
    titles: Sequence[str],
) -> View:
    found = []
    for name, entry in named.items():
        own, texts = tried[name], [attacks[canonical(_bare(one))] for one in entry.attacks]
        told = {place: _told(place, texts, numbers, titles) for place in own}
        worst = worst_case({told[place]: values for place, values in own.items()})
        setting, attack = next(place for place in own if told[place] == worst.attack)
        found.append(
            Standing(
                name=name,
                entry=entry,
                worst=Worst(texts[attack], worst.accuracy, worst.attacks),
                met=entry.attacks[attack],
                where=titles[list(numbers).index(setting)],
                clean=_clean(entry, numbers),
                costs=_costs([entry.settings[number].costs for number in numbers]),
                rank=ranks[name],
                attacks={told[place]: mean_interval([*values.values()], share=True) for place, values in own.items()},
            )
        )
    return View(title, sorted(found, key=lambda one: (-one.worst.accuracy.mean, one.name)))


def _tried(entry: BoardEntry, numbers: Sequence[int]) -> _Tried:
    return {
        (number, runs.attack): dict(zip(entry.seeds, runs.accuracies, strict=True))
        for number in numbers
        for runs in entry.settings[number].runs
        if runs.attack is not None
    }


def _told(place: tuple[int, int], texts: Sequence[str], numbers: Sequence[int], titles: Sequence[str]) -> str:
    """The attack; with its setting where there are several."""
    setting, attack = place
    return texts[attack] if len(numbers) == 1 else f"{texts[attack]} · {titles[list(numbers).index(setting)]}"


def _attack_names(entries: Sequence[BoardEntry]) -> dict[str, str]:
    """Attack of any entry, without who is malicious, as canonical text -> what it is called, all different."""
    configs = [_bare(one) for entry in entries for one in entry.attacks]
    words = labels.label_all(configs, lambda config: labels.attack_label({**config, "scope": 1}).rpartition(" on ")[0])
    short = labels.told_apart(words.values(), 80)
    return {text: short[name] for text, name in words.items()}


def _bare(attack: MetAttack) -> dict[str, Any]:
    return without(attack.config, "scope", "clients", "window", "explorers")


def _clean(entry: BoardEntry, numbers: Sequence[int]) -> Interval:
    """Accuracy without attack, of each seed the mean over the settings."""
    runs = [entry.settings[number].runs[0].accuracies for number in numbers]
    return mean_interval([fmean(values) for values in zip(*runs, strict=True)], share=True)


def _costs(costs: Sequence[Amounts]) -> Amounts:
    def mean(name: str) -> float | None:
        values = [getattr(one, name) for one in costs]
        return None if None in values else fmean(values)

    return Amounts.model_validate({name: mean(name) for name in Amounts.model_fields})
