"""What the documentation shows of scenario files loads: whole ones, and parts as the rest of one with defaults."""

import sys
from pathlib import Path
from typing import Any

import documented
import followed
import page_tables
import pytest

from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.yaml_text import write_yaml

BLOCKS = [block for page in documented.pages() for block in documented.blocks(page) if block.language == "yaml"]
SCENARIOS = [
    block for block in BLOCKS if not followed.is_workflow(block) and not page_tables.excepted(block.page, block.first)
]


@pytest.mark.parametrize("block", SCENARIOS, ids=lambda block: f"{block.page}:{block.line}")
def test_scenarios_load(block: documented.Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = followed.Reader(block.page, tmp_path)
    reader.put_files()
    for module in [path.stem for path in tmp_path.rglob("*.py")]:  # of the same name, of another page
        monkeypatch.delitem(sys.modules, module, raising=False)
    found: list[dict[str, Any]] = followed.variants(block.text, page_tables.APART.get(block.page, ()))
    assert found
    with followed.here(tmp_path):
        for number, data in enumerate(found):
            path = tmp_path / f"{number}.yaml"
            path.write_text(write_yaml({"name": "shown", **data}), encoding="utf-8")
            assert load(path).cells


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) > 20
    assert len(BLOCKS) - len(SCENARIOS) >= 2, "workflows, which tests/project/test_workflows.py is about"
