"""What a person should know besides the answer: one sentence each, on standard error, said once."""

from __future__ import annotations

import sys
from collections.abc import Callable

from autoflip_secure.terminal.visible import visible
from autoflip_secure.terminal.wrapping import fitted

_said: set[str] = set()


def remark(text: str) -> None:
    """Say it, on one line, whatever a library or a file's name has in it."""
    print(fitted(f"note: {visible(text)}", sys.stderr), file=sys.stderr, flush=True)


_tell: Callable[[str], None] = remark


def once(text: str, about: str = "") -> None:
    """Say it, unless this process has said it (or anything else ``about`` the same) since :func:`begin`."""
    if (about or text) not in _said:
        _said.add(about or text)
        _tell(text)


def begin(tell: Callable[[str], None] = remark) -> None:
    """Nothing has been said yet; from now on ``tell`` says it (a worker's goes to its parent, which says it once)."""
    global _tell  # noqa: PLW0603 - where a process talks to is the process's own
    _said.clear()
    _tell = tell
