"""One row per cell: the outcome of every run, for comparing runs (CSV and Parquet).

Totals are of the whole run, exploration included; ``docs/results.md`` describes every column.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.perplexity import of_text, perplexity
from autoflip_secure.reports.tables.frames import described, typed


def cells_frame(
    records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT, known: Sequence[dict[str, object]] | None = None
) -> pd.DataFrame:
    """One row per cell, in the order of ``records``, with typed columns; ``known``: what :func:`.described` says."""
    return typed(_rows(records, outcome, described(records, outcome) if known is None else known))


def cell_rows(records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> list[dict[str, object]]:
    """The rows as plain values; None is what was not measured or is not known."""
    return _rows(records, outcome, described(records, outcome))


def _rows(
    records: Sequence[RunRecord], outcome: OutcomeRule, known: Sequence[dict[str, object]]
) -> list[dict[str, object]]:
    text = any(map(of_text, records))
    return [
        one | _totals(record, outcome) | ({"perplexity": perplexity(record, outcome)} if text else {})
        for record, one in zip(records, known, strict=True)
    ]


def _totals(record: RunRecord, outcome: OutcomeRule) -> dict[str, object]:
    """What a cell's last round and its sums say."""
    return {
        "outcome_loss": outcome.loss(record),
        "rounds": len(record.rounds),
        "parameters": record.parameters,
        "density": record.rounds[-1].density if record.rounds else None,
        **{f"bytes.{key}": value for key, value in record.costs.bytes.model_dump().items()},
        **{f"flops.{key}": value for key, value in record.costs.flops.model_dump().items()},
    }
