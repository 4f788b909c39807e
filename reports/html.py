"""The report: one HTML file that needs nothing else, written atomically, with ``results.csv`` beside it.

A section whose data the records do not have is left out. Everything that came from a record or a scenario is text to
the template (autoescape); figures alone are markup, and their labels are escaped by the SVG writer.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autoflip_secure.errors import StoreError
from autoflip_secure.record import RunRecord
from reports import (
    figures_conditions,
    figures_costs,
    figures_defence,
    figures_degradation,
    figures_pruning,
    figures_rounds,
    figures_sensitivity,
    labels,
    verdict,
)
from reports.comparisons import Row, compare
from reports.frames import tidy
from reports.statistics import MARGIN
from reports.study import Study, study
from reports.style import Palette, Picture, drawing

ROWS_SHOWN = 1500  # rows of one figure's table; more would make the page slow


@dataclass(frozen=True)
class Section:
    """A heading of the contents list, and its figures."""

    slug: str
    title: str
    pictures: list[Picture]


def write_report(
    records: list[RunRecord], scenario: dict[str, Any], path: Path, *, missing: int = 0, command: str = ""
) -> Path:
    """Write the report to ``path`` and the tidy results to ``results.csv`` in the same folder.

    Args:
        records: finished cells, in any order.
        scenario: the scenario they come from, as a document; its ``name`` and ``question`` open the report.
        path: the HTML file.
        missing: cells of the sweep that have no record.
        command: what to type to run the sweep again.

    Returns:
        ``path``.

    Raises:
        InputError: no record.
        StoreError: the folder cannot be written.
    """
    page = render(records, scenario, missing=missing, command=command)
    _write(path.with_name("results.csv"), tidy(records).to_csv(index=False))
    _write(path, page)
    return path


def render(records: Sequence[RunRecord], scenario: Mapping[str, Any], *, missing: int = 0, command: str = "") -> str:
    """The report as text."""
    found = study(records)
    rows = compare(found)
    opening = verdict.opening(found, rows, scenario, missing)
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"value": value, "percent": verdict.percent, "points": verdict.points, "p_value": p_value}
    environment.globals |= {"bracket": verdict.bracket}
    source = environment.loader.get_source if environment.loader else None
    style, script = (source(environment, name)[0] if source else "" for name in ("report.css", "report.js"))
    name = labels.clean_text(scenario.get("name") or "sweep")
    return environment.get_template("report.html.j2").render(
        name=labels.shorten(name, 120),
        study=found,
        opening=opening,
        full={
            kind: max((s.conditions for x in opening.standings if (s := getattr(x, kind))), default=0)
            for kind in ("attacked", "clean")
        },
        rows=rows,
        sections=sections(found, rows),
        missing=missing,
        margin=100 * MARGIN,
        rows_shown=ROWS_SHOWN,
        style=Markup(style),
        script=Markup(script),
        **_reproducibility(found, scenario, command),
    )


def sections(found: Study, rows: list[Row]) -> list[Section]:
    """Draw every figure that the records have data for."""
    palette = Palette(found)
    figures: list[tuple[str, str, list[Callable[[], Picture | list[Picture] | None]]]] = [
        (
            "robustness",
            "Robustness",
            [
                lambda: figures_degradation.degradation(found, palette),
                lambda: figures_sensitivity.sensitivity(found, palette),
                lambda: figures_conditions.dots(found, palette, rows, difference=False),
                lambda: figures_conditions.dots(found, palette, rows, difference=True),
            ],
        ),
        (
            "training",
            "Training",
            [
                lambda: figures_rounds.convergence(found, palette),
                lambda: figures_rounds.update_variance(found, palette),
            ],
        ),
        (
            "defence",
            "Who is trusted",
            [lambda: figures_defence.score_map(found), lambda: figures_defence.detection_roc(found, palette)],
        ),
        (
            "pruning",
            "What is pruned",
            [
                lambda: figures_pruning.guidance_histogram(found, palette),
                lambda: figures_pruning.importance(found, palette),
                lambda: figures_pruning.layers(found, palette),
            ],
        ),
        (
            "cost",
            "What it costs",
            [
                lambda: figures_costs.against_bytes(found, palette),
                lambda: figures_costs.against_operations(found, palette),
            ],
        ),
    ]
    result = []
    with drawing():
        for slug, title, makers in figures:
            pictures: list[Picture] = []
            for make in makers:
                drawn = make()
                pictures += drawn if isinstance(drawn, list) else [drawn] if drawn is not None else []
            if pictures:
                result.append(Section(slug, title, pictures))
    return result


def value(item: object) -> str:
    """A cell of a table: numbers with six significant digits, nothing for what is missing."""
    if item is None:
        return ""
    if isinstance(item, bool):
        return "yes" if item else "no"
    return f"{item:.6g}" if isinstance(item, float) else str(item)


def p_value(p: float | None) -> str:
    """A p-value, or a dash where the test is undefined."""
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _reproducibility(found: Study, scenario: Mapping[str, Any], command: str) -> dict[str, Any]:
    records = found.records
    first = {
        a: next(r for i, r in enumerate(records) if found.cells["algorithm"].iloc[i] == a) for a in found.algorithms
    }
    notes = [
        (f"{row.algorithm}, {row.facet}, {row.attack}, seed {row.seed}", [labels.clean_text(e) for e in record.events])
        for row, record in zip(found.cells.itertuples(), records, strict=True)
        if record.events
    ]
    trainers = dict.fromkeys((r.trainer.kind, r.trainer.reason, r.trainer.device) for r in records)
    return {
        "command": labels.clean_text(command),
        "scenario_yaml": _yaml(scenario),
        "configs": {a: _yaml(r.config) for a, r in first.items()},
        "versions": dict(
            sorted({labels.clean_text(f"{k} {v}"): None for r in records for k, v in r.versions.items()}.items())
        ),
        "seeds": sorted({r.seed for r in records}),
        "pipelines": list(dict.fromkeys(labels.clean_text(" → ".join(r.pipeline)) for r in records)),
        "trainers": [labels.clean_text(f"{kind} on {device}: {reason}") for kind, reason, device in trainers],
        "parameters": sorted({r.parameters for r in records}),
        "notes": notes,
    }


def _yaml(document: Any) -> str:
    plain = json.loads(json.dumps(document, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))


def _write(path: Path, text: str) -> None:
    """Write to a temporary file beside ``path`` and rename it, so that a reader never sees half a file."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); free some space or give another folder"
        ) from error
