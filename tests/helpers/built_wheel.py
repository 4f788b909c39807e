"""What a user installs: one wheel, built from a copy of the tree, in an environment of its own; without network."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, ignore_patterns

from filelock import FileLock

ROOT = Path(__file__).parents[2]
Program = Callable[..., subprocess.CompletedProcess[str]]
LEFT_OUT = (".*", "runs", "build", "dist", "site", "*.egg-info", "__pycache__")


def clean() -> dict[str, str]:
    """The environment variables without what would lead back to this tree, or would speak for a workflow."""
    led_back = ("PYTHONPATH", "PYTEST_ADDOPTS", "GITHUB_STEP_SUMMARY")
    return {key: value for key, value in os.environ.items() if key not in led_back}


def once(place: Path, make: Callable[[Path], None]) -> Path:
    """``place``, made by the first process that asks for it; the others wait."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not (done := Path(f"{place}.done")).exists():
            make(place)
            done.touch()
    return place


def build(out: Path) -> None:
    """The wheel of this tree, into ``out``."""
    tree = out.parent / "source"
    copytree(ROOT, tree, ignore=ignore_patterns(*LEFT_OUT), symlinks=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def install(wheel: Path, home: Path) -> None:
    """A fresh environment with ``wheel`` in it; what it needs is taken from the one that runs this."""
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--ignore-installed", "--quiet", str(wheel)], env=clean(), check=True, capture_output=True)
