"""Crews of party processes, started once for all tests of this folder (per worker)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for party_pools.py and others
sys.path.insert(0, str(Path(__file__).parent / "privacy"))  # for tests that lend
sys.path.insert(0, str(Path(__file__).parent / "aggregators"))

import autoflip_secure.defenses.secure_aggregation.crypten_ready  # noqa: F401 - so that processes find it imported too
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties, local_parties
from autoflip_secure.defenses.secure_aggregation.session import Session


@pytest.fixture(scope="session")
def two_parties() -> Iterator[Parties]:
    with local_parties(2, timeout=20) as where:
        yield where


@pytest.fixture(scope="session")
def three_parties() -> Iterator[Parties]:
    with local_parties(3, timeout=20) as where:
        yield where


@pytest.fixture(scope="module")
def session(two_parties: Parties) -> Iterator[Session]:
    """A conversation of one file's tests with two parties."""
    with Session(two_parties) as session:
        yield session
