"""Planted records, and what is answered to each claim of the paper."""

from collections.abc import Callable

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.findings import Claim
from autoflip_secure.reports.claims.paper import claims
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]
WOBBLE = [0.002, -0.001, 0.0, 0.001, -0.002]


def answers(cells: list[RunRecord]) -> dict[str, Claim]:
    return {c.slug: c for c in claims(study(cells))}


def accuracies(cell: Callable[..., RunRecord], **means: float) -> list[RunRecord]:
    """Five seeds per algorithm; seeds differ by 10 points, algorithms at one seed by ``WOBBLE``."""
    own = dict(zip(means, ([0.0] * 5, WOBBLE, WOBBLE[::-1]), strict=False))
    return [cell(name, s, accuracy=mean + 0.02 * s + own[name][s]) for name, mean in means.items() for s in range(5)]


def rounds(cell: RunRecord, curve: list[float], variance: float = 1.0, over_all: float | None = None) -> RunRecord:
    change = {"update_variance": variance, "client_variance": variance, "update_variance_all": over_all}
    entries = [e.model_copy(update={"test_accuracy": a, **change}) for e, a in zip(cell.rounds, curve, strict=False)]
    return cell.model_copy(update={"rounds": entries, "final_accuracy": curve[-1]})
