"""A board in words: its headline, what it found, what it does not say, and one row of its table as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.interfaces.attack_view import KNOWLEDGE, MEANS
from autoflip_secure.records.board import BoardEntry, BoardTerms, Proven
from autoflip_secure.records.proven import who
from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.records.threats import ThreatRecord
from autoflip_secure.reports.leaderboard.ranking import OVERALL, Leaderboard, Standing, View
from autoflip_secure.reports.study.labels import clean_text, kind_words, percent, shorten
from autoflip_secure.reports.wording.phrases import bracket
from autoflip_secure.reports.wording.worst_case import CHOSEN
from autoflip_secure.terminal.counting import count_of, some

NO_GUARANTEE = "no guarantee"
_LONGEST = 120
_NAMED = 6
_MEANS: Mapping[str, str] = dict(MEANS.items())
_NEEDED = ("clean data", "explores", "memory", "assumes", "weights", "own masks")
"""What a defence needs besides what the server sees, in the order shown."""


def headline(board: Leaderboard) -> str:
    """Who stands highest, and how many the seeds cannot tell from it."""
    view = board.views[0]
    first = view.standings[0]
    said = (
        f"{board.terms.name}: {first.name} keeps the most under its worst attack, {percent(first.worst.accuracy.mean)}"
    )
    if len(view.standings) == 1:
        return f"{board.terms.name}: {first.name} keeps {percent(first.worst.accuracy.mean)} under its worst attack"
    others = first.rank[1] - 1  # nobody stands above the highest: those that it does not stand above itself
    return said if not others else f"{said}; the seeds do not tell {count_of(others, 'other defence')} from it"


def _first(view: View) -> list[Standing]:
    """Those who may be the first."""
    return [one for one in view.standings if one.rank[0] == 1]


def answer(board: Leaderboard) -> list[str]:
    """Sentences: over everything, then setting by setting."""
    return [_sentence(view) for view in board.views]


def _sentence(view: View) -> str:
    first, tied = view.standings[0], _first(view)
    where = "Over all settings" if view.title == OVERALL else f"{view.title}"
    at = f" ({first.where})" if view.title == OVERALL else ""
    text = (
        f"{where}: {first.name} stands highest with {percent(first.worst.accuracy.mean)} "
        f"{bracket(first.worst.accuracy)} under {first.worst.attack}{at}, rank {first.tie} of {len(view.standings)}"
    )
    others = [one.name for one in tied if one is not first]
    return f"{text}; rank 1 is left open for {some(others, _NAMED)} too." if others else f"{text}."


def caveats(board: Leaderboard) -> list[str]:
    """What the board does not say."""
    entries = [one.entry for one in board.overall.standings]
    told = [
        f"{_networks(board.terms)} on one data set in {count_of(len(board.terms.settings), 'setting')}, with one share "
        "of malicious clients: others may turn the order around.",
        "A worst case is the worst of the attacks that were run, each defence meeting those that know it too; attacks "
        "that nobody ran may be worse.",
        f"Ranks are of {count_of(board.seeds, 'seed')}, corrected for all pairs of defences"
        f"{', all attacks and all tables here' if len(board.views) > 1 else ' and all attacks'}: a range such as 2–7 "
        "is a tie, whatever the order of the rows.",
        *([CHOSEN] if len(entries) > 1 else []),
    ]
    if not any(entry.privacy for entry in entries):
        told.append(
            "No defence here proves privacy: noise that a rule adds (weak DP, FLAME) is no guarantee against anybody."
        )
    versions = {tuple(sorted(entry.versions.items())) for entry in entries}
    if len(versions) > 1:
        told.append(
            f"The entries were made with {len(versions)} different sets of versions or processors, so last digits may "
            "differ between them; each entry names its own."
        )
    if any(entry.outside for entry in entries):
        told.append(
            "Attacks that know a defence from outside are those that its author names; what its server sees and needs "
            "is as its author's code says."
        )
    told.append("An entry is what its author says. autoflip-secure verify ENTRY runs some of it again.")
    return told


def _networks(terms: BoardTerms) -> str:
    count = len({canonical(one.get("model")) for one in terms.settings})
    return "One network" if count == 1 else count_of(count, "network")


def accuracy(standing: Standing) -> str:
    """``45.2 % [40.1, 47.0]``."""
    return f"{percent(standing.worst.accuracy.mean)} {bracket(standing.worst.accuracy)}"


def epsilon(entry: BoardEntry) -> str:
    """What is proven, each with its observer; or that nothing is."""
    return "; ".join(map(_proven, entry.privacy)) or NO_GUARANTEE


def _proven(one: Proven) -> str:
    return (
        f"ε ≤ {upper_text(one.epsilon)} against {who(one.observer)} ({shorten(clean_text(one.relation), _LONGEST)}, "
        f"δ = {upper_delta(one.delta)})"
    )


def sees(entry: BoardEntry) -> str:
    """What the server must see of the updates."""
    return shorten(clean_text(entry.needs.get("needs", "not known")), _LONGEST)


def needed(entry: BoardEntry) -> list[str]:
    """What else a defence needs."""
    found = [f"{key}: {entry.needs[key]}" for key in _NEEDED if key in entry.needs]
    return [shorten(clean_text(text), _LONGEST) for text in found]


def card(threat: ThreatRecord) -> str:
    """The threat card of an attack, as one line."""
    changes = ", ".join(_MEANS.get(one, shorten(clean_text(one), 40)) for one in threat.means)
    told = [f"knows {KNOWLEDGE[threat.knowledge]}", f"changes {changes}" if changes else "", threat.goal]
    told.append("remembers earlier rounds" if threat.memory else "stateless")
    return "; ".join(text for text in told if text)


def short_card(threat: ThreatRecord) -> str:
    """The same in a few words: what it knows, changes and is after, and whether it remembers."""
    changes = ", ".join(_MEANS.get(one, shorten(clean_text(one), 40)) for one in threat.means)
    told = [f"knows {threat.knowledge}", changes, threat.goal, "remembers" if threat.memory else "stateless"]
    return " · ".join(text for text in told if text)


def flags(entry: BoardEntry) -> list[str]:
    """What few servers have, and some defences need."""
    told = {"clean data": "clean data at the server", "explores": "explorers train first"}
    return [text for key, text in told.items() if key in entry.needs]


def origin(entry: BoardEntry) -> str:
    """``built in``, or which parts are from outside."""
    return "built in" if not entry.outside else "; ".join(shorten(clean_text(one), _LONGEST) for one in entry.outside)


def chosen(entry: BoardEntry, number: int) -> str:
    """The tuned values of a setting: ``lr 0.2``."""
    values = entry.settings[number].chosen
    return ", ".join(f"{kind_words(path.rpartition('.')[2])} {value}" for path, value in values.items())


def mega(value: float) -> str:
    """Bytes in megabytes, operations in millions."""
    return f"{value / 1e6:,.1f}"


def giga(value: float | None) -> str:
    """Operations in billions."""
    return "–" if value is None else f"{value / 1e9:,.2f}"


def met(standings: Sequence[Standing]) -> list[str]:
    """The attacks of a view, in order of first appearance."""
    return list(dict.fromkeys(name for one in standings for name in one.attacks))
