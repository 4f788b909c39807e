"""One row per cell: what it came to, what it cost, how well bad clients were found, and what is proven of it."""

from __future__ import annotations

from typing import Any

from autoflip_secure.models.amounts import Bytes
from autoflip_secure.records.proven import bounds, who
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.text import Table, Upper


def cells_table(study: Study) -> Table:
    """Every cell of the study, in its order. Bytes are values both ways; those of the whole run include exploration."""
    observers = list(dict.fromkeys(g.observer for r in study.records if r.privacy for g in r.privacy.guarantees))
    columns = ["cell", "setting", "attack", "algorithm", "seed", "accuracy (%)", "loss", "weights alive (%)"]
    columns += ["bytes", "of them exploration", "FLOPs, sparse", "of them exploration", "detection AUC"]
    columns += ["bad ones flagged (%)", "good ones flagged (%)"]
    columns += [f"epsilon against {who(observer)}" for observer in observers]
    rows: list[list[Any]] = []
    for row, record in zip(study.cells.itertuples(), study.records, strict=True):
        explored, found = record.exploration, record.detection
        flagged = (found.true_positive_rate, found.false_positive_rate) if found else (None, None)
        proven = {bound.observer: bound.epsilon for bound in bounds(record.privacy)}
        line: list[Any] = [record.cell, row.facet, row.attack, row.algorithm, record.seed]
        line += [100 * study.accuracy(record), study.outcome.loss(record), _alive(record)]
        line += [_both_ways(record.costs.bytes), _both_ways(explored.bytes) if explored else 0]
        line += [record.costs.flops.sparse, explored.flops if explored else 0]
        line += [found.auc if found else None, *(None if share is None else 100 * share for share in flagged)]
        line += [Upper(proven[o]) if o in proven else "no guarantee" for o in observers]
        rows.append(line)
    return Table(columns, rows)


def _alive(record: RunRecord) -> float | None:
    return 100 * record.rounds[-1].density if record.rounds else None


def _both_ways(spent: Bytes) -> int:
    return spent.uplink_values + spent.downlink_values
