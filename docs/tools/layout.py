"""Tables and links of Markdown, as reference pages use them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]


def heading_of(page: str) -> str:
    """The title of a page of docs."""
    return (DOCS / page).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table; a bar in a cell does not end it."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]


def cell(text: str) -> str:
    """Text of one line in which a bar is no border.

    >>> cell("a |b|\\nc")
    'a \\\\|b\\\\| c'
    """
    return " ".join(text.split()).replace("|", "\\|")


def value(default: Any) -> str:
    """A default as a scenario writes it, as code."""
    return f"`{default}`" if isinstance(default, str) and default else f"`{json.dumps(default, ensure_ascii=False)}`"


def with_links(text: str) -> str:
    """Pages that a text of the code names, as links from docs/reference.

    >>> with_links("see docs/data.md")
    'see [data.md](../data.md)'
    """
    return re.sub(r"\bdocs/(\w+)\.md\b", r"[\1.md](../\1.md)", text)


def escaped(text: str) -> str:
    """Text in which < and * are no markup."""
    return re.sub(r"(?<!\\)([<*])", r"\\\1", text)
