"""What a scenario compares: algorithms, or the levels of something else that its sweep varies.

``compare:`` of a scenario says it. Left out, it is found from the axes of the sweep: a sweep over settings that belong
to an algorithm, over privacy or over secure sums asks about those; several of them ask about all, algorithms included;
any other sweep over algorithms asks about the algorithms. No number of a run depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical

ALGORITHM, PRIVACY, SECURE_SUM, ATTACK = "algorithm", "privacy", "secure_sum", "attack"
_PARTS = ("algorithm.", "exploration.", "guidance.")  # settings that belong to an algorithm
_WHERE = ("data", "partition", "model")  # where something is compared, unless nothing else varies


@dataclass(frozen=True)
class Compared:
    """Paths of the configuration whose levels are compared; several: each of them, and how they depend on each other.

    >>> Compared.of({"sweep": {"product": {"attack": ["none", "krum"], "privacy": ["none", {"clip": 1}]}}})
    Compared(paths=('privacy',))
    >>> str(Compared.of({"compare": ["algorithm", "privacy"]}))
    'algorithm, privacy'
    """

    paths: tuple[str, ...] = (ALGORITHM,)

    @classmethod
    def of(cls, scenario: Mapping[str, Any]) -> Self:
        """The choice of a scenario as a document; one that it leaves out is found from its sweep.

        Raises:
            InputError: it is written, and is neither a path nor a list of paths.
        """
        written = scenario.get("compare")
        if written is None:
            axes = axes_of(scenario)
            if scenario.get("suite"):  # asks for the worst of its attacks, of one algorithm too
                del axes[ATTACK]
            return cls(_found(axes))
        paths = [written] if isinstance(written, str) else written
        if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str) and p for p in paths):
            raise InputError(
                f"scenario.yaml: compare = {written!r}: should be algorithm, privacy, secure_sum, attack, another axis "
                "of the sweep, or a list of these"
            )
        return cls(tuple(dict.fromkeys(paths)))

    def __str__(self) -> str:
        """The paths, as a reader sees them."""
        return ", ".join(self.paths)


def axes_of(scenario: Mapping[str, Any]) -> dict[str, list[str]]:
    """Path of every axis of the sweep -> its levels, as canonical text; one that not every grid has, has one more."""
    sweep = scenario.get("sweep")
    grids: list[dict[str, list[Any]]] = []
    for grid in sweep if isinstance(sweep, list) else [sweep]:
        parts = [grid.get(how) for how in ("product", "zip")] if isinstance(grid, Mapping) else []
        own = {str(p): v for part in parts if isinstance(part, Mapping) for p, v in part.items() if isinstance(v, list)}
        grids += [own] if own else []
    found: dict[str, list[str]] = {}
    for grid in grids:
        for path, values in grid.items():
            found.setdefault(path, []).extend(canonical(value) for value in values)
    if scenario.get("suite"):
        found.setdefault(ATTACK, []).extend(("of the suite", "another"))
    for path, levels in found.items():
        if path != ATTACK and any(path not in grid for grid in grids):
            levels.append("")
    return {path: list(dict.fromkeys(levels)) for path, levels in found.items()}


def under(path: str, axes: Iterable[str]) -> list[str]:
    """The axes that ``path`` names: itself, and those below it."""
    return [axis for axis in axes if axis == path or axis.startswith(f"{path}.")]


def _found(axes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What a sweep over these axes asks about."""
    varied = [path for path, levels in axes.items() if len(levels) > 1]
    asked = [path for path in varied if path.startswith(_PARTS) and path != "algorithm.name"]
    asked += [family for family in (PRIVACY, SECURE_SUM) if under(family, varied)]
    algorithms = [ALGORITHM] if ALGORITHM in varied else []
    if asked:
        return tuple(asked) if len(asked) == 1 else (*algorithms, *asked)
    if algorithms or not varied:
        return (ALGORITHM,)
    rest = [path for path in varied if path.split(".")[0] not in (*_WHERE, ATTACK)]
    attacks = [ATTACK] if under(ATTACK, varied) else []
    return tuple([*rest, *attacks, *varied][:1])
