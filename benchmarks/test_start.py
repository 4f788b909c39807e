"""How long questions take that need no computing: processor time beside that of an interpreter with typer and pydantic.

Both are whole processes; the best of some rounds counts. What completes a shell is among them.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 3
EMPTY = ["-c", "import typer, pydantic"]
ASKED = {
    "--version": ["--version"], "--help": ["--help"], "list": ["list"],
    "list FAMILY KIND": ["list", "attacks", "label_flip"],
    "schema": ["schema"], "unknown preset": ["sweep", "demoo"], "bad YAML": ["sweep", "bad.yaml"],
    "unknown folder": ["report", "nowhere"], "unknown option": ["sweep", "--wrkers"], "TAB": [],
}  # fmt: skip
TYPED = {"_AUTOFLIP_SECURE_COMPLETE": "complete_bash", "COMP_WORDS": "autoflip-secure sweep ", "COMP_CWORD": "2"}


def seconds(arguments: list[str], folder: Path, **variables: str) -> float:
    """User and system time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, **variables}, capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> float:
    folder = tmp_path_factory.mktemp("empty")
    return min(seconds(EMPTY, folder) for _ in range(2 * ROUNDS))


@pytest.mark.parametrize("name", ASKED)
def test_start(
    name: str, benchmark: BenchmarkFixture, ratios: Callable[..., None], empty: float, tmp_path: Path
) -> None:
    (tmp_path / "bad.yaml").write_text("clients: 5\n  cohort: 2\n")
    asked = ["-m", "autoflip_secure", *ASKED[name]]
    variables = {} if ASKED[name] else TYPED
    best = benchmark.pedantic(lambda: min(seconds(asked, tmp_path, **variables) for _ in range(ROUNDS)), rounds=1)
    ratios(f"start, {name}", best / empty, "<= 3", f"{best:.2f} s / `import typer, pydantic`")
