"""A scenario file and its ``--set`` overrides -> validated cells. Complaints name file, line, key, value, way out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Config
from autoflip_secure.scenarios.config.documents import DEEPEST, Document, parse_value
from autoflip_secure.scenarios.config.families import expand
from autoflip_secure.scenarios.config.grid import Assignment, assignments, points
from autoflip_secure.scenarios.config.key_paths import KeyPath, dotted, named
from autoflip_secure.scenarios.config.messages import explain, mistyped
from autoflip_secure.scenarios.config.plugin_families import class_of
from autoflip_secure.scenarios.config.settings import DEFAULTS, Header, Scenario, Settings, content_hash
from autoflip_secure.scenarios.config.sources import read_source
from autoflip_secure.scenarios.config.suites import check_suite, under
from autoflip_secure.scenarios.config.yaml_text import write_yaml
from autoflip_secure.terminal.near_names import suggest
from autoflip_secure.terminal.visible import short

C = TypeVar("C", bound=Config)
MOST_CELLS = 100_000


@dataclass(frozen=True)
class CellSpec:
    """One cell as data: its settings, its seed, its place in the sweep."""

    key: str  # content hash of the resolved configuration
    settings: Settings
    seed: int
    axes: dict[str, Any]  # config path -> value as written
    places: dict[str, str] = field(default_factory=dict, compare=False)  # config path -> file:line, or the --set
    defaults: frozenset[str] = field(default=frozenset(), compare=False)  # config paths of `places` that nobody wrote
    conditions: str = field(
        default="", compare=False
    )  # that it runs under, for private draws; see autoflip_secure.scenarios.store.ledgers

    @property
    def config(self) -> dict[str, Any]:
        """The full resolved configuration, seed included."""
        return self.settings.resolved(self.seed)


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario as written (defaults and overrides filled in) and the cells it expands to."""

    header: Header
    written: dict[str, Any]  # goes to ``scenario.yaml``; loading it gives the same cells
    cells: tuple[CellSpec, ...]


def load(source: str | Path, overrides: Sequence[str] = ()) -> LoadedScenario:
    """Read a scenario file or a preset by name, apply ``key=value`` overrides, expand and check every cell.

    Raises:
        InputError: with one line per finding: place, key path, value, bound and way out.
    """
    return resolve(read_source(source), overrides)


def resolve(document: Document, overrides: Sequence[str] = ()) -> LoadedScenario:
    """Like :func:`load`, for a document that is already parsed."""
    document.data = {**DEFAULTS, **document.data}
    document.data.setdefault("name", "scenario")
    for number, text in enumerate(overrides):
        _override(document, text, overrides[:number])
    header = _validated(
        Header, {k: v for k, v in document.data.items() if k in Header.model_fields}, document, Assignment()
    )
    check_suite(header.suite, header.sweep, document)
    attacks = len(header.suite.members()) if header.suite else 1
    count = points(header.sweep) * attacks * len(header.seeds)
    if count > MOST_CELLS:
        raise InputError(
            f"{document.where(('sweep',))}: sweep: comes to {count:,} cells with {len(header.seeds)} seeds; at most "
            f"{MOST_CELLS:,}: narrow an axis, or give fewer seeds"
        )
    base = {k: v for k, v in document.data.items() if k not in Header.model_fields}
    cells: dict[str, CellSpec] = {}
    for assignment in _points(document, base, header):
        settings = _settings(document, base, assignment)
        places, defaults = _places(document, settings, assignment)
        for seed in header.seeds:
            cell = CellSpec(content_hash(settings.resolved(seed)), settings, seed, assignment.axes, places, defaults)
            cells.setdefault(cell.key, cell)
    return LoadedScenario(header, document.data, tuple(cells.values()))


def to_yaml(written: dict[str, Any]) -> str:
    """The scenario as a file that loads to the same cells."""
    return write_yaml(written)


def _points(document: Document, base: dict[str, Any], header: Header) -> Iterator[Assignment]:
    """The grid, each point under every attack of the suite."""
    for point in assignments(header.sweep):
        yield from under(point, header.suite, lambda calm: _settings(document, base, calm).algorithm)


def _settings(document: Document, base: dict[str, Any], assignment: Assignment) -> Settings:
    data = copy.deepcopy(base)
    for step in assignment.steps:
        try:
            _put(data, step.path, copy.deepcopy(step.value))
        except InputError as error:
            raise InputError(f"{document.where(step.source)}: {error}") from None
    return _validated(Settings, data, document, assignment)


