"""Helper modules of this folder's tests can be imported by name; Flower reports nothing to anybody."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for in_process.py
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Flower logs every round; what a test is about stands in the strategy."""
    log = logging.getLogger("flwr")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)
