"""What libraries warn of, and modules of the user's own: one sentence, said once, or nothing.

Warnings about code (deprecations, what will change in future versions) are for whoever writes that code, and nothing is
said. The others may be about the user's model or data, and their first sentence is. None of it depends on how Python
was started (``-W``, ``PYTHONWARNINGS``).
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import TextIO

from autoflip_secure.terminal import notes
from autoflip_secure.terminal.advice import without_unsafe_advice

_ABOUT_CODE = (
    DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning, SyntaxWarning,
    BytesWarning, EncodingWarning,
)  # fmt: skip
_LONGEST = 200  # characters


def tame() -> None:
    """For the whole process, from now on; one of our own, not one that uses this package."""
    sys.warnoptions.clear()  # which processes that are started would be given
    os.environ.pop("PYTHONWARNINGS", None)
    warnings.resetwarnings()
    warnings.simplefilter("default")
    warnings.showwarning = _show
    logging.lastResort = _Said(logging.WARNING)


def first_sentence(text: object) -> str:
    """The first sentence on one line, without what is inside brackets of torch's (where in C++ it happened).

    >>> first_sentence("dropout option adds dropout. See the docs.\\n(Triggered internally at rnn.cpp:1)")
    'dropout option adds dropout'
    """
    line = " ".join(str(text).split()).partition("(Triggered internally")[0]
    sentence = re.split(r"(?<=[a-z0-9)\]'\"`])[.!](?:\s|$)", line, maxsplit=1)[0].strip()
    sentence = without_unsafe_advice(sentence)
    return sentence if len(sentence) <= _LONGEST else sentence[: _LONGEST - 1] + "…"


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    if not issubclass(category, _ABOUT_CODE) and (sentence := first_sentence(message)):
        notes.once(f"{_origin(filename, lineno)} warns: {sentence}")


def _origin(filename: str, lineno: int) -> str:
    """The library's name, or file and line of a module of the user's own."""
    parts = Path(filename).parts
    for place in ("site-packages", "dist-packages"):
        if place in parts[:-1]:
            return parts[parts.index(place) + 1].removesuffix(".py")
    return f"{parts[-1] if parts else filename}:{lineno}"


class _Said(logging.Handler):
    """What is logged as a warning or worse where nobody has set up logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sentence = first_sentence(record.getMessage())
        except Exception:  # arguments that do not fit its text
            sentence = first_sentence(record.msg)
        if sentence:
            notes.once(f"{record.name.partition('.')[0]} says: {sentence}")
