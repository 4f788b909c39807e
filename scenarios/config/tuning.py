"""Tuning: settings that every algorithm is given its best value of, before anything is reported.

.. code-block:: yaml

    tune:
      axes: {training.lr: [0.05, 0.1, 0.2, 0.4]}   # config path -> values, every combination
      seeds: {first: 0, count: 3}                  # never reported: none of them is of `seeds:`
      budget: 4                                    # combinations tried, the same for every algorithm; left out: all

The choice is made once for every algorithm in every setting (split, data, model, …) without attack, since a defender
does not know the attack, and holds under all attacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Annotated, Any, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.interfaces import Config
from autoflip_secure.scenarios.config.documents import DEEPEST, Document
from autoflip_secure.scenarios.config.grid import OWN, Assignment, Axes, Step, Sweep, Values
from autoflip_secure.scenarios.config.key_paths import KeyPath, dotted
from autoflip_secure.scenarios.config.seed_lists import Seeds
from autoflip_secure.scenarios.config.sources import LONGEST_NAME
from autoflip_secure.seeds import Purpose, numpy_generator
from autoflip_secure.terminal.counting import some
from autoflip_secure.terminal.visible import short

MOST_COMBINATIONS: Final = 100_000
_QUESTION: Final = ("data", "partition", "clients", "evaluation", "evaluate_every", "held_out", "attack", "privacy",
                    "secure_sum", "device", "trainer")  # fmt: skip
"""What a scenario asks about, or measures with: nobody's to choose."""
_ONCE: Final = ("name", "question", "seeds", "seed", "outcome", "compare", "suite", "tune", "sweep", "small", "form")
_SUFFIX: Final = "-tuning"


def flatten_axes(document: Document) -> None:
    """``{training: {lr: […]}}``, which ``--set tune.axes.training.lr=…`` makes, becomes ``{training.lr: […]}``."""
    tune = document.data.get("tune")
    axes = tune.get("axes") if isinstance(tune, dict) else None
    if (
        not isinstance(tune, dict)
        or not isinstance(axes, dict)
        or not any(isinstance(value, Mapping) for value in axes.values())
    ):
        return
    flat: dict[str, Any] = {}
    for path, values in _leaves(axes):
        flat[dotted(path)] = values
        if document.places:
            document.replace(("tune", "axes", dotted(path)), document.where(("tune", "axes", *path)))
    document.data["tune"] = {**tune, "axes": flat}


