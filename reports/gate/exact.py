r"""Metrics that are computed and not sampled: epsilon is proven from the settings, so it is compared without a test.

Held seed by seed; a regression is any seed on which the number rose by more than the margin, or for which there is no
guarantee any more (a run without one counts as :math:`\infty`):

.. math:: \max_s \, (b_s - a_s) > m \qquad a_s, b_s \in [0, \infty]

Two epsilons are compared only when they are about the same thing: one observer (the metric's own), the same
neighbours, the same delta. Otherwise the pair is *not comparable*, and cannot be told whatever the numbers are.

Of two sweeps without a common seed the numbers can be compared only when they are the same on all seeds of a side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.reports.gate.comparison import Comparison
from autoflip_secure.reports.gate.decision import Decision, GateDecision
from autoflip_secure.reports.gate.metrics import Metric, Terms
from autoflip_secure.reports.study.labels import clean_text

NOISE = 1e-6  # of the value: what another processor may compute differently


@dataclass(frozen=True)
class Proven:
    """One side: seed -> epsilon of every run (None: no guarantee), and seed -> what the epsilon is about."""

    values: Mapping[int, float | None]
    terms: Mapping[int, Terms] = field(default_factory=dict)


def judge_exact(metric: Metric, old: Proven, new: Proven, margin: float) -> GateDecision:
    """One decision. Lower is better; the values that the comparison shows are those of the seed that rose most."""
    before, after = ({s: math.inf if v is None else v for s, v in side.values.items()} for side in (old, new))
    shared = sorted(set(before) & set(after))
    sizes = (len(shared), len(shared)) if shared else (len(before), len(after))
    if shared:
        pairs = {f"seed {s}": (before[s], after[s]) for s in shared}
        terms = {f"seed {s}": (old.terms.get(s), new.terms.get(s)) for s in shared}
    elif before and after and all(_one_of(side) for side in (old, new)):
        pairs = {"all": (max(before.values()), max(after.values()))}
        terms = {"all": (next(iter(old.terms.values()), None), next(iter(new.terms.values()), None))}
    else:
        return _open("it depends on the seed, and no seed is in both; run the baseline's seeds", sizes, margin)
    other = [w for w, (a, b) in pairs.items() if math.isfinite(a) and math.isfinite(b) and not _alike(*terms[w])]
    rises = {where: 0.0 if _same(a, b) else b - a for where, (a, b) in pairs.items() if where not in other}
    worst = max(rises, key=lambda where: (rises[where], pairs[where][1]), default="")
    rise, (a, b) = rises.get(worst, 0.0), pairs.get(worst, (0.0, 0.0))
    regressed = rise > margin + NOISE * max(1.0, _finite(a) or 1.0)
    if other and not regressed:
        return _open(_not_comparable(other, len(pairs), *terms[other[0]]), sizes, margin)
    moved = rise if math.isfinite(rise) else None
    gain = None if moved is None else -moved
    compared = Comparison("computed" if shared else "exact", sizes, _finite(a), _finite(b), gain)
    decision = Decision.REGRESSION if regressed else Decision.PASS
    reason = _reason(rises, worst, f"{_word(a)} -> {_word(b)}", decision) + _about(t for w in rises for t in terms[w])
    return GateDecision(compared, margin, decision, reason, moved, moved, moved)


def _open(why: str, sizes: tuple[int, int], margin: float) -> GateDecision:
    return GateDecision(Comparison("none", sizes, why=why), margin, Decision.CANNOT_TELL, why)


def _one_of(side: Proven) -> bool:
    """Whether one value, about one thing, stands for all seeds."""
    values = [math.inf if v is None else v for v in side.values.values()]
    known = list(side.terms.values())
    return _same(min(values), max(values)) and all(_alike(known[0], other) for other in known)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isfinite(a) and abs(a - b) <= NOISE * max(1.0, abs(a)))


def _alike(a: Terms | None, b: Terms | None) -> bool:
    return a is not None and b is not None and a.alike(b)


def _not_comparable(where: list[str], of: int, a: Terms | None, b: Terms | None) -> str:
    before, now = (_told(side) if side is not None else "it does not say for what" for side in (a, b))
    again = "" if a is not None else "; make the baseline again with --update --reason"
    which = f"not comparable on {len(where)} of {of} seeds, first on {where[0]}"
    return f"{which}: {before} in the baseline, {now} now{again}"


def _told(terms: Terms) -> str:
    return f"{clean_text(terms.relation)} at δ = {upper_delta(terms.delta)}"


def _about(terms: Iterable[Terms | None]) -> str:
    """What the numbers are about, after a semicolon; nothing where there is no number."""
    known = [one for one in terms if one is not None]
    relations = list(dict.fromkeys(one.relation for one in known))
    return f"; {_told(Terms(relation=' or '.join(relations), delta=max(t.delta for t in known)))}" if known else ""


def _reason(rises: Mapping[str, float], worst: str, most: str, decision: Decision) -> str:
    if not any(rises.values()):
        return "the same on every seed (computed, not sampled)"
    higher = sum(rise > 0 for rise in rises.values())
    if not higher:
        return "higher on no seed"
    within = ", within the margin" if decision is Decision.PASS else ""
    return f"higher on {higher} of {len(rises)} seeds, most on {worst}: {most}{within}"


def _word(value: float) -> str:
    return upper_text(value, 4) if math.isfinite(value) else "no guarantee"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
