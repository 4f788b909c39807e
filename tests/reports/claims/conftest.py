"""Cells whose accuracies are planted."""

from collections.abc import Callable
from typing import Any

import pytest
from planted import at
from planted_claims import Make

from autoflip_secure.records.run import RunRecord


@pytest.fixture
def cell(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> Callable[..., RunRecord]:
    """A clean two-class cell unless said otherwise; ``change`` replaces fields of the record."""

    def make(name: str, seed: int, attacked: Any = None, split: str = "two_classes", **change: Any) -> RunRecord:
        made = record(name, partition[split], attacked or attack["clean"](), seed, rounds=8)
        ended = change.pop("accuracy", None)
        return (made if ended is None else at(made, ended)).model_copy(update=change)

    return make
