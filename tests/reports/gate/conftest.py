"""Invented records of many seeds."""

from collections.abc import Callable
from typing import Any

import pytest
from gated import ALGORITHMS, CLEAN, IID, Make

from autoflip_secure.records.run import RunRecord


@pytest.fixture(scope="session")
def pool(record: Make, attack: dict[str, Callable[..., dict[str, Any]]]) -> dict[int, list[RunRecord]]:
    """Seed -> its cells: two algorithms, clean and two strengths of noise."""
    attacks = [CLEAN, attack["noise"](0.1), attack["noise"](0.5)]
    return {
        seed: [record(name, IID, harm, seed, rounds=2) for harm in attacks for name in ALGORITHMS]
        for seed in range(120)
    }
