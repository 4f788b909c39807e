"""The data behind a figure as text: exact in the CSV, short on the page."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from reports.style import Table


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


def as_csv(table: Table) -> str:
    """``table`` as RFC 4180 text, with every row and every digit."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.columns)
    writer.writerows([exact(item) for item in row] for row in table.rows)
    return text.getvalue()


def value(item: object) -> str:
    """A cell on the page: numbers with six significant digits, nothing for what is missing."""
    if isinstance(item, float | np.floating):
        return f"{item:.6g}"
    return exact(item)
