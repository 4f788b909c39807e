"""One writer per folder; a file system without locks is written to all the same, and that is said once."""

import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock

from autoflip_secure.errors import StoreError
from autoflip_secure.scenarios.store.locks import Held, Lock
from autoflip_secure.scenarios.store.store import Store
from autoflip_secure.scenarios.testing.robustness import Robustness


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOLCK, "No locks available"), OSError(errno.ENOTSUP, "Operation not supported"),
        OSError(errno.EINVAL, "Invalid argument"), NotImplementedError("FileSystem does not appear to support flock"),
    ],
)  # fmt: skip
def test_without_locks_it_goes_on(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(FileLock, "_acquire", refuse)
    for _ in range(2):
        with Store(tmp_path / "a") as store:
            assert store.cells.is_dir()
    assert len(said) == 1
    assert said[0].startswith(f"the file system of {tmp_path / 'a'} has no locks")
    assert "start none before this one has ended" in said[0]


def test_a_system_without_flock_locks_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """filelock makes a file instead, or says that it cannot; its warning is not the user's."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Lock(tmp_path / "lock"):
        pass
    assert len(said) <= 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_other_failures_are_fatal(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "_acquire", refuse)
    with pytest.raises(StoreError, match=os.strerror(number)) as caught, Store(tmp_path / "a"):
        pass
    assert ("which you may write to" in str(caught.value)) is (number == errno.EACCES)
    assert said == []


def test_held_by_another(tmp_path: Path) -> None:
    with Lock(tmp_path / "lock"), pytest.raises(Held):
        Lock(tmp_path / "lock", timeout=0).acquire()


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.yaml").write_text("rounds: 1\n")
    with pytest.raises(StoreError, match=r"cannot be written .*--robustness-cache"):
        Robustness(tmp_path, tmp_path / "file" / "cache")(tmp_path / "a.yaml")
