"""``list`` and ``schema``: what a scenario file may say."""

from __future__ import annotations

from typing import Annotated

import typer

from autoflip_secure.commands.session import Json, exit_codes, prepare, tell
from autoflip_secure.errors import InputError


def list_entries(
    family: Annotated[str | None, typer.Argument(metavar="[FAMILY]", help="attacks, algorithms, presets, …")] = None,
    as_json: Json = False,
) -> None:
    """List components with their options and defaults: attacks, aggregators, pruners, datasets, models, presets, …"""
    with exit_codes(None, as_json):
        prepare()
        from autoflip_secure.scenarios.config.listing import catalogue, options
        from autoflip_secure.scenarios.config.messages import suggest

        families = catalogue()
        if family is not None:
            if family not in families:
                raise InputError(f"list: unknown family '{family}'; {suggest(family, families)}")
            families = {family: families[family]}
        width = max(len(name) for entries in families.values() for name in entries)
        lines = []
        for title, entries in families.items():
            lines += [title] if family is None else []
            margin = "  " if family is None else ""
            for name, text in entries.items():
                lines.append(f"{margin}{name:<{width}}  {text}")
                lines += [f"{margin}    {key}: {default}" for key, default in options(title, name).items()]
        tell(families, as_json, lines)


def schema() -> None:
    """JSON schema of a scenario file, for editors."""
    with exit_codes(None, as_json=True):
        prepare()
        from autoflip_secure.scenarios.config.settings import json_schema

        tell(json_schema(), True, [])
