"""Findings about training, and losses that fall or do not."""

from collections.abc import Callable

from autoflip_secure.records.run import FeatureScale, RunRecord
from autoflip_secure.reports.study.learning import Finding, findings
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]
SCALED = FeatureScale(columns=6, typical=1.0, largest=1.3, where=2)
TABLE = FeatureScale(columns=6, typical=1.0, largest=1.0e6, where=5)
GOOD, BAD = [2.0, 1.0, 0.5, 0.4], [2.31, 2.31, 2.31, 2.31]


def said(cells: list[RunRecord]) -> list[Finding]:
    return findings(study(cells))


def only(cells: list[RunRecord]) -> Finding:
    (found,) = said(cells)
    return found
