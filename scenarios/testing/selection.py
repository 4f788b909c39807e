"""Which cells are meant: keywords such as ``sigma=0.5, algorithm="autoflip"`` -> the records of one condition.

A condition is a configuration without its seed. A keyword names a config path: in full (``attack__sigma``, or
``**{"attack.sigma": …}``), or by its last part where that is clear; then the top level wins, ``attack`` and
``partition`` come next. ``attack="label_flip"`` and the like mean the kind, a mapping means all of its keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.records.configs import without
from autoflip_secure.records.newer_keys import with_newer
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import parse_value
from autoflip_secure.scenarios.config.families import expand
from autoflip_secure.scenarios.config.settings import content_hash
from autoflip_secure.terminal.counting import first_lines, some
from autoflip_secure.terminal.near_names import suggest
from autoflip_secure.terminal.visible import short

Path = tuple[str, ...]
_SHOWN = 20  # conditions listed in a message
_NAMED = 4  # seeds named in one
_SEVERAL = (list, tuple, set, frozenset, range)


def one_condition(records: Sequence[RunRecord], where: Mapping[str, Any], asked: str) -> list[RunRecord]:
    """The records that match ``where``, sorted by seed.

    Args:
        where: keyword -> wanted value; ``seed`` also takes several.
        asked: the call as the user wrote it, for messages.

    Raises:
        InputError: no such key, nothing matches, a seed is not there, or several conditions match; lists what there is.
    """
    paths = {name: _path(name, records, asked) for name in where}
    found = [r for r in records if all(_matches(_at(r, paths[n]), v, paths[n]) for n, v in where.items())]
    if not found:
        raise InputError(f"{asked}: no cell matches; there are:\n{_listed(records)}")
    if len(_conditions(found)) > 1:
        raise InputError(
            f"{asked}: {len(_conditions(found))} conditions match; add what tells them apart:\n{_listed(found)}"
        )
    seeds = where.get("seed")
    lacking = {*seeds} - {record.seed for record in found} if isinstance(seeds, _SEVERAL) else set()
    if lacking:
        named = some([*map(str, sorted(lacking))], _NAMED)
        raise InputError(f"{asked}: there is no cell with seed {named}; there are:\n{_listed(found)}")
    return sorted(found, key=lambda record: record.seed)


def one_cell(records: Sequence[RunRecord], asked: Sequence[str], command: str) -> RunRecord:
    """The one cell that a command line names.

    Args:
        asked: the first digits of a cell's key, or any number of ``KEY=VALUE``; nothing where there is one cell alone.

    Raises:
        InputError: no cell or several match, or there is no such key; lists what there is.
    """
    found, said = list(records), f"{command} {' '.join(short(text) for text in asked)}".rstrip()
    for text in asked:
        name, equals, raw = text.partition("=")
        if not equals:
            matching = [record for record in found if text and record.cell.startswith(text.lower())]
        else:
            value, path = parse_value(raw, (name,), text), _path(name, records, said)
            matching = [record for record in found if _matches(_at(record, path), value, path)]
        if not matching:
            raise InputError(f"{said}: no finished cell matches {short(text)}; there are:\n{_cells(found)}")
        found = matching
    if len(found) > 1:
        raise InputError(
            f"{said}: {len(found)} cells match; add KEY=VALUE, or give the first digits of one key:\n{_cells(found)}"
        )
    return found[0]


def _cells(records: Sequence[RunRecord]) -> str:
    lines = [
        f"  {record.cell}  {' '.join([*(f'{path}={_written(value)}' for path, value in record.axes.items()), ''])}"
        f"seed={record.seed}"
        for record in records
    ]
    return first_lines(lines, _SHOWN, "  ")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _path(name: str, records: Sequence[RunRecord], asked: str) -> Path:
    known = dict.fromkeys(path for record in records for path in _walk(with_newer(record.config)))
    full = tuple(name.replace("__", ".").split("."))
    if full in known:
        return full
    if len(full) == 1:
        ends = [path for path in known if path[-1] == name]
        first = next((path for path in (("attack", name), ("partition", name)) if path in ends), None)
        if first is not None:
            return first
        if len(ends) == 1:
            return ends[0]
        if ends:
            spelt = ", ".join("__".join(path) for path in ends)
            raise InputError(f"{asked}: '{name}' may mean {spelt}; write one of them")
    hint = suggest(name, {path[-1] for path in known} if len(full) == 1 else {".".join(path) for path in known})
    raise InputError(f"{asked}: no cell has a key '{'.'.join(full)}'; {hint}")


def _walk(node: Mapping[str, Any], above: Path = ()) -> Iterator[Path]:
    for key, value in node.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from _walk(value, (*above, key))


_ABSENT = object()


def _at(record: RunRecord, path: Path) -> Any:
    here: Any = with_newer(record.config)
    for part in path:
        if not isinstance(here, Mapping) or part not in here:
            return _ABSENT
        here = here[part]
    return here


def _matches(found: Any, wanted: Any, path: Path) -> bool:
    if path == ("seed",) and isinstance(wanted, _SEVERAL):
        return found in wanted
    if isinstance(found, Mapping):
        wanted = expand(path[-1], wanted)
        return isinstance(wanted, Mapping) and all(
            _matches(found.get(key, _ABSENT), value, (*path, str(key))) for key, value in wanted.items()
        )
    if isinstance(found, list) and isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(_matches(f, w, path) for f, w in zip(found, wanted, strict=True))
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


def _conditions(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(content_hash(without(record.config, "seed")), []).append(record)
    return groups


def _listed(records: Sequence[RunRecord]) -> str:
    lines = []
    for group in _conditions(records).values():
        axes = ", ".join(f"{path.replace('.', '__')}={value!r}" for path, value in group[0].axes.items())
        seeds = ", ".join(str(record.seed) for record in sorted(group, key=lambda record: record.seed))
        lines.append(f"  {axes or 'algorithm=' + repr(group[0].algorithm)} (seed {seeds})")
    return first_lines(lines, _SHOWN, "  ")
