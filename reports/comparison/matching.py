"""Two sweeps cell by cell: which cells are the same experiment, seed included, and which settings set the two apart.

A cell has its counterpart when the whole configuration is equal, but for settings that have one value throughout the
one sweep and another throughout the other (for one algorithm at least): rounds, a threshold, the device. Data,
partition, attack and seed are never such a setting: they are what accuracies are compared on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import NOT_THERE, leaves, without, without_paths
from autoflip_secure.records.newer_keys import with_newer
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.labels import number, pretty

_FIXED = ("data", "partition", "attack", "seed")


@dataclass(frozen=True)
class Difference:
    """A setting that is one thing in all cells of ``algorithms`` in the first sweep, another in the second."""

    path: str
    first: str
    second: str
    algorithms: tuple[str, ...]  # empty: all


@dataclass(frozen=True)
class Matching:
    """Cells of two sweeps."""

    pairs: list[tuple[RunRecord, RunRecord]]
    only_first: list[RunRecord]
    only_second: list[RunRecord]
    settings: list[Difference]
    versions: list[Difference]

    @property
    def changed(self) -> list[tuple[RunRecord, RunRecord]]:
        """Pairs whose numbers are not exactly the same."""
        return [(a, b) for a, b in self.pairs if numbers(a) != numbers(b)]

    @property
    def identical(self) -> bool:
        """Whether both sweeps hold the same cells with the same numbers."""
        return not (self.only_first or self.only_second or self.changed)


def numbers(record: RunRecord) -> dict[str, Any]:
    """What a run measured: the record without what names it."""
    return without(record.numbers(), "cell", "config", "axes", "tuning", "trainer", "pipeline")


def match(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> Matching:
    """Pair the cells of two sweeps."""
    names = dict.fromkeys(r.algorithm for r in [*first, *second])
    tuned = tuple(dict.fromkeys(path for r in [*first, *second] if r.tuning for path in r.tuning.chosen))
    found = {name: _differing(first, second, name, tuned) for name in names}
    one, two = _keyed(first, found, tuned), _keyed(second, found, tuned)
    if len(one) < len(first) or len(two) < len(second):  # what differs also tells cells of one sweep apart
        found, tuned = {name: {} for name in found}, ()
        one, two = _keyed(first, found), _keyed(second, found)
    return Matching(
        pairs=[(one[key], two[key]) for key in one if key in two],
        only_first=[record for key, record in one.items() if key not in two],
        only_second=[record for key, record in two.items() if key not in one],
        settings=[*_gathered(found), *_choices(first, second, tuned)],
        versions=_versions(first, second),
    )


def _flat(record: RunRecord, tuned: Sequence[str] = ()) -> dict[str, Any]:
    """Leaves of its configuration, without what one of the sweeps has tuned."""
    return leaves(without_paths(without(with_newer(record.config), "name"), tuned))


def _differing(
    first: Sequence[RunRecord], second: Sequence[RunRecord], name: str, tuned: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """Paths with one value in all cells of the algorithm on each side, and not the same."""
    sides = [[_flat(r, tuned) for r in side if r.algorithm == name] for side in (first, second)]
    if not all(sides):
        return {}
    found = {}
    for path in dict.fromkeys(path for side in sides for flat in side for path in flat):
        values = [{canonical(flat.get(path, NOT_THERE)): flat.get(path, NOT_THERE) for flat in side} for side in sides]
        if path.partition(".")[0] not in _FIXED and all(len(v) == 1 for v in values) and values[0] != values[1]:
            found[path] = (next(iter(values[0].values())), next(iter(values[1].values())))
    return found


def _keyed(
    records: Sequence[RunRecord], found: dict[str, dict[str, tuple[Any, Any]]], tuned: Sequence[str] = ()
) -> dict[str, RunRecord]:
    return {canonical([r.algorithm, without(_flat(r, tuned), *found[r.algorithm])]): r for r in records}


def _choices(first: Sequence[RunRecord], second: Sequence[RunRecord], tuned: Sequence[str]) -> list[Difference]:
    """Settings that a sweep has tuned, with all values that its algorithms were given; none where they are the same."""

    def given(records: Sequence[RunRecord], path: str) -> str:
        how = "tuned: " if all(r.tuning and path in r.tuning.chosen for r in records) else ""
        values = {canonical(one := _at(r.config, path)): number(one) for r in records}
        return how + ", ".join(values[key] for key in sorted(values))

    lines = [Difference(path, given(first, path), given(second, path), ()) for path in tuned]
    return [line for line in lines if line.first != line.second]


def _at(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config.get(key, NOT_THERE) if isinstance(config, Mapping) else NOT_THERE
    return config


def _gathered(found: dict[str, dict[str, tuple[Any, Any]]]) -> list[Difference]:
    """One line per setting and pair of values, with the algorithms that it holds for."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for name, paths in found.items():
        for path, (one, two) in paths.items():
            lines.setdefault((path, number(one), number(two)), []).append(pretty(name))
    every = len(found)
    return [Difference(*key, algorithms=() if len(who) == every else tuple(who)) for key, who in lines.items()]


def _versions(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> list[Difference]:
    def of(records: Sequence[RunRecord], name: str) -> str:
        return " and ".join(sorted({r.versions.get(name, NOT_THERE) for r in records}))

    names = sorted({name for r in [*first, *second] for name in r.versions})
    return [Difference(n, of(first, n), of(second, n), ()) for n in names if of(first, n) != of(second, n)]
