r"""A degradation curve in one number: its area, and where it breaks.

Along strengths :math:`x_0 < \dots < x_m` with accuracies :math:`y_0 \dots y_m`:

.. math::
    \text{area} = \frac{1}{x_m - x_0} \sum_i \frac{y_i + y_{i-1}}{2} (x_i - x_{i-1}), \qquad
    \text{breakdown} = \max\{x_i : y_j \ge y_0 - \delta \;\; \forall j \le i\}
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

BREAKDOWN_MARGIN = 0.05  # of accuracy below the curve's first point


def area(strengths: Sequence[float], accuracies: Sequence[float]) -> float:
    """Area under a curve divided by its width: the mean accuracy over the strengths, by the trapezoid rule.

    >>> area([0.0, 0.5, 1.0], [1.0, 0.5, 0.5])
    0.625
    """
    points = pairwise(zip(strengths, accuracies, strict=True))
    return float(sum((b + d) / 2 * (c - a) for (a, b), (c, d) in points) / (strengths[-1] - strengths[0]))


def breakdown(
    strengths: Sequence[float], accuracies: Sequence[float], margin: float = BREAKDOWN_MARGIN
) -> tuple[float, bool]:
    """Largest strength up to which accuracy stays within ``margin`` of the first one, and whether it ever left.

    >>> breakdown([0.0, 0.1, 0.5], [0.95, 0.93, 0.60])
    (0.1, True)
    """
    reached = strengths[0]
    for x, y in zip(strengths, accuracies, strict=True):
        if y < accuracies[0] - margin - 1e-12:
            return float(reached), True
        reached = x
    return float(reached), False
