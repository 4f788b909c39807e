"""``export``: a model that a sweep has kept, as a file for other programs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.session import Json, Overwrite, exit_codes, prepare, tell
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.models.export import Format
    from autoflip_secure.records.run import RunRecord
    from autoflip_secure.scenarios.running.exporting import ReloadedModel, Units


class _To(StrEnum):
    safetensors = "safetensors"
    torch = "torch"
    onnx = "onnx"


class _Which(StrEnum):
    final = "final"
    best = "best"
    initial = "initial"


_NAMES = {
    "final": "the final model",
    "best": "the model with the highest test accuracy",
    "initial": "the initial model",
}


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Results folder of a sweep with --keep-models.")],
    cell: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CELL",
            help="First digits of its key, or KEY=VALUE (seed=10; several: all hold); none: list them.",
        ),
    ] = None,
    to: Annotated[
        _To | None,
        typer.Option(
            "--to", help="File format; onnx needs the extra onnx.", show_default="the ending of --out, or safetensors"
        ),
    ] = None,
    which: Annotated[_Which, typer.Option("--which", help="Which of the kept models.")] = _Which.final,
    compact: Annotated[
        bool, typer.Option("--compact", help="Remove dead neurons and filters: a smaller model, equal outputs.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The file.", show_default="in RUN/exports/")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a trained model as safetensors, as a torch state dict or as ONNX.

    The model is evaluated again first: its accuracy is that of the record.
    What is written gives the same outputs. For example:

    autoflip-secure sweep my.yaml --keep-models

    autoflip-secure export runs/my algorithm=autoflip seed=10 --to onnx --compact
    """
    with exit_codes(run, as_json):
        prepare()
        from autoflip_secure.scenarios.store.manifest import check_results

        check_results(run)  # what is missing is said before torch is there
        from autoflip_secure.models.export import SUFFIXES, serialised
        from autoflip_secure.scenarios.running.exporting import reload_model
        from autoflip_secure.scenarios.store.results import read_results
        from autoflip_secure.scenarios.testing.selection import one_cell

        results = read_results(run)
        record = one_cell(results.records, cell or [], f"export {run}")
        form = _form(to, out, SUFFIXES)
        if out is not None:
            _refuse(out, run)
        model = reload_model(run, record, which.value, compacted=compact)
        for sentence in model.remarks:
            remark(sentence)
        metadata = _metadata(record, model)
        content, checked = serialised(model.module, form, model.rows, metadata)
        # the key of a private cell is a digest of its seed, too: whoever has the file could search for the seed
        key = record.cell if record.privacy is None else hashlib.sha256(content).hexdigest()
        name = f"{key[:12]}-{which}{'-compact' if compact else ''}{SUFFIXES[form]}"
        target = out if out is not None else run / "exports" / name
        written = _write(target, content, run / "exports", overwrite=overwrite)
        lines = [
            f"{_NAMES[which]} (round {model.checkpoint.round}) of {record.algorithm}, seed {record.seed}, "
            f"cell {record.cell}",
            f"test accuracy {model.accuracy:.4f}, {_as_recorded(record, model)}",
            *([_compacted(model.units)] if model.units is not None else []),
            f"{model.parameters:,} parameters, {len(content):,} bytes; {checked}",
            *([f"privacy: {metadata['privacy']}"] if record.privacy is not None else []),
            f"Model: {target}{'' if written else ' (already there, with the same content)'}",
        ]
        tell({"file": str(target), "cell": record.cell, "checked": checked, **metadata}, as_json, lines)


def _as_recorded(record: RunRecord, model: ReloadedModel) -> str:
    if model.accuracy != model.checkpoint.accuracy:
        return f"{model.checkpoint.accuracy:.4f} when it was kept"
    if model.which == "initial":
        return "as when it was kept (records begin with round 1)"
    optimistic = "; chosen on the test set, so it is optimistic" if model.which == "best" else ""
    return f"equal to the record's{optimistic}"


def _compacted(units: Units) -> str:
    listed = ", ".join(f"{layer} {left} of {before}" for layer, (left, before) in units.items())
    if all(left == before for left, before in units.values()):
        return f"compacted, but no unit is dead, so it is no smaller ({listed})"
    return f"compacted, units left: {listed}"


def _metadata(record: RunRecord, model: ReloadedModel) -> dict[str, Any]:
    """What lies in the file. Of a private run without cell and seed, from which its noise may be drawn again."""
    from autoflip_secure.reports.wording.released_model import privacy_statement
    from autoflip_secure.version import __version__

    units = model.units
    metadata: dict[str, Any] = {
        "algorithm": record.algorithm, "which": model.which, "round": model.checkpoint.round,
        "test_accuracy": model.accuracy, "model": record.config["model"], "input_shape": list(model.rows.shape[1:]),
        "input_dtype": str(model.rows.dtype).removeprefix("torch."), "classes": model.classes,
        "parameters": model.parameters, "compacted": units is not None,
        "units": None if units is None else {layer: list(counts) for layer, counts in units.items()},
        "autoflip_secure": __version__, "privacy": privacy_statement(record, model.which),
    }  # fmt: skip
    return metadata if record.privacy is not None else {**metadata, "cell": record.cell, "seed": record.seed}


def _form(to: _To | None, target: Path | None, endings: Mapping[Format, str]) -> Format:
    """The format that is asked for, or that a file is named after.

    Raises:
        InputError: they are two.
    """
    named = next((form for form, end in endings.items() if target is not None and target.suffix.lower() == end), None)
    if to is not None and named not in (None, to.value):
        raise InputError(
            f"--out {target}: ends as a file of format {named}, and --to is {to.value}; change one, or leave --to out"
        )
    return to.value if to is not None else named or _To.safetensors.value


def _refuse(target: Path, run: Path) -> None:
    """Nothing is loaded for a file that cannot be written, and the sweep's own files are out of reach.

    Raises:
        InputError: the file cannot be written there.
    """
    if target.is_dir():
        raise InputError(f"--out {target}: is a folder; give a file")
    place, folder = target.resolve(), run.resolve()
    if place.is_relative_to(folder) and not place.is_relative_to(folder / "exports"):
        raise InputError(
            f"--out {target}: is among the files of the sweep; give a file in {run / 'exports'}, or elsewhere"
        )
    if target.parent != run / "exports" and not target.parent.is_dir():
        raise InputError(f"--out {target}: {target.parent} is not a folder; create it, or give another path")


def _write(target: Path, content: bytes, exports: Path, *, overwrite: bool) -> bool:
    """Write the file, whole or not at all; False where it is there already with the same content.

    Raises:
        InputError: another file is there, and it is not to be replaced.
        StoreError: the disk is full, or the place cannot be written.
    """
    from autoflip_secure.files.durable import unwritable, write_whole
    from autoflip_secure.files.regular_files import gone, read_regular

    try:
        if not gone(target):
            if target.stat().st_size == len(content) and read_regular(target, len(content)) == content:
                return False
            if not overwrite:
                raise InputError(
                    f"{target}: already exists, with other content; add --overwrite to replace it, or give another "
                    "file with --out"
                )
        if target.parent == exports:
            exports.mkdir(exist_ok=True)
        write_whole(target, content)
    except OSError as error:
        raise StoreError(f"{target}: {unwritable(error, 'give another file with --out')}") from error
    return True
