"""What people do with it: each story starts from the installed wheel, in an empty folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from built_wheel import Program, clean


@pytest.fixture
def program(installed: Path, tmp_path: Path) -> Program:
    """``program("sweep", "demo", exits=0)``: the installed command, run in ``tmp_path``; fails on another exit code."""

    def run(*arguments: object, exits: int = 0, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        command = [str(installed / "autoflip-secure"), *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, env=clean(), capture_output=True, text=True, check=False)
        assert done.returncode == exits, f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
