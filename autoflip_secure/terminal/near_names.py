"""Names that are nearly the one that was asked for: of files, folders and whatever else has names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

_MOST = 2  # named


def near(name: str, names: Iterable[str]) -> list[str]:
    """The closest of ``names``: first the same in another case, or but for the ending.

    >>> near("Data.npz", ["data.npz", "date.npz", "x.npz"])
    ['data.npz', 'date.npz']
    """
    all_names = sorted(names)
    lower = {name.casefold(), *([os.path.splitext(name)[0].casefold()] if "." in name.strip(".") else [])}
    same = [other for other in all_names if {other.casefold(), os.path.splitext(other)[0].casefold()} & lower]
    close = difflib.get_close_matches(name, all_names, n=_MOST + 1, cutoff=0.75)
    return list(dict.fromkeys(other for other in [*same, *close] if other != name))[:_MOST]


def nearby(path: Path) -> str:
    """``, but there is …`` for a path that is not there: the names in its folder, or in the first that is there, that
    are nearly the next one on the way; nothing where there are none."""
    here = Path(os.path.abspath(path))
    while not here.parent.is_dir():
        here = here.parent
    try:
        found = near(here.name, os.listdir(here.parent))
    except OSError:
        return ""
    return f", but there is {' and '.join(str(here.parent / name) for name in found)}" if found else ""


def suggest(word: object, allowed: Iterable[str]) -> str:
    """``did you mean …? allowed: …``.

    >>> suggest("autofli", ["fedavg", "autoflip"])
    "did you mean 'autoflip'? allowed: autoflip, fedavg"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(str(word), names, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"
