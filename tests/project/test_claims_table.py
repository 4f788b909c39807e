"""The table of claims in the docs names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "privacy.md").read_text(encoding="utf-8")


def test_every_claim_names_tests_that_are_there() -> None:
    table = PAGE.partition("## What is tested")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`((?:[a-z_]+/)*test_\w+\.py)(?:::(test_\w+))?`", row)
        assert named, row
        for file, test in named:
            text = (TESTS / file).read_text(encoding="utf-8")
            assert not test or f"def {test}(" in text, (file, test)
