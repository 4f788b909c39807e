"""A sweep as data: axes -> assignments of values to config paths.

.. code-block:: yaml

    sweep:                                  # a list of mappings is their union
      - product: {algorithm: [fedavg, autoflip], attack.sigma: [0.1, 0.5]}    # every combination
        zip: {clients: [10, 20], cohort: [3, 5]}                              # in step

Shorter paths are applied first, so that ``algorithm: autoflip`` comes before ``algorithm.pruner.threshold: 0.2``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Annotated, Any, Final

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from autoflip_secure.interfaces import Config
from autoflip_secure.scenarios.config.documents import DEEPEST
from autoflip_secure.scenarios.config.key_paths import KeyPath, dotted
from autoflip_secure.terminal.visible import short

Values = Annotated[list[Any], Field(min_length=1, description="a list of values")]
OWN: Final = "own"  # type of our own findings
ONE, UNION = "<one>", "<union>"  # tags of the two forms of `sweep` in pydantic's locations


class Axes(Config):
    """One grid: ``product`` takes every combination, ``zip`` goes in step."""

    product: dict[str, Values] = Field(default={}, description="config path -> values, every combination")
    zip: dict[str, Values] = Field(default={}, description="config path -> values, all of one length, in step")

    @model_validator(mode="after")
    def _fit(self) -> Axes:
        if not self.product and not self.zip:
            raise PydanticCustomError(
                OWN, "no axis is given; write `product:` or `zip:` with a config path and its values"
            )
        lengths = {path: len(values) for path, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            raise PydanticCustomError(
                OWN, "zip axes go in step, so they need one length, not {lengths}", {"lengths": str(lengths)}
            )
        paths = [*self.product, *self.zip]
        for path in paths:
            if paths.count(path) > 1:
                raise PydanticCustomError(OWN, "'{axis}' is in product and in zip; keep one", {"axis": short(path)})
            if path.count(".") >= DEEPEST:
                raise PydanticCustomError(
                    OWN, "unknown axis '{axis}'; no setting is nested that deep", {"axis": short(path)}
                )
            own = path.split(".")[0]
            if own in ("seeds", "seed"):
                raise PydanticCustomError(
                    OWN, "'{axis}' cannot be an axis; seeds have their own key, `seeds:`", {"axis": short(path)}
                )
            if own in ("name", "question", "outcome", "compare", "suite", "tune", "sweep", "small", "form"):
                raise PydanticCustomError(
                    OWN, "'{axis}' cannot be an axis; it is set once for the whole scenario: write it at the top",
                    {"axis": short(path)},
                )  # fmt: skip
        return self


Sweep = Annotated[
    Annotated[Axes, Tag(ONE)] | Annotated[list[Axes], Tag(UNION)],
    Discriminator(lambda value: UNION if isinstance(value, list) else ONE),
]


@dataclass(frozen=True)
class Step:
    """Set ``path`` to ``value``, which stands at ``source`` in the document."""

    path: KeyPath
    value: Any
    source: KeyPath


@dataclass(frozen=True)
class Assignment:
    """One point of the grid: the steps in the order they are applied."""

    steps: tuple[Step, ...] = ()

    @property
    def axes(self) -> dict[str, Any]:
        """Config path -> value, as written."""
        return {dotted(step.path): step.value for step in self.steps}

    def source(self, path: KeyPath) -> KeyPath:
        """Where in the document the value at config ``path`` was written."""
        for step in reversed(self.steps):
            if path[: len(step.path)] == step.path:
                return step.source + path[len(step.path) :]
        return next((step.source for step in self.steps if step.path[: len(path)] == path != ()), path)


def points(sweep: Axes | list[Axes] | None) -> int:
    """How many points the grid has, without making them."""
    grids = sweep if isinstance(sweep, list) else [] if sweep is None else [sweep]
    sizes = [prod(map(len, g.product.values())) * (len(next(iter(g.zip.values()))) if g.zip else 1) for g in grids]
    return sum(sizes) if sizes else 1


def assignments(sweep: Axes | list[Axes] | None) -> Iterator[Assignment]:
    """All points of the grid, in the order written, the last axis fastest; without a sweep one empty point."""
    if sweep is None or sweep == []:
        yield Assignment()
        return
    for index, axes in enumerate(sweep if isinstance(sweep, list) else [sweep]):
        root: KeyPath = ("sweep", index) if isinstance(sweep, list) else ("sweep",)
        choices = [
            [[_step(root, "product", path, i, v)] for i, v in enumerate(vs)] for path, vs in axes.product.items()
        ]
        if axes.zip:
            length = len(next(iter(axes.zip.values())))
            choices.append(
                [[_step(root, "zip", path, i, vs[i]) for path, vs in axes.zip.items()] for i in range(length)]
            )
        for point in product(*choices):
            steps = [step for group in point for step in group]
            yield Assignment(tuple(sorted(steps, key=lambda step: len(step.path))))


def _step(root: KeyPath, how: str, path: str, index: int, value: Any) -> Step:
    return Step(tuple(path.split(".")), value, (*root, how, path, index))
