"""Standard output and standard error: characters that they cannot show, and an answer that stands alone."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

_OUT, _ERROR = 1, 2


def show_what_can_be_shown() -> None:
    """Characters that a stream's encoding lacks become ``?``, whatever the terminal and the locale are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def answer_alone() -> Iterator[None]:
    """Keep standard output for :func:`answer`: whatever else is written there goes to standard error.

    That holds for Python, for libraries in other languages and for child processes, and until this process ends: the
    descriptor itself is another one. A standard output that has none (in a test) is replaced while the context lasts.
    """
    out = sys.stdout
    if not _is_the_process_s(out):
        with contextlib.redirect_stdout(sys.stderr), _answering(out):
            yield
        return
    out.flush()
    _open_standard_error()
    with open(os.dup(_OUT), "w", encoding=out.encoding, errors="replace") as alone, _answering(alone):
        os.dup2(_ERROR, _OUT)
        yield


def answer(text: str) -> None:
    """Print and flush. Nobody who reads (``| head``) is no failure: what the answer says is the exit code's too.

    Raises:
        OSError: it cannot be written, to a full disk for example.
    """
    stream = _answer.get() or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        drop(stream)
    except OSError:
        drop(stream)
        raise


def drop(stream: TextIO) -> None:
    """What is written to ``stream`` from now on, and what it still holds, is lost."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def _open_standard_error() -> None:
    """Where it was closed, its number would be the next file's: that of the answer."""
    try:
        os.fstat(_ERROR)
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing != _ERROR:
            os.dup2(nothing, _ERROR)
            os.close(nothing)


def _is_the_process_s(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == _OUT
    except (OSError, ValueError):  # without a descriptor, or closed
        return False


_answer: ContextVar[TextIO | None] = ContextVar("answer", default=None)


@contextlib.contextmanager
def _answering(stream: TextIO) -> Iterator[None]:
    before = _answer.set(stream)
    try:
        yield
    finally:
        _answer.reset(before)
