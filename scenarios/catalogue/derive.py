"""The catalogue as the classes say it; ``make catalogue`` writes it to the file that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoflip_secure.files.durable import write_whole
from autoflip_secure.interfaces import Plugin
from autoflip_secure.scenarios.catalogue.attack_page import renew
from autoflip_secure.scenarios.catalogue.capabilities import capabilities
from autoflip_secure.scenarios.catalogue.entries import FILE, Catalogue
from autoflip_secure.scenarios.config.algorithms import ALGORITHMS
from autoflip_secure.scenarios.config.compatibility import needed
from autoflip_secure.scenarios.config.grid import points
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.mixes import Algorithm
from autoflip_secure.scenarios.config.plugin_families import FAMILIES, installed, survey
from autoflip_secure.scenarios.config.settings import json_schema
from autoflip_secure.scenarios.config.sources import presets
from autoflip_secure.scenarios.config.tables import AGGREGATORS, LOCAL_RULES, PRUNERS, TRACKERS
from autoflip_secure.scenarios.config.yaml_text import write_flow
from autoflip_secure.terminal.docstrings import docstring


def derive() -> Catalogue:
    """Everything that a scenario file may say."""
    return Catalogue(
        json_schema(),
        {name: _algorithm(algorithm) for name, algorithm in ALGORITHMS.items()},
        {kind: needed(cls) for kind, cls in AGGREGATORS.items()},
        {name: _preset(name) for name in presets()},
        {kind: _tracker(kind, cls) for kind, cls in TRACKERS.items()}
        | {one.kind: _tracker(one.kind, one.cls, one.distribution) for one in survey().good if one.family == "tracker"},
        {
            FAMILIES[key].plural: {kind: capabilities(cls) for kind, cls in installed(key).items()}
            for key in ("aggregator", "pre_aggregator")
        },
        {name: {"summary": why} for name, why in survey().damaged.items()},
    )


def _algorithm(algorithm: Algorithm) -> dict[str, Any]:
    parts: list[tuple[str, dict[str, Any], type[Plugin]]] = [
        ("pruner", algorithm.pruner, PRUNERS[algorithm.pruner["kind"]]),
        ("aggregator", algorithm.aggregator, AGGREGATORS[algorithm.aggregator["kind"]]),
        ("local_rule", algorithm.local_rule, LOCAL_RULES[algorithm.local_rule["kind"]]),
    ]
    return {
        "summary": algorithm.description,
        "source": "; ".join(f"{part['kind']}: {cls.source}" for _, part, cls in parts if part["kind"] != "none"),
        "details": {
            name: write_flow(part) for name, part, _ in parts if name != "local_rule" or part["kind"] != "none"
        },
    }


def _tracker(kind: str, cls: type, distribution: str = "") -> dict[str, Any]:
    summary = docstring(cls).partition("\n")[0]
    of = f" (of {distribution})" if distribution else ""
    return {
        "summary": f"{summary}{of}".strip(),
        "details": {"run it": f"autoflip-secure sweep SCENARIO --tracker {kind}=PLACE"},
    }


def _preset(name: str) -> dict[str, Any]:
    scenario = load(name)
    sweep, seeds = scenario.header.sweep, len(scenario.header.seeds)
    grids = sweep if isinstance(sweep, list | tuple) else [sweep] if sweep else []
    axes = dict.fromkeys(path for grid in grids for path in (*grid.product, *grid.zip))
    cells = f"{len(scenario.cells)}: {points(sweep)} settings, {seeds} seed{'' if seeds == 1 else 's'}"
    details = {"axes": ", ".join(axes) or "none", "cells": cells}
    if scenario.tuning is not None:
        tune, stage = scenario.tuning.tune, len(scenario.tuning.stage.cells)
        details["tuned"] = f"{', '.join(tune.axes)}: {stage} cells before, on {len(tune.seeds)} seeds of their own"
    if scenario.header.small is not None:
        small = load(name, small=True)
        details["small form"] = f"{len(small.cells)} cells: autoflip-secure sweep {name} --small"
    return {"summary": " ".join(scenario.header.question.split()), "details": details}


if __name__ == "__main__":
    write_whole(FILE, derive().text())
    renew(Path(__file__).resolve().parents[2] / "docs" / "attacks.md")
    print(FILE)
