"""Reading what a results folder should hold: files only. A pipe would be waited for for ever, a device never ends."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path) -> bytes:
    """The content of a file, through links.

    Raises:
        OSError: it cannot be read, or is a pipe, a socket, a device or a folder.
    """
    _refuse_others(path, os.stat(path))  # before it is opened: that alone can wait, or move a device
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        _refuse_others(path, os.fstat(file.fileno()))  # and what was opened is what is read
        return file.read()


def _refuse_others(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
