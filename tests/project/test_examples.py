"""The examples in docstrings say what the functions say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("autoflip_secure", "attacks", "defenses", "scenarios", "reports")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("autoflip_secure.")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_there_are_examples() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"autoflip_secure.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
