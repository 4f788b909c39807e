"""What a reader copies: the attack of the README, and the example package, built, installed and used as told."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest
from installed import EXAMPLE
from typer.testing import CliRunner

from autoflip_secure.cli import app

ROOT = Path(__file__).parents[2]


def done(cwd: Path, *arguments: object, path: Path | None = None) -> str:
    places = [str(ROOT), *([str(path)] if path else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "GITHUB_STEP_SUMMARY": ""}
    command = [sys.executable, "-m", *map(str, arguments)]
    found = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.slow
def test_the_attack_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file beside the scenario, and its command, on fewer seeds and rounds."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (name, code), (command,) = (
        re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, re.DOTALL)[-1],
        re.findall(r"^autoflip-secure (sweep demo .*SignFlip.*)$", text, re.MULTILINE),
    )
    (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    small = ["--set", "rounds=2", "--set", "seeds=[10]", "--workers", "1", "--no-report"]
    done = CliRunner().invoke(app, [*shlex.split(command), *small])
    assert done.exit_code == 0, done.output
    assert "4 cells: 4 run" in done.output


@pytest.mark.slow
def test_the_example_is_built_installed_swept_resumed_gated_and_shown(tmp_path: Path) -> None:
    source, wheels, site = copytree(EXAMPLE, tmp_path / "source"), tmp_path / "wheels", tmp_path / "site"
    done(tmp_path, "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels, source)
    (wheel,) = wheels.glob("*.whl")
    done(tmp_path, "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel)

    def program(*arguments: object) -> str:
        return done(tmp_path, "autoflip_secure", *arguments, path=site)

    listed = " ".join(program("list").split())
    assert listed.count("(of autoflip-example 0.1.0)") == 4
    assert all(f" {kind} " in listed for kind in ("negated", "norm_weighted", "smallest_out", "waves"))
    sweep = ("sweep", source / "scenario.yaml", "--set", "seeds=[10, 11]", "--workers", 2)
    assert "12 cells: 12 run" in program(*sweep)
    run = tmp_path / "runs" / "plugin-example"
    page = (run / "report.html").read_text()
    for label in ("negated on 25 %", "norm weighted", "smallest out", "waves"):
        assert label in page
    assert "12 cells: 0 run, 12 from before" in program(*sweep, "--no-report")
    for cell in sorted((run / "cells").iterdir())[:5]:
        cell.unlink()
    assert "5 run, 7 from before" in program(*sweep, "--no-report")
    program("gate", run, "--baseline", tmp_path / "base.json", "--update", "--reason", "first")
    assert "gate: pass" in program("gate", run, "--baseline", tmp_path / "base.json")
