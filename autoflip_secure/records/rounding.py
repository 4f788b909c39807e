"""Proven numbers as text: an upper bound is never printed below itself, a lower bound never above.

Every proven epsilon and delta and every lower bound that is shown to anybody (report, CSV, command line, gate, audit)
passes through here; ``round`` and ``f"{x:.2f}"`` go to the nearest number, which may be on the wrong side.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_LARGE = 100.0  # from here whole numbers say enough
_PLACES = 2
_SIGNIFICANT = 2


def upper_text(value: float | None, places: int = _PLACES) -> str:
    """An upper bound (a proven epsilon), rounded up; ``no bound`` for None and infinity.

    >>> upper_text(1.2301), upper_text(386.2), upper_text(0.0), upper_text(None)
    ('1.24', '387', '0.00', 'no bound')
    """
    return _fixed(value, places, ROUND_CEILING)


def lower_text(value: float | None, places: int = _PLACES) -> str:
    """A lower bound (what an attacker showed), rounded down.

    >>> lower_text(1.2399), lower_text(0.004), lower_text(387.9)
    ('1.23', '0.00', '387')
    """
    return _fixed(value, places, ROUND_FLOOR)


def upper_delta(value: float) -> str:
    """A proven delta to two significant digits, rounded up.

    >>> upper_delta(1e-5), upper_delta(6.944444e-4), upper_delta(0.005)
    ('1e-05', '0.0007', '0.005')
    """
    digits = Context(prec=_SIGNIFICANT, rounding=ROUND_CEILING).create_decimal(repr(float(value)))
    return f"{float(digits):.{_SIGNIFICANT}g}"


def upper_number(value: float, places: int = 3) -> float:
    """The smallest number of so many decimal places that is not below ``value``, for files that keep short numbers."""
    return value if value in (float("inf"), float("-inf")) else float(_quantized(value, places, ROUND_CEILING))


def _fixed(value: float | None, places: int, rounding: str) -> str:
    if value is None or value == float("inf"):
        return "no bound"
    places = places if abs(value) < _LARGE else 0
    return str(_quantized(value, places, rounding))


def _quantized(value: float, places: int, rounding: str) -> Decimal:
    """Of the shortest text that reads back as this double, so that 2.87 stays 2.87."""
    exact = Decimal(repr(float(value)))
    context = Context(prec=400, rounding=rounding)
    return exact.quantize(Decimal(1).scaleb(-places), context=context) + 0
