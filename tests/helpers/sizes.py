"""How much of a test `make test` runs: enough to notice a mistake; `make test-all` runs all of it."""

from collections.abc import Iterable
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
