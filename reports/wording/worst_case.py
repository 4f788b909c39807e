"""Worst cases in words: what opens a report on a suite, and what to keep in mind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from autoflip_secure.interfaces.known_attacks import MADE_FOR_DEFENCES
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.worst_cases import Defended, Suites, WorstCases
from autoflip_secure.reports.wording.key_numbers import MOST, KeyNumber
from autoflip_secure.reports.wording.phrases import bracket
from autoflip_secure.reports.wording.verdict import Opening, keep_units
from autoflip_secure.terminal.counting import count_of

FIXED_ONLY = "Fixed attacks only"
CHOSEN = (
    "Whoever stands highest was chosen for that, and no interval is corrected for this choice: where many are alike, "
    "chance lifts the first. Ranks are."
)
_SETTINGS = 4  # told in sentences


def with_worst(opening: Opening, study: Study, suites: Suites, groups: Sequence[WorstCases], missing: int) -> Opening:
    """``opening`` with the worst cases of a sweep's suites, the settings in their order."""
    headline = title(groups) if groups else opening.headline
    told = [keep_units(sentence(study, group, suites)) for group in groups[:_SETTINGS]]
    more = len(groups) - _SETTINGS
    if more > 0:
        told.append(f"The table of worst cases has {count_of(more, 'setting')} more.")
    return replace(
        opening, headline=headline, answer=[*told, *opening.answer],
        caveats=[*map(keep_units, caveats(suites, groups, missing)), *opening.caveats],
        numbers=_numbers(groups) or opening.numbers, pictures=("worst-case-bars", *opening.pictures),
    )  # fmt: skip


def warned(opening: Opening, study: Study, suites: Suites | None) -> Opening:
    """``opening``, whose first line says so where the suites, or without a suite all attacks, leave out those that are
    made for the defence that they meet."""
    fixed = all_fixed(study) if suites is None else not suites.adaptive
    return replace(opening, headline=f"{FIXED_ONLY}. {opening.headline}") if fixed else opening


def all_fixed(study: Study) -> bool:
    """Whether somebody attacks, and every attack is one of this package that knows no defence and is made for none."""
    attacks = [attack for attack in study.attacks.values() if not labels.is_clean(attack)]
    kinds = {kind for attack in attacks for kind in labels.kinds_of(attack)}
    knowing = {one.kind for record in study.records for one in record.threats or () if one.knowledge == "defence"}
    return bool(kinds) and kinds <= {*labels.BUILT_IN_ATTACKS} - MADE_FOR_DEFENCES - knowing


def _numbers(groups: Sequence[WorstCases]) -> tuple[KeyNumber, ...]:
    """The highest worst case of each of the first settings."""
    found = []
    for group in groups[:MOST]:
        first = group.defended[0]
        worst = first.worst.accuracy
        note = f"{first.algorithm} under {first.worst.attack}, rank {rank(first)} of {len(group.defended)}"
        shown = bracket(worst) if worst.low is not None else ""
        found.append(KeyNumber(f"Highest worst case, {group.where}", percent(worst.mean), shown, note))
    return tuple(found)


def title(groups: Sequence[WorstCases]) -> str:
    """Who stands highest in how many settings, and whether the seeds settle it; no average over attacks."""
    firsts = [group.defended[0] for group in groups]
    if all(len(group.defended) == 1 for group in groups):
        lowest = min(firsts, key=lambda one: one.worst.accuracy.mean)
        return f"Worst case of {lowest.algorithm}: {percent(lowest.worst.accuracy.mean)} under {lowest.worst.attack}"
    highest = Counter(one.algorithm for one in firsts).most_common()
    if len(groups) == 1:
        said = f"{highest[0][0]} stands highest"
    else:
        name, count = highest[0]
        said = f"{name} stands highest in {count} of {len(groups)} settings"
        said += "".join(f", {other} in {number}" for other, number in highest[1:])
    settled = sum(one.place == (1, 1) for one in firsts)
    if settled == len(groups):
        return f"Worst case: {said}"
    doubt = f"settled by the seeds in {settled}" if settled else "the seeds do not settle it"
    return f"Worst case: {said}; {doubt}"


def sentence(study: Study, group: WorstCases, suites: Suites) -> str:
    """Who stands highest in a setting, and where the algorithms of the headline and the baseline stand."""
    first = group.defended[0]
    others = [one for one in group.defended[1:] if one.algorithm in study.headline or one.algorithm == study.baseline]
    lead = f"Worst case over {suites.words} ({group.where}): {first.algorithm} stands highest with {standing(first)}"
    return "; ".join([lead, *(f"{one.algorithm}: {standing(one)}" for one in others)]) + "."


def standing(one: Defended) -> str:
    """The worst case of an algorithm, its interval, the attack and the rank."""
    accuracy = one.worst.accuracy
    return f"{percent(accuracy.mean)} {bracket(accuracy)} under {one.worst.attack}, rank {rank(one)}"


def rank(one: Defended) -> str:
    """``1``, or ``2 to 5`` where the seeds do not tell more."""
    low, high = one.rank
    return str(low) if low == high else f"{low} to {high}"


def caveats(suites: Suites, groups: Sequence[WorstCases], missing: int) -> list[str]:
    """What a worst case is, and what it is not."""
    told = (
        f"A worst case is the attack of {suites.words} with the lowest mean over seeds, and its interval is corrected "
        "for the choice among them. Attacks that were not run may be worse."
    )
    if any(len(group.defended) > 1 for group in groups):
        told += f" {CHOSEN}"
    if not suites.adaptive:
        told += f" {FIXED_ONLY}: none is made for the defence that it meets, so this is no bound on the harm."
    if missing:
        told += f" {count_of(missing, 'cell')} missing: a worst case may be lower once all have been run."
    uneven = [group.where for group in groups if len({len(one.accuracies) for one in group.defended}) > 1]
    if suites.adaptive:
        told += " The suite adaptive holds for each algorithm the attacks that know it, so their number differs."
    elif uneven:
        told += (
            f" Not every algorithm was run under as many attacks ({'; '.join(uneven)}); the table says how many. Those "
            "that lack one stand behind the others, and are shown to be above none."
        )
    return [told]
