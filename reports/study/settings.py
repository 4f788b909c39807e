"""Private settings of a sweep: which runs are one setting, and of which least is proven."""

from __future__ import annotations

from math import inf

from autoflip_secure.records.proven import foremost
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.study import Study


def private(study: Study) -> list[tuple[str, RunRecord]]:
    """Every private run, with the name of its (algorithm, setting)."""
    return [(f"{row.algorithm} · {row.facet}", record) for row, record in study.rows if record.privacy is not None]


def settings(study: Study) -> list[tuple[str, list[RunRecord]]]:
    """The runs of every private (algorithm, setting), the one of which least is proven first."""
    found: dict[str, list[RunRecord]] = {}
    for name, record in private(study):
        found.setdefault(name, []).append(record)
    return [(name, sorted(runs, key=_proven)) for name, runs in found.items()]


def _proven(record: RunRecord) -> tuple[float, int]:
    """Rises with what is proven."""
    bound = foremost(record.privacy)
    return -inf if bound is None else -bound.epsilon, record.seed
