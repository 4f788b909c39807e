"""Where a scenario is written: a file, or a preset of the package. Finding and reading it imports nothing heavy."""

from __future__ import annotations

import os
import re
from pathlib import Path

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.terminal.near_names import nearby, suggest
from autoflip_secure.terminal.visible import short

PRESETS = Path(__file__).parents[1] / "presets"
LONGEST_NAME = 100  # characters; file systems take 255 bytes


def presets() -> dict[str, Path]:
    """Name -> file of the scenarios that come with the package."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def read_source(source: str | Path) -> Document:
    """Read a scenario file, or a preset by name.

    Raises:
        InputError: there is neither, the file cannot be read, or it is no YAML that can be understood.
    """
    path = Path(source)
    if not os.path.isfile(path) and str(source) in presets():  # a folder of results may have the name
        path = presets()[str(source)]
    elif not os.path.exists(path) and path.suffix not in (".yaml", ".yml"):
        file = "" if source in ("", ".") else nearby(path)
        name = f"'{short(source)}' is neither a scenario file nor a preset{file}"
        raise InputError(f"{name}; {suggest(source, presets())}")
    document = Document.read(path)
    document.data.setdefault("name", scenario_name(path))
    return document


def scenario_name(path: Path) -> str:
    """A name for a scenario that gives itself none: its file's, as far as that can be one."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)[:LONGEST_NAME]
    return re.sub(r"^[^A-Za-z0-9]+", "", name) or "scenario"
