"""The data behind a figure as text: exact in the CSV, short on the page."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.reports.statistics.intervals import Interval

_FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full width
_BLANK = " \t\r\n\u00a0"
_SMALL = 0.01  # below, two significant digits say more than four places


@dataclass(frozen=True)
class Table:
    """The data behind a figure: what its table shows and its CSV carries."""

    columns: list[str]
    rows: list[list[Any]]


class Upper(float):
    """A proven epsilon or delta in a table: every digit in the CSV, rounded up on the page."""


def percents(interval: Interval) -> list[float | None]:
    """Mean, low and high of a share, in per cent; None where there is no interval."""
    return [None if v is None else 100 * v for v in (interval.mean, interval.low, interval.high)]


def exact(item: Any) -> str:
    """A number so that reading it gives the same number again; nothing for what is missing.

    >>> exact(0.1 + 0.2), exact(None), exact(True)
    ('0.30000000000000004', '', 'yes')
    """
    if item is None:
        return ""
    if isinstance(item, bool | np.bool_):
        return "yes" if item else "no"
    return repr(float(item)) if isinstance(item, float | np.floating) else str(item)


def harmless(item: Any) -> Any:
    """Text that a spreadsheet would run as a formula becomes text to it too, by an apostrophe; numbers stay.

    Source: OWASP, "CSV Injection".

    >>> harmless("=1+1"), harmless("-0.5"), harmless(-0.5), harmless("a=b")
    ("'=1+1", '-0.5', -0.5, 'a=b')
    """
    if not isinstance(item, str) or not item.lstrip(_BLANK).startswith(_FORMULAS):
        return item
    try:
        float(item)
    except ValueError:
        return f"'{item}"
    return item


def as_csv(table: Table) -> str:
    """``table`` as RFC 4180 text, with every row and every digit, and without formulas."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(harmless, table.columns))
    writer.writerows([exact(harmless(item)) for item in row] for row in table.rows)
    return text.getvalue()


def value(item: object) -> str:
    """A cell on the page: numbers with six significant digits, nothing for what is missing; proven ones rounded up.

    >>> value(0.1 + 0.2), value(Upper(1.23001)), value(Upper(386.2)), value(Upper(1.23e-5))
    ('0.3', '1.2301', '387', '1.3e-05')
    """
    if isinstance(item, Upper):
        return upper_text(item, 4) if item >= _SMALL else upper_delta(item)
    if isinstance(item, float | np.floating):
        return f"{item:.6g}"
    return exact(item)


def p_value(p: float | None) -> str:
    """A p-value, or a dash where the test is undefined.

    >>> p_value(0.04), p_value(1e-9), p_value(None)
    ('0.0400', '< 0.0001', '–')
    """
    if p is None:
        return "–"
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"
