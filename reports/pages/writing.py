"""Writing beside a reader: a file is there whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from autoflip_secure.errors import StoreError
from autoflip_secure.files.durable import unwritable, write_whole, written_whole


def write(path: Path, content: str | bytes) -> None:
    """Write to a temporary file beside ``path`` and rename it, so that a reader never sees half a file.

    Args:
        path: the file; its folder is made when absent.
        content: text is encoded as UTF-8; what cannot be encoded becomes a question mark.

    Raises:
        StoreError: the folder cannot be made or written, or the disk is full.
    """
    make_folder(path)
    try:
        write_whole(path, content)
    except OSError as error:
        raise _refusal(path, error) from error


@contextlib.contextmanager
def streamed(path: Path) -> Iterator[BinaryIO]:
    """The same, of what is written into the file that this gives, part by part; the folder is there.

    Raises:
        StoreError: it cannot be written, or the disk is full; what was there before is as it was.
    """
    try:
        with written_whole(path) as file:
            yield file
    except OSError as error:
        raise _refusal(path, error) from error


def make_folder(path: Path) -> None:
    """Make the folder of a file, before seconds are spent on what it will hold.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(path, error) from error


def remove(path: Path) -> None:
    """Remove a file of an earlier report, if there is one.

    Raises:
        StoreError: it is there and cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: {unwritable(error, 'give another folder')}")
