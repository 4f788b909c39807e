r"""Metrics that are computed and not sampled: epsilon is proven from the settings, so it is compared without a test.

Held seed by seed; a regression is any seed on which the number rose by more than the margin, or on which nothing is
proven any more (a run without a guarantee counts as :math:`\infty`):

.. math:: \max_s \, (b_s - a_s) > m \qquad a_s, b_s \in [0, \infty]

Of two sweeps without a common seed the numbers can be compared only when they are the same on all seeds of a side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from reports.gate_comparison import Comparison
from reports.gate_decision import Decision, Judgement
from reports.gate_metrics import Metric

NOISE = 1e-6  # of the value: what another processor may compute differently


def judge_exact(
    metric: Metric, old: Mapping[int, float | None], new: Mapping[int, float | None], margin: float
) -> Judgement:
    """One decision, from seed -> value of every run; None: the run has no guarantee. Lower is better.

    The values that the comparison shows are those of the seed that rose most.
    """
    before, after = ({s: math.inf if v is None else v for s, v in side.items()} for side in (old, new))
    shared = sorted(set(before) & set(after))
    sizes = (len(shared), len(shared)) if shared else (len(before), len(after))
    if shared:
        pairs = {f"seed {s}": (before[s], after[s]) for s in shared}
    elif before and after and all(_same(min(side.values()), max(side.values())) for side in (before, after)):
        pairs = {"all": (max(before.values()), max(after.values()))}
    else:
        why = "it depends on the seed, and no seed is in both; run the baseline's seeds"
        return Judgement(Comparison("none", sizes, why=why), margin, Decision.CANNOT_TELL, why)
    rises = {where: 0.0 if _same(a, b) else b - a for where, (a, b) in pairs.items()}
    worst = max(rises, key=lambda where: (rises[where], pairs[where][1]))
    rise, (a, b) = rises[worst], pairs[worst]
    moved = rise if math.isfinite(rise) else None
    gain = None if moved is None else -moved
    compared = Comparison("computed" if shared else "exact", sizes, _finite(a), _finite(b), gain)
    decision = Decision.REGRESSION if rise > margin + NOISE * max(1.0, _finite(a) or 1.0) else Decision.PASS
    reason = _reason(rises, worst, f"{_word(a)} -> {_word(b)}", decision)
    return Judgement(compared, margin, decision, reason, moved, moved, moved)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isfinite(a) and abs(a - b) <= NOISE * max(1.0, abs(a)))


def _reason(rises: Mapping[str, float], worst: str, most: str, decision: Decision) -> str:
    if not any(rises.values()):
        return "the same on every seed (computed, not sampled)"
    higher = sum(rise > 0 for rise in rises.values())
    if not higher:
        return "higher on no seed"
    within = ", within the margin" if decision is Decision.PASS else ""
    return f"higher on {higher} of {len(rises)} seeds, most on {worst}: {most}{within}"


def _word(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "nothing proven"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
