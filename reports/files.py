"""Writing beside a reader: a file is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from autoflip_secure.errors import StoreError


def write(path: Path, content: str | bytes) -> None:
    """Write to a temporary file beside ``path`` and rename it, so that a reader never sees half a file.

    Args:
        path: the file; its folder is made when absent.
        content: text is encoded as UTF-8; what cannot be encoded becomes a question mark.

    Raises:
        StoreError: the folder cannot be made or written, or the disk is full.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        way_out = "free some space" if full else "give a folder you may write to"
        raise StoreError(f"{path}: cannot be written ({error.strerror}); {way_out}") from error
