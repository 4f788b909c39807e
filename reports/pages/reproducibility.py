"""What it takes to run a sweep again, and what it ran with: command, scenario, configurations, versions, every cell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.page import as_yaml
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.cells import cells_table
from autoflip_secure.terminal.counting import count_of

MOST_CELLS, FIRST_CELLS = 2000, 100  # beyond so many, a page holds the first ones, and a file beside it has them all


def reproducibility(found: Study, scenario: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Of a study, the scenario it is of, and what to type to run that again."""
    records = found.records
    first = {a: next(record for row, record in found.rows if row.algorithm == a) for a in found.algorithms}
    notes = [
        (f"{row.algorithm}, {row.facet}, {row.attack}, seed {row.seed}", [labels.clean_text(e) for e in record.events])
        for row, record in found.rows
        if record.events
    ]
    trainers = dict.fromkeys(map(_trainer, records))
    return {
        "command": labels.clean_text(command),
        "scenario_yaml": as_yaml(scenario),
        "configs": {a: (r.cell, r.seed, as_yaml(r.config)) for a, r in first.items()},
        "sweep_hash": hashlib.sha256(" ".join(sorted(r.cell for r in records)).encode()).hexdigest()[:16],
        "cells": cells_table(found, None if len(records) <= MOST_CELLS else FIRST_CELLS),
        "more_cells": len(records) > MOST_CELLS,
        "versions": versions(records),
        "seeds": sorted({r.seed for r in records}),
        "pipelines": list(dict.fromkeys(labels.clean_text(" → ".join(r.pipeline)) for r in records)),
        "trainers": [labels.clean_text(trainer) for trainer in trainers],
        "parameters": sorted({r.parameters for r in records}),
        "notes": notes,
    }


def _trainer(record: RunRecord) -> str:
    one = record.trainer
    cut = "" if one.together is None else f", {count_of(one.together, 'cell')} at a time for want of memory"
    return f"{one.kind} on {one.device}{cut}: {one.reason}"


def versions(records: Sequence[RunRecord]) -> list[str]:
    """``name version`` of everything that computed ``records``; where versions differ, with the number of cells."""
    counts: dict[str, dict[str, int]] = {}
    for record in records:
        for name, version in record.versions.items():
            own = counts.setdefault(labels.clean_text(name), {})
            text = labels.clean_text(version)
            own[text] = own.get(text, 0) + 1
    found = []
    for name, own in sorted(counts.items()):
        many = [f"{version} ({count} of {len(records)} cells)" for version, count in sorted(own.items())]
        found.append(f"{name} {', '.join(many if len(own) > 1 else own)}")
    return found
