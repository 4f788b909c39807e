"""Files that are there whole or not at all, also where a file system keeps fewer promises than usual.

Network and shared drives (CIFS, NFS, vboxsf, WSL's Windows drives, FUSE) refuse some of the calls that make a file
durable, and name anything from "invalid argument" to "operation not permitted" as the reason. Without them files are
still written: what is not protected then is said once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from autoflip_secure.terminal import notes

UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_UNSYNCED = UNSUPPORTED | {errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}  # of a folder: Windows opens none
_NO_REPLACING = {errno.EEXIST, errno.EPERM, errno.EACCES}  # sshfs and others rename only to names that are free
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PERMISSIONS = {errno.EACCES, errno.EPERM}


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``path`` whole or not at all: temporary file, fsync, rename, fsync of the folder.

    Args:
        path: the file; its folder is there.
        content: text is encoded as UTF-8; what cannot be encoded becomes a question mark.

    Raises:
        OSError: it cannot be written; the file is as it was before. See :func:`unwritable`.
    """
    with written_whole(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """The same for what does not fit in memory at once: what is written into the file that this gives, at its end.

    Raises:
        OSError: it cannot be written; the file is as it was before, as it is after any other error.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            _sync(file.fileno(), path, UNSUPPORTED)
        _put_in_place(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        _without_sync(error, path, _UNSYNCED)
        return
    try:
        _sync(folder, path, _UNSYNCED)
    finally:
        os.close(folder)


def unwritable(error: OSError, elsewhere: str) -> str:
    """Why something cannot be written and the way out; permissions are blamed only where they are the reason.

    Args:
        error: what the system said.
        elsewhere: the way to another place, as in "give another folder with --out".

    >>> unwritable(OSError(errno.EROFS, "Read-only file system"), "give another folder with --out")
    'cannot be written (Read-only file system); give another folder with --out, on a writable file system'
    """
    why = error.strerror or str(error)
    if error.errno in _FULL:
        return f"no space left on the disk ({why}); free some, or {elsewhere}"
    if error.errno == errno.EROFS:
        return f"cannot be written ({why}); {elsewhere}, on a writable file system"
    if error.errno in _PERMISSIONS:
        return f"cannot be written ({why}); {elsewhere}, which you may write to"
    if error.errno in (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV):
        return f"cannot be written ({why}): the disk or the network behind it is failing; check it, or {elsewhere}"
    return f"cannot be written ({why}); {elsewhere}"


def _sync(descriptor: int, path: Path, refusals: frozenset[int]) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        _without_sync(error, path, refusals)


def _without_sync(error: OSError, path: Path, refusals: frozenset[int]) -> None:
    if error.errno not in refusals:
        raise error
    notes.once(
        f"the file system of {path.parent} does not report when a file has reached the disk ({error.strerror}): a "
        "power cut may lose what was finished last; everything else works as usual",
        about="fsync",
    )


def _put_in_place(temporary: Path, path: Path) -> None:
    """Rename, over what is there; where the file system refuses that, by way of a third name."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_REPLACING or not path.is_file():
            raise
        old = temporary.with_suffix(".old")
        try:
            os.rename(path, old)
        except OSError:  # permissions after all
            raise error from None
        try:
            os.rename(temporary, path)
        except OSError:
            os.rename(old, path)
            raise
        old.unlink()
        notes.once(
            f"the file system of {path.parent} cannot replace a file in one step ({error.strerror}): a reader may "
            "find it missing while it is replaced; everything else works as usual",
            about="rename",
        )
