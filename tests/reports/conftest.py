"""Synthetic records for every test of reports, and the way to the helpers beside them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import (
    ALGORITHMS,
    ATTACKS,
    CLEAN,
    DIRICHLET,
    IID,
    TWO_CLASSES,
    flip,
    make_record,
    make_sweep,
    noise,
)

from autoflip_secure.records.run import RunRecord

sys.path.insert(0, str(Path(__file__).parent))  # for gated.py and others

SCENARIO = {
    "name": "synthetic",
    "question": "What do invented numbers look like?",
    "partition": IID,
    "sweep": {"algorithm": list(ALGORITHMS), "attack": ATTACKS},
    "seeds": [0, 1, 2, 3, 4],
}


@pytest.fixture(scope="session")
def record() -> Callable[..., RunRecord]:
    return make_record


@pytest.fixture(scope="session")
def sweep() -> Callable[..., list[RunRecord]]:
    return make_sweep


@pytest.fixture(scope="session")
def attack() -> dict[str, Callable[..., dict[str, Any]]]:
    return {"noise": noise, "flip": flip, "clean": lambda: dict(CLEAN)}


@pytest.fixture(scope="session")
def partition() -> dict[str, dict[str, Any]]:
    return {"iid": IID, "dirichlet": DIRICHLET, "two_classes": TWO_CLASSES}


@pytest.fixture(scope="session")
def scenario() -> dict[str, Any]:
    return SCENARIO


@pytest.fixture(scope="session")
def small(sweep: Callable[..., list[RunRecord]]) -> list[RunRecord]:
    """96 cells: 2 partitions, 4 attacks, 4 algorithms, 3 seeds."""
    return sweep(
        ("fedavg", "autoflip", "autoflip_plus", "agreement_only"),
        (IID, TWO_CLASSES),
        [CLEAN, noise(0.1), noise(0.5), flip(0.3)],
        3,
    )
