"""A scenario file and its ``--set`` overrides -> validated cells. Complaints name file, line, key, value, way out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientPrivacy, Config
from autoflip_secure.scenarios.config.cells import CellSpec, LoadedScenario, Point, unique
from autoflip_secure.scenarios.config.changing import override, put
from autoflip_secure.scenarios.config.choices import two_stages
from autoflip_secure.scenarios.config.comparing import check_compared
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.grid import Assignment, assignments, points
from autoflip_secure.scenarios.config.key_paths import KeyPath, dotted
from autoflip_secure.scenarios.config.messages import explain, mistyped
from autoflip_secure.scenarios.config.plugin_families import class_of
from autoflip_secure.scenarios.config.settings import DEFAULTS, Header, Scenario, Settings
from autoflip_secure.scenarios.config.small_form import make_small
from autoflip_secure.scenarios.config.sources import read_source
from autoflip_secure.scenarios.config.suites import check_suite, under
from autoflip_secure.scenarios.config.tuning import Tune, check_tune, flatten_axes, written_stage
from autoflip_secure.scenarios.config.yaml_text import write_yaml
from autoflip_secure.terminal.counting import count_of

__all__ = ["CellSpec", "LoadedScenario", "load", "resolve", "to_yaml"]

C = TypeVar("C", bound=Config)
MOST_CELLS = 100_000


def load(source: str | Path, overrides: Sequence[str] = (), *, small: bool = False) -> LoadedScenario:
    """Read a scenario file or a preset by name, apply ``key=value`` overrides, expand and check every cell.

    With ``small`` it is made into its small form first: see :mod:`.small_form`.

    Raises:
        InputError: with one line per finding: place, key path, value, bound and way out.
    """
    return resolve(read_source(source), overrides, small=small)


def resolve(document: Document, overrides: Sequence[str] = (), *, small: bool = False) -> LoadedScenario:
    """Like :func:`load`, for a document that is already parsed."""
    document.data = {**DEFAULTS, **document.data}
    document.data.setdefault("name", "scenario")
    if small:
        make_small(document)
    for number, text in enumerate(overrides):
        override(document, text, overrides[:number])
    flatten_axes(document)
    document.known.clear()
    header = _validated(
        Header, {k: v for k, v in document.data.items() if k in Header.model_fields}, document, Assignment()
    )
    check_suite(header.suite, header.sweep, document)
    check_compared(document)
    check_tune(header.tune, header.seeds, header.sweep, document, overrides)
    _count(header, document)
    base = {k: v for k, v in document.data.items() if k not in Header.model_fields}
    if header.tune is not None:
        return _two_stages(header, header.tune, document, base)
    grid = (point for one in assignments(header.sweep) for point in _attacked(document, base, header, one))
    return LoadedScenario(header, document.data, unique(cell for point in grid for cell in point.cells(header.seeds)))


def to_yaml(written: dict[str, Any]) -> str:
    """The scenario as a file that loads to the same cells."""
    return write_yaml(written)


def _count(header: Header, document: Document) -> None:
    """Refuse what would take for ever."""
    attacks = len(header.suite.members()) if header.suite else 1
    count = points(header.sweep) * attacks * len(header.seeds)
    if count > MOST_CELLS:
        raise InputError(
            f"{document.where(('sweep',))}: sweep: comes to {count:,} cells with {len(header.seeds)} seeds; at most "
            f"{MOST_CELLS:,}: narrow an axis, or give fewer seeds"
        )
    if header.tune is None:
        return
    tried = len(header.tune.candidates)
    count = points(header.sweep) * tried * max(len(header.tune.seeds), attacks)  # all candidates of all are looked at
    if count > MOST_CELLS:
        raise InputError(
            f"{document.where(('tune',))}: tune: comes to {count:,} cells with {count_of(tried, 'combination')} and "
            f"{count_of(len(header.tune.seeds), 'seed')}; at most {MOST_CELLS:,}: list fewer values, or give a budget"
        )


def _attacked(document: Document, base: dict[str, Any], header: Header, point: Assignment) -> Iterator[Point]:
    """A point of the grid under every attack of the suite."""
    for assignment in under(point, header.suite, lambda calm: _settings(document, base, calm).algorithm):
        yield _point(document, base, assignment)


def _point(document: Document, base: dict[str, Any], assignment: Assignment) -> Point:
    settings = _settings(document, base, assignment)
    return Point(settings, assignment.axes, *_places(document, settings, assignment))


def _two_stages(header: Header, tune: Tune, document: Document, base: dict[str, Any]) -> LoadedScenario:
    """With a tuning stage, on a copy of the scenario in which nobody attacks."""

    def calm_point(point: Assignment) -> Point:
        found = _point(document, {**base, "attack": "none"}, point)
        if isinstance(found.settings.privacy, ClientPrivacy):
            raise InputError(
                f"{document.where(('tune',))}: tune: a choice on private data is one more release of them, which no "
                "ledger counts; write out a value that was chosen elsewhere and leave out tune, or set privacy: none"
            )
        return found

    stage = written_stage(document.data, tune, header.sweep, header.name)
    tuning, first = two_stages(
        header, tune, assignments(header.sweep), stage, calm_point,
        lambda point: tuple(_attacked(document, base, header, point)),
    )  # fmt: skip
    return LoadedScenario(header, document.data, first, tuning)


def _settings(document: Document, base: dict[str, Any], assignment: Assignment) -> Settings:
    data = copy.deepcopy(base)
    for step in assignment.steps:
        try:
            put(data, step.path, copy.deepcopy(step.value))
        except InputError as error:
            raise InputError(f"{document.where(step.source)}: {error}") from None
    return _validated(Settings, data, document, assignment)


def _places(document: Document, settings: Settings, assignment: Assignment) -> tuple[dict[str, str], frozenset[str]]:
    """Where what is checked against the data and the machine comes from, two levels deep; and what nobody wrote."""
    places: dict[str, str] = {}
    silent = set[str]()
    for key in (*_PLAIN, *_NESTED):
        inner = tuple(type(getattr(settings, key)).model_fields) if key in _NESTED else ()
        steps = tuple(step for step in assignment.steps if step.path[0] == key)
        question = key, inner, tuple((step.path, step.source) for step in steps)
        if question not in document.known:
            document.known[question] = _places_of(document, key, inner, Assignment(steps))
        where, unwritten = document.known[question]
        places |= where
        silent |= unwritten
    return places, frozenset(silent)


_PLAIN = ("clients", "device", "trainer", "algorithm")
_NESTED = ("data", "partition", "model", "attack", "privacy", "training")


def _places_of(
    document: Document, key: str, inner: tuple[str, ...], assignment: Assignment
) -> tuple[dict[str, str], set[str]]:
    """:func:`_places` of one key of a scenario, and of those within it."""
    sources = {dotted(path): assignment.source(path) for path in ((key,), *((key, one) for one in inner))}
    silent = {path for path, source in sources.items() if not document.written(source)}
    return {path: document.where(source) for path, source in sources.items()}, silent


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
