"""Which configuration of a sweep is compared with which of the baseline.

Equal ones meet. Where a setting was changed on purpose, ``--across PATH`` leaves it out of the comparison: what is then
equal in everything else, axes of the sweep among it, meets too, seed by seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoflip_secure.errors import InputError
from autoflip_secure.records.configs import differences, leaves, without_paths
from autoflip_secure.reports.gate.metrics import Entry, config_hash
from autoflip_secure.reports.study.labels import clean_text, number
from autoflip_secure.terminal.counting import count_of, some
from autoflip_secure.terminal.near_names import suggest

_SHOWN = 3  # values of one setting, or configurations, that are named


@dataclass(frozen=True)
class Pairs:
    """What meets what."""

    of: dict[str, str]  # key in the sweep -> key in the baseline
    notes: list[str]  # what was changed on purpose, in words


def pair_up(found: Mapping[str, Entry], known: Mapping[str, Entry], across: Sequence[str] = ()) -> Pairs:
    """Pair the entries of a sweep with those of its baseline.

    Args:
        found: the sweep's.
        known: the baseline's.
        across: config paths that may differ.

    Raises:
        InputError: a path that no configuration has, or several that differ in nothing else.
    """
    pairs = {key: key for key in found if key in known}
    if not across:
        return Pairs(pairs, [])
    _check_paths(across, [*found.values(), *known.values()])
    left = [_by_the_rest({k: e for k, e in side.items() if k not in pairs}, across) for side in (found, known)]
    for rest, sides in zip(left, ("the sweep", "the baseline"), strict=True):
        for group in rest.values():
            if len(group) > 1:
                raise InputError(_ambiguous(group, across, sides))
    new = {group[0].key: left[1][rest][0].key for rest, group in left[0].items() if rest in left[1]}
    return Pairs(pairs | new, _notes([(known[b], found[a]) for a, b in new.items()], across))


def _by_the_rest(entries: Mapping[str, Entry], across: Iterable[str]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries.values():
        groups.setdefault(config_hash(without_paths(entry.config, across), entry.curve), []).append(entry)
    return groups


def _check_paths(across: Iterable[str], entries: Iterable[Entry]) -> None:
    paths = dict.fromkeys(path for entry in entries for path in leaves(entry.config))
    known = {".".join(path.split(".")[:depth]) for path in paths for depth in range(1, path.count(".") + 2)}
    for path in across:
        if path not in known:
            raise InputError(f"--across {path}: no configuration has this setting; {suggest(path, known)}")


def _ambiguous(group: Sequence[Entry], across: Sequence[str], side: str) -> str:
    named = some([entry.label for entry in group], _SHOWN, "; ")
    paths, count = " --across ".join(across), count_of(len(group), "configuration")
    return (
        f"--across {paths}: {count} of {side} differ in nothing else ({named}), so nobody can say which is meant; "
        "leave out a path that is an axis of the sweep"
    )


def _notes(pairs: Sequence[tuple[Entry, Entry]], across: Sequence[str]) -> list[str]:
    """Per path, what it was and is; of paths that are equal everywhere, that they are."""
    told = []
    for path in across:
        changed: dict[str, int] = {}
        for old, new in pairs:
            for place, before, after in differences(old.config, new.config):
                if f"{place}.".startswith(f"{path}."):
                    words = f"{clean_text(place)} {number(before)} -> {number(after)}"
                    changed[words] = changed.get(words, 0) + 1
        where = [f"{words} ({count_of(n, 'configuration')})" for words, n in changed.items()]
        told.append(some(where, _SHOWN, "; ") if where else f"{clean_text(path)} does not differ")
    return told
