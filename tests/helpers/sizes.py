"""How much of a test `make test` runs: enough to notice a mistake; `make test-all` runs all of it."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import pytest

_short = False


def follow(config: pytest.Config) -> None:
    """Sizes are short where tests marked slow are left out."""
    global _short  # noqa: PLW0603 - read while modules are imported, before there is a fixture
    _short = "not slow" in config.getoption("markexpr")


def sized(short: int, full: int) -> int:
    """How many examples or repetitions."""
    return short if _short else full


def every(step: int, values: Iterable[Any]) -> list[Any]:
    """All ``values`` as parameters of a test: `make test` takes each ``step``-th, the others are marked slow.

    Several values of one set are a tuple.
    """
    return [
        value
        if number % step == 0
        else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for number, value in enumerate(values)
    ]


def crossed(step: int, *axes: Mapping[str, Any]) -> list[Any]:
    """All combinations of values of ``axes`` as parameters of a test, named by their keys; a tuple is several values.

    `make test` takes those on each ``step``-th diagonal, so that every value meets different ones of the other axes;
    the others are marked slow.

    >>> [found.id for found in crossed(2, {"a": 1, "b": 2}, {"x": 3, "y": 4}) if not found.marks]
    ['a-x', 'b-y']
    """
    found = []
    for combination in product(*(enumerate(axis.items()) for axis in axes)):
        values = [value for _, (_, one) in combination for value in (one if isinstance(one, tuple) else (one,))]
        name = "-".join(name for _, (name, _) in combination)
        apart = sum(place for place, _ in combination) % step
        found.append(pytest.param(*values, id=name, marks=[pytest.mark.slow] if apart else []))
    return found
