"""What a scenario expands to: points of its grid, and with a seed each its cells, as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoflip_secure.records.tuning import TuningRecord
from autoflip_secure.scenarios.config.settings import Header, Settings, content_hash

if TYPE_CHECKING:
    from autoflip_secure.scenarios.config.choices import Tuning


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
    tuning: TuningRecord | None = field(
        default=None, compare=False
    )  # how its settings were chosen; None: they were not

    @property
    def config(self) -> dict[str, Any]:
        """The full resolved configuration, seed included."""
        return self.settings.resolved(self.seed)


@dataclass(frozen=True)
class Point:
    """One point of the grid, under one attack; fields as of :class:`CellSpec`."""

    settings: Settings
    axes: dict[str, Any]
    places: dict[str, str]
    defaults: frozenset[str]

    def cells(self, seeds: Iterable[int], tuning: TuningRecord | None = None) -> Iterator[CellSpec]:
        """Its cells, one per seed."""
        first = self.settings.resolved(0)  # seeds differ in nothing else
        for seed in seeds:
            key = content_hash({**first, "seed": seed})
            yield CellSpec(key, self.settings, seed, self.axes, self.places, self.defaults, tuning=tuning)


def unique(cells: Iterable[CellSpec]) -> tuple[CellSpec, ...]:
    """Each cell once, in the order in which they come first."""
    found: dict[str, CellSpec] = {}
    for cell in cells:
        found.setdefault(cell.key, cell)
    return tuple(found.values())


@dataclass(frozen=True)
class LoadedScenario:
    """A scenario as written (defaults and overrides filled in) and the cells it expands to."""

    header: Header
    written: dict[str, Any]  # goes to ``scenario.yaml``; loading it gives the same cells
    cells: tuple[CellSpec, ...]
    tuning: Tuning | None = None
    """What is chosen before anything is reported. Until it is, ``cells`` have the first value of everything tuned: they
    are there to be counted and checked, never to be run."""
