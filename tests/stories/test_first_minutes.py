"""Installed from the wheel: a scenario is written, run, reported and gated, far from the tree it was built from."""

from pathlib import Path

import pytest
from built_wheel import Program


@pytest.mark.slow
def test_init_sweep_report(program: Program, tmp_path: Path) -> None:
    program("init", "mine.yaml")
    small = ("--set", "rounds=2", "--set", "seeds=[10]", "--set", "clients=4", "--set", "cohort=2")
    program("sweep", "mine.yaml", *small, "--out", "out", "--workers", 1)
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    program("report", "out")
    assert "no-such" in program("sweep", "no-such.yaml", exits=2).stderr
