"""Reading what should be a file: files only. A pipe would be waited for for ever, a device never ends."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError

_WHAT_THERE_IS = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))
MOST_BYTES = 2**30  # of a document; a record has some hundred kilobytes


def open_regular(path: Path) -> BufferedReader:
    """A file, opened for reading, through links.

    Raises:
        OSError: it cannot be read, or is a pipe, a socket, a device or a folder.
    """
    _refuse_others(path, os.stat(path))  # before it is opened: that alone can wait, or move a device
    file = open(os.open(path, os.O_RDONLY | _WHAT_THERE_IS), "rb")  # noqa: SIM115 - for the caller
    try:
        _refuse_others(path, os.fstat(file.fileno()))  # and what was opened is what is read
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file of at most ``most`` bytes, through links.

    Raises:
        OSError: it cannot be read, is larger, or is a pipe, a socket, a device or a folder.
    """
    with open_regular(path) as file:
        said = min(os.fstat(file.fileno()).st_size, most)  # what is asked for is taken from memory before it is read
        content = file.read(said + 1)
        if len(content) > said:  # it has grown, or does not say how large it is
            content += file.read(most + 1 - len(content))
    if len(content) > most:
        raise OSError(errno.EINVAL, f"it has more than {most >> 20} MiB", str(path))
    return content


def gone(path: Path) -> bool:
    """Whether nothing is there, surely: a link to nothing is something, and so is what may not be looked at."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def current_folder() -> Path:
    """Where the process stands.

    Raises:
        InputError: it was deleted.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise InputError(
            f"the current folder cannot be used ({error.strerror}): it was deleted; change to one that exists"
        ) from error


def append_regular(path: Path, text: str) -> None:
    """Add ``text`` to a file, which is made when absent.

    Raises:
        OSError: it cannot be written, or is something else than a file.
    """
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _WHAT_THERE_IS
    with open(os.open(path, how, 0o666), "ab") as file:
        _refuse_others(path, os.fstat(file.fileno()))
        file.write(text.encode("utf-8", "backslashreplace"))


def parse_json(content: bytes | str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """JSON that may be damaged in any way.

    Args:
        content: of a file, or of a message.
        pairs: what makes an object of its keys and values; None: ``dict``.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read.

    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    """
    try:
        return json.loads(content, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_others(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