def _places(document: Document, settings: Settings, assignment: Assignment) -> tuple[dict[str, str], frozenset[str]]:
    """Where what is checked against the data and the machine comes from, two levels deep; and what nobody wrote."""
    keys: list[KeyPath] = [("clients",), ("device",), ("trainer",), ("algorithm",)]
    for family in ("data", "partition", "model", "attack", "privacy", "training"):
        keys += [(family,), *((family, key) for key in type(getattr(settings, family)).model_fields)]
    places = {dotted(path): document.where(assignment.source(path)) for path in keys}
    return places, frozenset(dotted(path) for path in keys if not document.written(assignment.source(path)))


def _validated(model: type[C], data: dict[str, Any], document: Document, assignment: Assignment) -> C:
    def where(path: KeyPath) -> str:
        return document.where(assignment.source(path))

    try:
        value = model.model_validate(data)
    except ValidationError as error:
        allowed = Scenario.model_fields
        raise InputError(
            explain(model, error, where, lambda path: document.written(assignment.source(path)), allowed, class_of)
        ) from error
    complaints = [f"{where(path)}: {text}" for path, text in mistyped(data, value.model_dump())]
    if complaints:
        raise InputError("\n".join(sorted(complaints)))
    return value


def _put(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Set ``path`` in nested mappings; short forms on the way are expanded, missing mappings made."""
    here = data
    for depth, part in enumerate(path[:-1]):
        inner = expand(str(part), here.get(str(part), {}))
        if not isinstance(inner, dict):
            at = f"{named(path[: depth + 1])} = {short(repr(inner), 80)}"
            raise InputError(f"'{named(path)}' cannot be set: {at} has no keys below it")
        here[str(part)] = inner
        here = inner
    here[str(path[-1])] = value


def _override(document: Document, text: str, before: Sequence[str]) -> None:
    """Apply ``--set key=value``; what the sweep would overwrite again, or what drops an earlier one, is refused."""
    key, equals, raw = text.partition("=")
    key = key.strip()
    place = f"--set {short(text)}"
    if not equals or not key or "" in key.split(".") or not key.isprintable():
        raise InputError(f"{place}: write it as key=value, for example --set data=mnist or --set attack.sigma=0.3")
    path = tuple(key.split("."))
    if len(path) > DEEPEST:
        raise InputError(f"{place}: unknown key of {len(path)} parts; no setting is nested that deep")
    value = parse_value(raw, path, place)
    for earlier in before:
        if earlier.partition("=")[0].strip().startswith(f"{key}."):
            raise InputError(
                f"{place}: would drop --set {short(earlier)}, which comes before it; put --set {short(text)} first"
            )
    sweep = document.data.get("sweep")
    grids = [(("sweep", i), g) for i, g in enumerate(sweep)] if isinstance(sweep, list) else [(("sweep",), sweep)]
    axes = [
        (root, how, axis, grid[how])
        for root, grid in grids
        if isinstance(grid, dict)
        for how in ("product", "zip")
        if isinstance(grid.get(how), dict)
        for axis in grid[how]
    ]
    if key.startswith("sweep."):
        wanted = key.removeprefix("sweep.")
        if not sweep:
            raise InputError(
                f"{place}: there is no sweep; give one with --set 'sweep={{product: {{{short(wanted)}: […]}}}}'"
            )
        found = [(root, how, values) for root, how, axis, values in axes if axis == wanted]
        if not found:
            raise InputError(
                f"{place}: the sweep has no axis '{short(wanted)}'; {suggest(wanted, {axis for _, _, axis, _ in axes})}"
            )
        for root, how, values in found:
            values[wanted] = value
            document.replace((*root, how, wanted), place)
        return
    for _, _, axis, _ in axes:
        if f"{key}.".startswith(f"{axis}."):
            raise InputError(
                f"{place}: the sweep's axis '{axis}' would overwrite it; narrow the axis with "
                f"--set 'sweep.{axis}=[…]', or drop the sweep with --set sweep=null"
            )
    try:
        _put(document.data, path, value)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    for end in range(1, len(path)):  # mappings that it made on its way
        document.places.setdefault(path[:end], place)
    document.replace(path, place)
