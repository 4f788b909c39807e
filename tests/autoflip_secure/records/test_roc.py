"""ROC and its area, against counting pairs and thresholds by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.records.roc import area_by_ranks, area_under_curve, roc


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_area_and_curve_by_counting(pairs: list[tuple[int, bool]]):
    scores, positive = [s / 6 for s, _ in pairs], [b for _, b in pairs]
    if len(set(positive)) < 2:
        assert area_under_curve(positive, scores) is None
        return
    above = [s for s, b in zip(scores, positive, strict=True) if b]
    below = [s for s, b in zip(scores, positive, strict=True) if not b]
    area = np.mean([(a > b) + (a == b) / 2 for a in above for b in below])
    assert area_under_curve(positive, scores) == pytest.approx(area)
    assert area_by_ranks(np.array(above), np.array(below)) == pytest.approx(area)
    thresholds = sorted(set(scores), reverse=True)
    points = [(np.mean(np.array(below) >= t), np.mean(np.array(above) >= t)) for t in thresholds]
    np.testing.assert_allclose(list(zip(*roc(positive, scores), strict=True)), [(0, 0), *points])
    few = list(zip(*roc(positive, scores, thinned=True), strict=True))
    assert set(few) <= {(0.0, 0.0), *points}
    assert np.trapezoid([y for _, y in few], [x for x, _ in few]) == pytest.approx(area)
