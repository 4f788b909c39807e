"""The ledgers of results folders -> what all of it cost: epsilon of everything that runs on the same data released.

An epsilon in a record is that of one cell. Whoever sees the whole sweep, or chooses a setting by looking at its
results, has seen every cell; this adds them up, from the ledgers that were written before anything was released.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from autoflip_secure.defenses.privacy.budget import Spent, budget_lines, client_lines
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.regular_files import gone, parse_json
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.records.budget import Budget, ClientLine
from autoflip_secure.records.privacy import Release
from autoflip_secure.scenarios.config.loading import CellSpec, load
from autoflip_secure.scenarios.config.settings import content_hash
from autoflip_secure.scenarios.store.ledgers import ledger_file, private, released
from autoflip_secure.scenarios.store.manifest import MORE_SEEDS, scenario_file
from autoflip_secure.scenarios.store.reading import read_record

_RELEASES = TypeAdapter(list[Release])
_TURNCOATS = (
    "some cells have malicious clients, which neither clip nor add noise: the sum is for clients that are honest in "
    "every cell"
)
_NAMES = (
    "data sets are told apart by kind and path, and other ones were released from here ({}): where they hold the same "
    "people, such as one file under two paths, what they cost adds up"
)


@dataclass
class _Found:
    """What is known of one cell, of whichever folder: conditions -> what was released under them."""

    spec: CellSpec
    under: dict[str, list[Release]] = field(default_factory=dict)


def budgets(folders: Sequence[Path], delta: float | None = None) -> list[Budget]:
    """One budget for each data set that cells of ``folders`` used.

    The same cell under the same conditions repeats its releases bit for bit, so it counts once however many folders
    hold it.

    Args:
        folders: results folders, finished or not; what a gate ran inside them on more seeds is counted too.
        delta: at which epsilon is stated; None: the smallest delta of any of the ledgers.

    Raises:
        StoreError: a folder or a ledger cannot be read.
        InputError: no cell of ``folders`` was begun, or ``delta`` is not below 1/n for n samples or clients.
    """
    known = _read(folders)
    for name, (found, _, notes) in known.items():
        others = [other for other, (cells, _, _) in known.items() if cells and other != name]
        if found and others:
            notes.append(_NAMES.format(", ".join(others)))
    return [_budget(name, found, bare, delta, notes) for name, (found, bare, notes) in known.items()]


def clients(folders: Sequence[Path], delta: float | None = None) -> list[ClientLine]:
    """What every client released to whom over all of them, and its epsilon; arguments and errors of :func:`budgets`.

    Where the data were divided among clients in several ways, each has lines of its own: its client 3 is not that of
    another. What all divisions come to for somebody who pays most in each is in :func:`budgets`.
    """
    lines = []
    for name, (found, _, _) in _read(folders).items():
        spent = [_spent(one, f"seed {one.spec.seed}, {_division(one.spec)[:8]}") for one in found]
        lines += client_lines(spent, _stated(found, delta), name)
    return lines


_Known = tuple[list[_Found], int, list[str]]  # private cells, how many without privacy, notes


def _read(folders: Sequence[Path]) -> dict[str, _Known]:
    """What was begun in ``folders``, by data set."""
    cells: dict[str, _Found] = {}
    bare: dict[str, set[str]] = defaultdict(set)
    notes: dict[str, list[str]] = defaultdict(list)
    inside = [more for folder in folders if not gone((more := folder / MORE_SEEDS) / "scenario.yaml")]
    for folder in dict.fromkeys([*folders, *inside]):
        for spec in _specs(folder):
            where = _data(spec)
            if not private(spec):
                if not gone(folder / "cells" / f"{spec.key}.json"):
                    bare[where].add(spec.key)
                continue
            under = _released(folder, spec, notes[where])
            if under:
                cells.setdefault(spec.key, _Found(spec)).under.update(under)
    names = dict.fromkeys([*(_data(found.spec) for found in cells.values()), *bare])
    if not names:
        raise InputError(f"{', '.join(map(str, folders))}: no cell was begun, so nothing was released")
    return {
        name: ([f for f in cells.values() if _data(f.spec) == name], len(bare[name]), notes[name]) for name in names
    }


def _spent(one: _Found, division: str) -> Spent:
    return Spent(division, _unit(one.spec), tuple(map(tuple, one.under.values())))


def _stated(found: Sequence[_Found], delta: float | None) -> float:
    if delta is None:
        return min((_delta(one) for one in found), default=1e-5)
    crowd, what = max(((_crowd(one), _unit(one.spec)) for one in found), default=(1, ""))
    if delta * crowd >= 1:
        raise InputError(
            f"--delta = {delta:g}: is not below 1/{crowd}, and {'a client has' if what == 'sample' else 'there are'} "
            f"{crowd} {what}s, so one {what} could be published in full; give less, or leave it out for the smallest "
            "delta of the ledgers"
        )
    return delta


def _budget(data: str, found: list[_Found], bare: int, delta: float | None, notes: list[str]) -> Budget:
    spent = [_spent(one, _division(one.spec)) for one in found]
    if any(one.spec.settings.attack.parts for one in found):
        notes = [*notes, _TURNCOATS]
    smallest = _stated(found, delta)
    return Budget(
        data=data,
        delta=smallest,
        cells=len(found),
        bare=bare,
        divisions=len({one.division for one in spent}),
        lines=budget_lines(spent, smallest),
        notes=notes,
    )


def _specs(folder: Path) -> list[CellSpec]:
    path = scenario_file(folder)
    try:
        return list(load(path).cells)
    except InputError as error:
        raise StoreError(f"{path}: cannot be read by this version, so its cells cannot be counted: {error}") from error


def _released(folder: Path, spec: CellSpec, notes: list[str]) -> dict[str, list[Release]]:
    """Conditions -> what the cell released under them; from its record where its ledger is gone."""
    path = ledger_file(folder, spec.key)
    if not gone(path):
        try:
            return {under: _RELEASES.validate_python(rows) for under, rows in released(path).items()}
        except ValidationError as error:
            raise StoreError(f"{path} is damaged, so what was released cannot be counted") from error
    cell = folder / "cells" / f"{spec.key}.json"
    record = None if gone(cell) else read_record(cell)
    if record is None or record.privacy is None:
        return {}
    notes.append(
        f"{path} is missing: what its record says is counted, and attempts that the record does not know of are not"
    )
    rows = [release for guarantee in record.privacy.guarantees for release in guarantee.releases]
    return {f"record in {folder.resolve()}": rows}


def _data(spec: CellSpec) -> str:
    """Kind and path: subsets of the same data are about the same people."""
    config = spec.config["data"]
    return " ".join(str(config[name]) for name in ("kind", "path") if config.get(name))


def _division(spec: CellSpec) -> str:
    config: dict[str, Any] = spec.config
    return content_hash({name: config[name] for name in ("data", "partition", "clients", "seed")})


def _unit(spec: CellSpec) -> str:
    privacy = spec.settings.privacy
    assert isinstance(privacy, ClientPrivacy)
    return privacy.unit


def _delta(found: _Found) -> float:
    """The one that is given, else a tenth of one over the largest number of samples or clients."""
    privacy = found.spec.settings.privacy
    assert isinstance(privacy, ClientPrivacy)
    return 0.1 / _crowd(found) if privacy.delta is None else privacy.delta


def _crowd(found: _Found) -> int:
    """The number of clients, or the largest number of samples of one; ten thousand where that is not known."""
    if _unit(found.spec) == "client":
        return found.spec.settings.clients
    sizes = [r.population for rows in found.under.values() for r in rows if r.population is not None]
    return max(sizes, default=10_000)


def as_json(found: Sequence[Budget]) -> list[dict[str, Any]]:
    """For scripts."""
    return [parse_json(one.model_dump_json()) for one in found]
