"""Cells whose losses are planted."""

from collections.abc import Callable
from typing import Any

import pytest
from learned import GOOD, SCALED, Make

from autoflip_secure.records.run import DataRecord, FeatureScale, RunRecord


@pytest.fixture
def cell(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> Callable[..., RunRecord]:
    """Ten classes, four rounds; losses are of the test and of training alike, and differ a little from seed to seed."""

    def make(
        seed: int,
        losses: list[Any] = GOOD,
        accuracy: float = 0.9,
        *,
        name: str = "fedavg",
        attacked: Any = None,
        split: str = "iid",
        features: FeatureScale | None = SCALED,
        largest_class: float = 0.1,
        classes: int = 10,
        change: dict[str, Any] | None = None,
        **config: Any,
    ) -> RunRecord:
        made = record(name, partition[split], attacked or attack["clean"](), seed, rounds=len(losses), **config)
        entries = [
            e.model_copy(
                update={
                    "test_accuracy": accuracy,
                    "test_loss": loss and loss * (1 + 1e-6 * seed),
                    "train_loss": loss and loss * (1 + 2e-6 * seed),
                    **(change or {}),
                }
            )
            for e, loss in zip(made.rounds, losses, strict=True)
        ]
        data = DataRecord(classes=classes, largest_class=largest_class, features=features)
        return made.model_copy(update={"rounds": entries, "final_accuracy": accuracy, "data": data})

    return make
