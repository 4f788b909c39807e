"""One row per cell, for people: outcome, costs, how well malicious clients were found, and what is proven of it.

The numbers are those of :mod:`.cells_frame`; settings, attacks and algorithms are called as in the rest of a
report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoflip_secure.records.proven import bounds, who
from autoflip_secure.reports.study.perplexity import of_text
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.tables.cells_frame import cell_rows
from autoflip_secure.reports.tables.text import Table, Upper

Row = dict[str, Any]


def _share(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row[name] is None else 100 * row[name]


def _number(name: str) -> Callable[[Row], Any]:
    return lambda row: row[name]


def _both_ways(name: str) -> Callable[[Row], int]:
    return lambda row: row[f"{name}.uplink_values"] + row[f"{name}.downlink_values"]


_SHOWN: dict[str, Callable[[Row], Any]] = {  # heading -> from the columns of the frame
    "accuracy (%)": _share("outcome_accuracy"), "loss": _number("outcome_loss"), "weights alive (%)": _share("density"),
    "bytes": _both_ways("bytes"), "bytes of exploration": _both_ways("exploration.bytes"),
    "FLOPs, sparse": _number("flops.sparse"), "FLOPs of exploration": _number("exploration.flops"),
    "detection AUC": _number("detection.auc"), "true positive rate (%)": _share("detection.true_positive_rate"),
    "false positive rate (%)": _share("detection.false_positive_rate"),
}  # fmt: skip

_PERSONAL: dict[str, Callable[[Row], Any]] = {
    "worst client (%)": _share("outcome_worst_client"), "spread over clients (points)": _share("outcome_client_spread"),
}  # fmt: skip


def cells_table(study: Study, most: int | None = None) -> Table:
    """Every cell of the study, in its order. Bytes are values both ways; those of the whole run include exploration.

    ``most``: of many cells only the first.
    """
    records = study.records[:most]
    observers = list(dict.fromkeys(g.observer for r in records if r.privacy for g in r.privacy.guarantees))
    shown = _SHOWN | (_PERSONAL if any(record.personal for record in records) else {})
    shown = shown | ({"perplexity": _number("perplexity")} if any(map(of_text, records)) else {})
    columns = ["cell", "setting", "attack", "algorithm", "seed", *shown]
    columns += [f"epsilon against {who(observer)}" for observer in observers]
    rows: list[list[Any]] = []
    known = cell_rows(records, study.outcome)
    for (row, record), found in zip(study.rows, known, strict=False):
        proven = {bound.observer: bound.epsilon for bound in bounds(record.privacy)}
        line: list[Any] = [record.cell, row.facet, row.attack, row.algorithm, record.seed]
        line += [show(found) for show in shown.values()]
        line += [Upper(proven[o]) if o in proven else "no guarantee" for o in observers]
        rows.append(line)
    return Table(columns, rows)
