"""Somebody installs the wheel, opens the documentation, and does what its first tutorial says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from built_wheel import clean
from documented import Block
from followed import Reader


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ["docs/tutorials/first_sweep.md", "docs/tutorials/own_attack.md"])
def test_a_tutorial_works_with_what_is_installed(page: str, installed: Path, tmp_path: Path) -> None:
    def run(*words: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=cwd, env=clean() | (env or {}), capture_output=True, text=True, check=False)

    class WithTheWheel(Reader):
        def execute(self, block: Block) -> None:
            done = run(str(installed / "python"), "-c", block.text, cwd=self.folder)
            assert done.returncode == 0, f"{self.page}:{block.line}\n{done.stderr}"
            self.said = done.stdout

    def program(*words: str, **where: Any) -> subprocess.CompletedProcess[str]:
        return run(str(installed / "autoflip-secure"), *words, **where)

    WithTheWheel(page, tmp_path, program).follow()
