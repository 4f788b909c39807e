"""The Pareto front of cost and accuracy: what nothing else is both cheaper and more accurate than."""

from __future__ import annotations

from collections.abc import Mapping


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names whose (cost, accuracy) no other one dominates, the cheapest first.

    One point dominates another when it costs no more, is at least as accurate, and is not the same in both.

    >>> front({"dense": (9.0, 0.97), "pruned": (3.0, 0.96), "worse": (4.0, 0.95), "cheap": (1.0, 0.8)})
    ['cheap', 'pruned', 'dense']
    """
    free = [
        name
        for name, (cost, accuracy) in points.items()
        if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points.values())
    ]
    return sorted(free, key=lambda name: points[name])
