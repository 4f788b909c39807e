"""One writer per folder: a lock that the system gives back when its holder dies, and a sentence where there is none."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from autoflip_secure.files.durable import UNSUPPORTED
from autoflip_secure.terminal import notes

_NO_LOCKS = UNSUPPORTED | {errno.ENOLCK, errno.EBADF}  # NFS without a lock server, CIFS mounted with nobrl, FUSE


class Held(Exception):  # noqa: N818 - an answer, not an error
    """Another process holds the lock."""


class Lock:
    """``flock`` on a file, through filelock. Network drives that know no locks are written to without one."""

    def __init__(self, path: Path, timeout: float = -1) -> None:
        """``timeout``: seconds to wait for another holder; negative: for ever."""
        self.path = path
        self._lock = FileLock(path, timeout=timeout)

    def acquire(self) -> None:
        """Take it.

        Raises:
            Held: another process has it, and had it for as long as may be waited.
            OSError: the file cannot be made.
        """
        try:
            with warnings.catch_warnings():  # filelock's own, of a file beside it that it takes instead
                warnings.simplefilter("ignore")
                self._lock.acquire()
        except Timeout:
            raise Held from None
        except (OSError, NotImplementedError) as error:  # the latter is how older versions say ENOSYS
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            why = error.strerror if isinstance(error, OSError) else "no flock"
            notes.once(
                f"the file system of {self.path.parent} has no locks ({why}): nothing keeps a second run out of this "
                "folder, so start none before this one has ended"
            )

    def release(self) -> None:
        """Give it back; nothing happens where it was not taken."""
        self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
