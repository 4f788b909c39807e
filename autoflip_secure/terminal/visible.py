"""Text from outside, as it is shown: what would move a cursor, change a colour or fake a line becomes an escape."""

from __future__ import annotations

import unicodedata

_SHOWN = 100  # characters


def visible(text: object, *, lines: bool = False) -> str:
    r"""``text`` with its control characters written out.

    Args:
        text: anything.
        lines: it may have several lines; else a line feed is written out, too.

    >>> visible("\x1b[31mred\n"), visible("two\nlines", lines=True)
    ('\\x1b[31mred\\n', 'two\nlines')
    """
    return "".join(c if c.isprintable() or (lines and c == "\n") else _shown(c) for c in str(text))


def short(text: object, most: int = _SHOWN) -> str:
    """``text`` on one line of at most ``most`` characters.

    >>> short("a" * 9, 5)
    'aaaa…'
    """
    line = visible(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def hidden(text: str) -> str | None:
    r"""The first character of ``text`` that no file, terminal or name should get: a control, or half a surrogate pair.

    >>> hidden("two\nlines"), hidden("\x1b[31m")
    (None, '\x1b')
    """
    return next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n\r"), None)


def _shown(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
