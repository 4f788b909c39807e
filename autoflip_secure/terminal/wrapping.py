"""Text as wide as a reader's terminal; what goes to a file or another program is left as it is."""

from __future__ import annotations

import os
import re
import textwrap
from typing import TextIO

COLUMNS = 80  # of lists, whatever the terminal
_NARROWEST = 40
_HELD = "\0"  # a space at which no line may end


def wrapped(text: str, width: int = COLUMNS, indent: str = "", first: str | int | None = None) -> list[str]:
    r"""One paragraph, in lines of at most ``width``; commands in backticks and longer words stay whole.

    Args:
        text: what is said; line ends in it are spaces.
        width: of a line.
        indent: before every line.
        first: before the first instead, or so many spaces.

    >>> wrapped("too long; run `make it fit` now", 16, "  ", "")
    ['too long; run', '  `make it fit`', '  now']
    """
    held = re.sub(r"`[^`]*`", lambda quoted: quoted[0].replace(" ", _HELD), text)
    start = indent if first is None else " " * first if isinstance(first, int) else first
    lines = textwrap.wrap(
        held, width, initial_indent=start, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_HELD, " ") for line in lines]


def fitted(text: str, stream: TextIO | None, indent: str = "  ") -> str:
    """``text`` for ``stream``: where that is a terminal, lines that are too long for it go on in the next one."""
    width = _width(stream)
    if width is None:
        return text
    lines = [[line] if len(line) <= width else _folded(line, width, indent) for line in text.split("\n")]
    return "\n".join(line for folded in lines for line in folded)


def _folded(line: str, width: int, indent: str) -> list[str]:
    margin = line[: len(line) - len(line.lstrip(" "))]
    return wrapped(line.lstrip(" "), width, margin + indent, margin)


def _width(stream: TextIO | None) -> int | None:
    """Columns of the terminal that ``stream`` is, ``COLUMNS`` of the environment first; None for anything else."""
    try:
        if stream is None or not stream.isatty():
            return None
        wanted = os.environ.get("COLUMNS", "")
        return max(_NARROWEST, int(wanted) if wanted.isdecimal() else os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):  # closed, or without a size
        return None
