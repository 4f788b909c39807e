"""What a shell completes besides commands and options: names from the shipped catalogue, scenario files beside them.

Names alone: typer takes rich to show more, and with it another fifth of a second for every press of a key.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable
from typing import Any

import typer

from autoflip_secure.errors import StoreError


def families(incomplete: str) -> list[str]:
    """Families of components."""
    return _beginning(incomplete, _catalogue())


def kinds(context: typer.Context, incomplete: str) -> list[str]:
    """Kinds of the family that the command line names already."""
    return _beginning(incomplete, _catalogue().get(str(context.params.get("family")), ()))


def preset_names(incomplete: str) -> list[str]:
    """Presets."""
    from autoflip_secure.scenarios.config.sources import presets

    return _beginning(incomplete, presets())


def scenario_sources(incomplete: str) -> list[str]:
    """Scenario files, and presets."""
    folder = os.path.dirname(incomplete)
    files: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(folder or ".") if name.endswith((".yaml", ".yml")))
        files = [os.path.join(folder, name) for name in names]
    return [*_beginning(incomplete, files), *preset_names(incomplete)]


def _beginning(start: str, names: Iterable[str]) -> list[str]:
    """Those that begin so, and that a shell takes as one word."""
    return [name for name in names if name.startswith(start) and shlex.quote(name) == name]


def _catalogue() -> dict[str, Any]:
    """As it is shipped: a shell waits for no class to be imported, and shows no error."""
    from autoflip_secure.scenarios.catalogue.entries import Catalogue

    try:
        return Catalogue.read().families
    except StoreError:
        return {}
