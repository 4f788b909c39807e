"""``init``: a scenario file to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from autoflip_secure.commands.completion import preset_names
from autoflip_secure.commands.session import Overwrite, exit_codes, prepare, tell
from autoflip_secure.errors import InputError


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write.")] = Path("scenario.yaml"),
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Start from this preset.", autocompletion=preset_names),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a scenario file to edit: every key with its default, bounds and source. It runs as it is."""
    with exit_codes(None):
        prepare()
        from autoflip_secure.files.durable import unwritable, write_whole
        from autoflip_secure.files.regular_files import gone, read_regular
        from autoflip_secure.scenarios.catalogue.entries import Catalogue
        from autoflip_secure.scenarios.catalogue.template import section, template
        from autoflip_secure.scenarios.config.documents import Document
        from autoflip_secure.scenarios.config.sources import presets, scenario_name
        from autoflip_secure.terminal.near_names import suggest
        from autoflip_secure.terminal.visible import short, visible

        found = presets()
        if preset is not None and preset not in found:
            raise InputError(f"--preset {short(preset)}: no such preset; {suggest(preset, found)}")
        if file.suffix not in (".yaml", ".yml"):
            raise InputError(f"{file}: a scenario file ends in .yaml; write {file}.yaml")
        if not overwrite and not gone(file):
            raise InputError(f"{file}: already exists; add --overwrite to replace it, or give another name")
        settings = {"name": scenario_name(file)}
        command = shlex.join(["autoflip-secure", "sweep", str(file)])
        about = _about(visible(command), preset)
        if preset is None:
            text = template(Catalogue.now(), settings, about)
        else:
            sweep = section(read_regular(found[preset]).decode("utf-8"), "sweep")
            text = template(Catalogue.now(), {**Document.read(found[preset]).data, **settings}, about, sweep)
        try:
            write_whole(file, text)
        except OSError as error:
            raise InputError(f"{file}: {unwritable(error, 'give another FILE')}") from error
        tell({}, False, [f"Wrote {file}. Run it with: {command}"])


def _about(command: str, preset: str | None) -> str:
    values = "with its default" if preset is None else f"as in the preset {preset}, or with its default"
    return (
        f"A scenario for `{command}`. Every key is here, {values}; what you do not change may be left out. "
        "`autoflip-secure list` shows the choices."
    )
