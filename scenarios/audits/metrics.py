"""The framework judges: from an attack's scores and the truth to rates with intervals. Attacks never see the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from autoflip_secure.records.audit import Estimate, MembershipResult
from autoflip_secure.records.roc import area_by_ranks, area_under_curve, roc
from autoflip_secure.records.t_interval import half_width

RESAMPLES = 400
_POINTS = 120


def auc_with_interval(truth: ArrayLike, scores: ArrayLike, rng: np.random.Generator) -> Estimate:
    """Area under the curve; the interval by resampling members and others apart (percentile bootstrap)."""
    is_in, score = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=float)
    inside, outside = score[is_in], score[~is_in]
    drawn = [
        area_by_ranks(rng.choice(inside, len(inside)), rng.choice(outside, len(outside))) for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    area = area_under_curve(is_in, score)
    assert area is not None
    return Estimate(value=area, low=float(low), high=float(high))


def rate_at(truth: ArrayLike, scores: ArrayLike, false_positives: float) -> Estimate:
    """True positive rate at the largest threshold set whose false positive rate does not exceed the stated one.

    The interval is Clopper-Pearson's for the members; what the choice of the threshold adds is not in it.
    """
    from scipy.stats import binomtest

    is_in, score = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=float)
    outside = np.sort(score[~is_in])[::-1]
    allowed = int(false_positives * len(outside))
    found = int((score[is_in] > outside[allowed]).sum()) if allowed < len(outside) else int(is_in.sum())
    interval = binomtest(found, int(is_in.sum())).proportion_ci(method="exact")
    return Estimate(value=found / int(is_in.sum()), low=float(interval.low), high=float(interval.high))


def membership(
    attack: str, view: str, truth: ArrayLike, scores: ArrayLike, rng: np.random.Generator
) -> MembershipResult:
    """Judge one membership attack: larger scores mean "in"."""
    is_in = np.asarray(truth, dtype=bool)
    false_positive, true_positive = roc(is_in, scores, thinned=True)
    kept = np.unique(np.linspace(0, len(false_positive) - 1, min(len(false_positive), _POINTS)).astype(int))
    return MembershipResult(
        attack=attack,
        view=view,
        members=int(is_in.sum()),
        others=int((~is_in).sum()),
        auc=auc_with_interval(is_in, scores, rng),
        at_1_percent=rate_at(is_in, scores, 0.01),
        at_01_percent=rate_at(is_in, scores, 0.001),
        roc=[(round(float(false_positive[i]), 5), round(float(true_positive[i]), 5)) for i in kept],
    )


def mean_with_interval(values: ArrayLike) -> Estimate:
    """Mean of shares, and its t interval within [0, 1]."""
    data = np.asarray(values, dtype=float)
    half = half_width(data.tolist())
    mean = float(data.mean())
    return Estimate(value=mean, low=max(mean - half, 0.0), high=min(mean + half, 1.0))
