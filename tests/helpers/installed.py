"""Distributions as an installer leaves them: modules and a real dist-info folder on the import path."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
GROUP = "autoflip_secure.plugins"


def distribution(
    place: Path, name: str, points: Mapping[str, str], modules: Mapping[str, str] | None = None, version: str = "1.0"
) -> Path:
    """Install ``name`` into ``place`` (which the test puts on the import path); the same twice is another version."""
    info = place / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = "".join(f"{kind} = {target}\n" for kind, target in points.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")
    for module, source in (modules or {}).items():
        (place / f"{module}.py").write_text(source)
    return place


def example(place: Path) -> Path:
    """The package of ``examples/plugin``, with the entry points of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    distribution(place, project["name"], project["entry-points"][GROUP], version=project["version"])
    copytree(EXAMPLE / "src", place, dirs_exist_ok=True)
    return place
