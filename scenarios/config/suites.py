"""Suites: attacks under which every algorithm of a scenario is run, so that a report can say what the worst one does.

.. code-block:: yaml

    suite: standard-1                       # or several: [standard-1, optimised-1]
    suite: [standard-1, adaptive]           # adaptive: attacks that know the algorithm, as its parts name them
    suite: {name: standard-1, scope: 0.4}   # scope, clients, window and explorers are those of all its attacks
    suite: {attacks: [label_flip, {kind: gaussian_noise, sigma: 1}]}    # of your own

A suite is the attack axis of a scenario, and runs without an attack belong to each. A cell of a suite is the same cell,
with the same name, as one whose attack was written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Attack, Config
from autoflip_secure.interfaces.attack import Window
from autoflip_secure.interfaces.known_attacks import GENERIC, Known
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.families import AlgorithmConfig
from autoflip_secure.scenarios.config.grid import OWN, Assignment, Step, Sweep
from autoflip_secure.scenarios.config.key_paths import KeyPath
from autoflip_secure.terminal.near_names import suggest

SUITES: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = MappingProxyType(
    {
        "standard-1": (  # fixed
            {"kind": "gaussian_noise", "sigma": 0.5, "relative": False},
            {"kind": "label_flip", "share": 1.0, "to": "other"},
            {"kind": "sign_flip", "of": "own", "scale": 1.0},
            {"kind": "ipm", "epsilon": 0.5},
            {"kind": "alie", "z": 1.5},
            {"kind": "min_max", "direction": "deviation"},
            {"kind": "mimic", "index": None, "warmup": 10},
        ),
        "optimised-1": (  # try what the server would make of their rows
            GENERIC,
            {"kind": "opt_ipm", "trials": 20, "low": 0.05, "high": 20.0},
            {"kind": "opt_alie", "trials": 20, "low": 0.05, "high": 20.0},
        ),
    }
)
"""Name with version -> attacks by kind and settings. No suite ever changes: a better one has a new number."""
ADAPTIVE: Final = "adaptive"
"""The suite of attacks that know the algorithm: the generic one, and those that its parts name."""
SHARED: Final = ("scope", "clients", "window", "explorers")
"""Keys that all attacks of a suite have in common: who is malicious, and when."""
_MOST: Final = 100
_NONE: Final = {"kind": "none"}


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Suite(Config):
    """Attacks under which every algorithm is run, by the name of a suite, or of your own."""

    name: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        default=(), max_length=_MOST, description="a suite, or a list of suites"
    )
    attacks: tuple[Any, ...] = Field(default=(), max_length=_MOST, description="attacks of your own, as under `attack`")
    scope: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description=f"of all its attacks: {Attack.model_fields['scope'].description}"
    )
    clients: tuple[Annotated[int, Field(ge=0, lt=100_000)], ...] | None = Field(
        default=None, description=f"of all its attacks: {Attack.model_fields['clients'].description}"
    )
    window: Window | None = Field(
        default=None, description=f"of all its attacks: {Attack.model_fields['window'].description}"
    )
    explorers: bool | None = Field(
        default=None, description=f"of all its attacks: {Attack.model_fields['explorers'].description}"
    )

    @model_validator(mode="after")
    def _known(self) -> Suite:
        if not self.name and not self.attacks:
            raise PydanticCustomError(OWN, "names no attack; give name: a suite, or attacks: a list of attacks")
        for name in self.name:
            if name not in (*SUITES, ADAPTIVE):
                way_out = suggest(name, (*SUITES, ADAPTIVE))
                raise PydanticCustomError(OWN, "no suite '{name}'; {way_out}", {"name": name, "way_out": way_out})
        for attack in self.attacks:
            own = [key for key in SHARED if isinstance(attack, Mapping) and key in attack]
            if own:
                raise PydanticCustomError(
                    OWN, "'{key}' is the same for all attacks of a suite; write it beside attacks:", {"key": own[0]}
                )
            if not isinstance(attack, str | Mapping):
                raise PydanticCustomError(OWN, "an attack of a suite is a kind, or a mapping with one")
        return self

    def members(self, known: Known = ()) -> list[tuple[dict[str, Any], KeyPath]]:
        """Its attacks, none first and each once, with the place of each below ``suite``; without what they share.

        Args:
            known: attacks that know the algorithm: what the suite ``adaptive`` is for it.
        """
        named = [(dict(attack), ()) for name in self.name for attack in SUITES.get(name, known)]
        own = [
            ({"kind": attack} if isinstance(attack, str) else dict(attack), ("attacks", number))
            for number, attack in enumerate(self.attacks)
        ]
        found: list[tuple[dict[str, Any], KeyPath]] = [(dict(_NONE), ())]
        for attack, place in (*named, *own):
            if all(attack != other for other, _ in found):
                found.append((attack, place))
        return found

    @property
    def shared(self) -> dict[str, Any]:
        """What it says of all its attacks, by key."""
        return {k: v for k, v in self.model_dump(mode="json", include={*SHARED}).items() if v is not None}


def expand_suite(value: Any) -> Any:
    """The mapping that a short form stands for.

    >>> expand_suite("standard-1"), expand_suite(["standard-1", "optimised-1"])
    ({'name': 'standard-1'}, {'name': ['standard-1', 'optimised-1']})
    """
    return {"name": value} if isinstance(value, str | list) else value


def known_attacks(algorithm: AlgorithmConfig) -> Known:
    """Attacks that know an algorithm: the suite ``adaptive`` is these."""
    before = (attack for one in algorithm.aggregator.before for attack in one.known_by)
    return (GENERIC, *before, *algorithm.aggregator.known_by, *algorithm.pruner.known_by)


def under(
    assignment: Assignment, suite: Suite | None, algorithm: Callable[[Assignment], AlgorithmConfig]
) -> Iterator[Assignment]:
    """A point of the grid under each attack of the suite; without a suite as it is.

    What the grid sets of attacks (their share) has no meaning where nobody attacks.

    Args:
        algorithm: what a point of the grid without attack comes to.
    """
    if suite is None:
        yield assignment
        return
    calm = replace(assignment, steps=tuple(step for step in assignment.steps if step.path[0] != "attack"))
    known = known_attacks(algorithm(calm)) if ADAPTIVE in suite.name else ()
    for attack, place in suite.members(known):
        steps = [*assignment.steps, *(Step(("attack", k), v, ("suite", k)) for k, v in suite.shared.items())]
        if attack == _NONE:
            steps = [step for step in steps if step.path[0] != "attack"]
        steps.append(Step(("attack",), attack, ("suite", *place)))
        yield replace(assignment, steps=tuple(sorted(steps, key=lambda step: len(step.path))))


def check_suite(suite: Suite | None, sweep: Sweep | None, document: Document) -> None:
    """Refuse whatever else says which attacks are run.

    Raises:
        InputError: the scenario has an attack of its own beside the suite, or an axis that would change the suite.
    """
    if suite is None:
        return
    written = document.data.get("attack", "none")
    if written not in ("none", None, _NONE):
        raise InputError(
            f"{document.where(('attack',))}: attack: the suite says which attacks are run; leave it out, or the suite "
            f"(what all attacks of a suite share is written there: suite: {{{', '.join(SHARED)}}})"
        )
    for number, axes in enumerate(sweep if isinstance(sweep, list) else [] if sweep is None else [sweep]):
        root: KeyPath = ("sweep", number) if isinstance(sweep, list) else ("sweep",)
        for how, paths in (("product", axes.product), ("zip", axes.zip)):
            for path in paths:
                first, *rest = path.split(".")
                place = document.where((*root, how, path))
                if first == "attack" and (not rest or rest[0] not in SHARED):
                    raise InputError(
                        f"{place}: the axis '{path}' would change the suite, whose attacks are fixed; of attacks, axes "
                        f"beside a suite are {', '.join(f'attack.{key}' for key in SHARED)}"
                    )
                if first == "attack" and getattr(suite, rest[0]) is not None:
                    raise InputError(f"{place}: the axis '{path}' would overwrite suite.{rest[0]}; keep one of them")
