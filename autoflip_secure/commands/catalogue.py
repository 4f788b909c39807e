"""``list`` and ``schema``: what a scenario file may say."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.completion import families, kinds
from autoflip_secure.commands.listing import everything, options, overview
from autoflip_secure.commands.session import Json, exit_codes, prepare, tell
from autoflip_secure.errors import InputError

if TYPE_CHECKING:
    from autoflip_secure.scenarios.catalogue.entries import Entry


def list_entries(
    family: Annotated[
        str | None,
        typer.Argument(metavar="[FAMILY]", help="attacks, algorithms, presets, …", autocompletion=families),
    ] = None,
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help="One entry of the family.", autocompletion=kinds)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the components: attacks, aggregators, pruners, local rules, data sets, models, …

    FAMILY alone shows their options and defaults. FAMILY and KIND show all
    about one: its source, and every option with type, bounds and default.
    """
    with exit_codes(None, as_json):
        prepare()
        from autoflip_secure.scenarios.catalogue.entries import Catalogue
        from autoflip_secure.terminal.near_names import suggest
        from autoflip_secure.terminal.visible import short

        found = Catalogue.now().families
        if family is not None and family not in found:
            raise InputError(f"list: unknown family '{short(family)}'; {suggest(family, found)}")
        if family is None:
            tell(_summaries(found), as_json, overview(found))
        elif kind is None:
            tell({family: _summaries(found)[family]}, as_json, options(found[family]))
        elif kind not in found[family]:
            raise InputError(f"list {family}: unknown kind '{short(kind)}'; {suggest(kind, found[family])}")
        else:
            entry = found[family][kind]
            data = {"family": family, "kind": kind, **dataclasses.asdict(entry)}
            tell(data, as_json, everything(family, kind, entry))


def schema() -> None:
    """JSON schema of a scenario file, for editors."""
    with exit_codes(None, as_json=True):
        prepare()
        from autoflip_secure.scenarios.catalogue.entries import Catalogue

        tell(Catalogue.now().schema, True, [])


def _summaries(found: dict[str, dict[str, Entry]]) -> dict[str, Any]:
    return {family: {name: one.summary for name, one in entries.items()} for family, entries in found.items()}
