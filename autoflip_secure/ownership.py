"""Our import packages have plain names (``reports``, ``attacks``); say clearly when others' are in the way."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError

PACKAGES = ("autoflip_secure", "attacks", "defenses", "scenarios", "reports")
DISTRIBUTION = "autoflip-secure"


def check_sole_owner(packages: tuple[str, ...] = PACKAGES) -> None:
    """Every one of ``packages`` comes from us alone.

    Raises:
        InputError: another installed distribution brings a package of the same name, or a folder of that name is found
            before ours on the import path; says which, and what to do.
    """
    owners = [(each.metadata["Name"], _brings(each, packages)) for each in importlib.metadata.distributions()]
    for package in packages:
        others = sorted({name for name, brought in owners if package in brought and _canonical(name) != DISTRIBUTION})
        if others:
            raise InputError(
                f"the installed distribution {', '.join(others)} also brings a package '{package}', which is ours; "
                f"uninstall it (pip uninstall {others[0]}), or use a virtual environment without it"
            )
    home = Path(__file__).resolve().parents[1]
    for package in packages:
        spec = importlib.util.find_spec(package)
        found = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if found != home / package:
            raise InputError(
                f"the import name '{package}' leads to {found or 'nothing'}, not to {home / package}; "
                f"start from another folder, or take the other one off PYTHONPATH"
            )


def _brings(distribution: Any, packages: tuple[str, ...]) -> set[str]:  # Any: importlib_metadata has its own class
    """Which of ``packages``; as ``importlib.metadata.packages_distributions``, which takes half a second for all."""
    if declared := (distribution.read_text("top_level.txt") or "").split():
        return {*declared}
    record = distribution.read_text("RECORD")
    if record is None:
        record = "\n".join(f"{file}," for file in distribution.files or ())
    return set(re.findall(rf'^"?({"|".join(packages)})(?:/[^,\n]*)?\.py"?,', record, re.MULTILINE))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
