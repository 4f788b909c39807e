"""Tuning as tables: what was chosen, every curve it was chosen from; and the same as data for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from autoflip_secure.reports.study.tuned import Choice, in_words
from autoflip_secure.reports.tables.text import Table


def chosen_table(made: Sequence[Choice]) -> Table:
    """A row per setting and algorithm: the choice, its accuracy on the tuning seeds, the next best."""
    columns = [
        "setting",
        "algorithm",
        "chosen",
        "accuracy on tuning seeds (%)",
        "next best",
        "its accuracy (%)",
        "edge",
    ]
    rows: list[list[Any]] = []
    for one in made:
        best, following = one.record.best, one.next_best
        own = [one.facet, one.algorithm, one.chosen, 100 * best.mean]
        rows.append([*own, in_words(following.values), 100 * following.mean, one.edges])
    return Table(columns, rows)


def curves_table(made: Sequence[Choice]) -> Table:
    """A row per setting, algorithm and candidate: mean, the accuracy of every tuning seed, whether it was chosen."""
    paths = list(dict.fromkeys(path for one in made for path in one.record.chosen))
    seeds = list(dict.fromkeys(seed for one in made for seed in one.record.seeds))
    rows: list[list[Any]] = []
    for one in made:
        for tried in one.record.tried:
            by_seed = dict(zip(one.record.seeds, tried.accuracies, strict=True))
            values = [_plain(tried.values.get(path)) for path in paths]
            each = [100 * by_seed[seed] if seed in by_seed else None for seed in seeds]
            rows.append([one.facet, one.algorithm, *values, 100 * tried.mean, *each, tried is one.record.best])
    return Table(["setting", "algorithm", *paths, "mean (%)", *(f"seed {seed} (%)" for seed in seeds), "chosen"], rows)


def tuning_frame(made: Sequence[Choice]) -> pd.DataFrame:
    """A row per setting, algorithm, candidate and tuning seed; ``docs/results.md`` describes the columns."""
    rows = [
        {
            "facet": one.facet,
            "algorithm": one.algorithm,
            "values": json.dumps(tried.values),
            "seed": seed,
            "accuracy": accuracy,
            "mean_accuracy": tried.mean,
            "chosen": tried is one.record.best,
            "cell": cell,
        }
        for one in made
        for tried in one.record.tried
        for seed, accuracy, cell in zip(one.record.seeds, tried.accuracies, tried.cells, strict=True)
    ]
    kinds = {"seed": "Int64", "accuracy": "float64", "mean_accuracy": "float64", "chosen": "boolean"}
    frame = pd.DataFrame(rows, dtype=object)
    return frame.astype({name: kinds.get(name, "string") for name in frame.columns})


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)