def _leaves(axes: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in axes.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value


class Tune(Config):
    """Settings that are chosen for every algorithm, by its accuracy without attack on seeds that are not reported."""

    axes: dict[str, Values] = Field(description="config path -> values to choose from, every combination", min_length=1)
    seeds: Seeds = Field(
        default=(0, 1, 2), description="seeds to choose on, none of them reported; a list, or {first, count}"
    )
    budget: Annotated[int, Field(ge=2, le=MOST_COMBINATIONS)] | None = Field(
        default=None,
        description="combinations tried, the same for every algorithm: of more, so many are drawn at random; null: all",
    )

    @model_validator(mode="after")
    def _fit(self) -> Tune:
        for path, values in self.axes.items():
            own = path.split(".")[0]
            said = {"axis": short(path), "own": own}
            if path.count(".") >= DEEPEST or "" in path.split("."):
                raise PydanticCustomError(OWN, "unknown axis '{axis}'; write a config path such as training.lr", said)
            if own in _ONCE or own in _QUESTION or path in ("algorithm", "algorithm.name"):
                raise PydanticCustomError(
                    OWN,
                    "'{axis}' cannot be tuned: it is part of what is asked, not a setting of an algorithm; tune "
                    "training.lr, or another key of training, exploration, guidance or algorithm",
                    said,
                )
            above = next((other for other in self.axes if path.startswith(f"{other}.")), None)
            if above is not None:
                raise PydanticCustomError(
                    OWN, "'{axis}' lies below '{above}', which is tuned as a whole; keep one", {**said, "above": above}
                )
            if len({canonical(value) for value in values}) < len(values):
                raise PydanticCustomError(OWN, "a value of '{axis}' is listed twice", said)
        if self.combinations < 2:
            raise PydanticCustomError(OWN, "there is one combination, so nothing to choose; list more values")
        if self.combinations > MOST_COMBINATIONS:
            raise PydanticCustomError(
                OWN, "the axes have {count} combinations; at most {most}: list fewer values",
                {"count": f"{self.combinations:,}", "most": f"{MOST_COMBINATIONS:,}"},
            )  # fmt: skip
        return self

    @property
    def combinations(self) -> int:
        """How many points the grid of its axes has."""
        return prod(map(len, self.axes.values()))

    @property
    def candidates(self) -> tuple[tuple[int, ...], ...]:
        """What is tried, in the order listed, the last axis fastest: of every axis the index of the value.

        Above the budget a subset of the grid, drawn without replacement by the first of its seeds (random search;
        Bergstra and Bengio 2012): the same for every algorithm.
        """
        grid = list(product(*(range(len(values)) for values in self.axes.values())))
        if self.budget is None or self.budget >= len(grid):
            return tuple(grid)
        drawn = numpy_generator(self.seeds[0], Purpose.TUNING).choice(len(grid), self.budget, replace=False)
        return tuple(grid[index] for index in sorted(drawn.tolist()))

    def values(self, candidate: Sequence[int]) -> dict[str, Any]:
        """Config path -> value of a candidate, as written."""
        return {path: values[index] for (path, values), index in zip(self.axes.items(), candidate, strict=True)}

    def set(self, point: Assignment, candidate: Sequence[int]) -> Assignment:
        """A point of the grid with the values of a candidate."""
        chosen = zip(self.axes.items(), candidate, strict=True)
        own = [Step(tuple(path.split(".")), values[i], ("tune", "axes", path, i)) for (path, values), i in chosen]
        return Assignment(tuple(sorted([*point.steps, *own], key=lambda step: len(step.path))))


def calm(point: Assignment) -> Assignment:
    """A point of the grid without what it says of attacks."""
    return Assignment(tuple(step for step in point.steps if step.path[0] != "attack"))


def check_tune(
    tune: Tune | None, seeds: Sequence[int], sweep: Sweep | None, document: Document, overrides: Sequence[str]
) -> None:
    """Refuse what would report a seed that was chosen on, or set a tuned setting elsewhere too.

    Raises:
        InputError: a seed is of both stages, or an axis of the sweep or a ``--set`` is about what is tuned.
    """
    if tune is None:
        return
    if shared := sorted({*tune.seeds} & {*seeds}):
        free = [seed for seed in range(len(seeds) + len(tune.seeds)) if seed not in seeds][: len(tune.seeds)]
        numbers = some([*map(str, shared)], 4)
        raise InputError(
            f"{document.where(('tune', 'seeds'))}: tune.seeds: {'seed' if len(shared) == 1 else 'seeds'} {numbers} "
            "would be chosen on and reported too, so what is reported would be the luck of the choice; give others: "
            f"tune.seeds: {free}"
        )
    for root, grid in _grids(sweep):
        for how, paths in (("product", grid.product), ("zip", grid.zip)):
            for path in paths:
                for axis in tune.axes:
                    if f"{path}.".startswith(f"{axis}."):
                        raise InputError(
                            f"{document.where((*root, how, path))}: the axis '{path}' of the sweep is tuned; leave it "
                            f"out, or take {axis} out of tune.axes"
                        )
    for text in overrides:
        key = text.partition("=")[0].strip()
        for axis in tune.axes:
            if f"{key}.".startswith(f"{axis}."):
                raise InputError(
                    f"--set {short(text)}: {axis} is tuned, which would overwrite it; change its values with "
                    f"--set 'tune.axes.{axis}=[…]', or drop the tuning with --set tune=null"
                )


def _grids(sweep: Sweep | None) -> Iterator[tuple[KeyPath, Axes]]:
    if isinstance(sweep, list):
        yield from ((("sweep", number), grid) for number, grid in enumerate(sweep))
    elif sweep is not None:
        yield ("sweep",), sweep


def written_stage(written: Mapping[str, Any], tune: Tune, sweep: Sweep | None, name: str) -> dict[str, Any]:
    """The tuning stage as a scenario of its own: the candidates of every point without attack, on the tuning seeds."""
    kept = {
        key: value
        for key, value in written.items()
        if key not in ("suite", "tune", "sweep", "attack", "compare", "small")
    }
    grids = [grid for _, grid in _grids(sweep)] or [Axes.model_construct(product={}, zip={})]
    tried = [_with_candidates(grid, tune) for grid in grids]
    return {
        **kept,
        "name": f"{name[: LONGEST_NAME - len(_SUFFIX)]}{_SUFFIX}",
        "question": f"Tuning of {name}: with which settings is every algorithm best where nobody attacks?",
        "attack": "none",
        "seeds": list(tune.seeds),
        "sweep": tried[0] if len(tried) == 1 else tried,
    }


def _with_candidates(grid: Axes, tune: Tune) -> dict[str, Any]:
    """A grid without attacks, every point with every candidate: in the order in which the stage has them."""
    crossed, steps = _calm_axes(grid.product), _calm_axes(grid.zip)
    if not steps and len(tune.candidates) == tune.combinations:
        return {"product": {**crossed, **tune.axes}}
    candidates = [tune.values(one) for one in tune.candidates]
    length = len(next(iter(steps.values()))) if steps else 1
    in_step = {path: [value for value in values for _ in candidates] for path, values in steps.items()}
    in_step |= {path: [one[path] for one in candidates] * length for path in tune.axes}
    return {**({"product": crossed} if crossed else {}), "zip": in_step}


def _calm_axes(axes: Mapping[str, Any]) -> dict[str, Any]:
    return {path: values for path, values in axes.items() if path.split(".")[0] != "attack"}
