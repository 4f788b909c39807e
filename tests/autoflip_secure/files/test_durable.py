"""Files whole or not at all, on file systems that refuse this or that: gone on, and said once; the rest is fatal."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from autoflip_secure.files import durable
from autoflip_secure.files.durable import unwritable, write_whole


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


Refuse = Callable[[bool, int], None]


@pytest.fixture
def refuse_sync(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """fsync of folders (or of files) fails with an error of the system's."""
    real = os.fsync

    def refuse(folders: bool, number: int) -> None:
        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) is folders:
                raise error(number)
            real(descriptor)

        monkeypatch.setattr(durable.os, "fsync", fsync)

    return refuse


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EPERM, errno.EACCES])
def test_a_folder_that_cannot_be_synced_is_said_once(
    number: int, refuse_sync: Refuse, tmp_path: Path, said: list[str]
) -> None:
    refuse_sync(True, number)
    for name in ("a", "b", "a"):
        write_whole(tmp_path / name, name * 3)
    assert (tmp_path / "a").read_text() == "aaa"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert len(said) == 1
    assert said[0].startswith(f"the file system of {tmp_path} does not report when a file has reached the disk")


@pytest.mark.parametrize(
    ("folders", "number"), [(True, errno.EIO), (True, errno.ENOSPC), (False, errno.EIO), (False, errno.EACCES)]
)
def test_other_failures_of_a_sync_are_fatal(
    folders: bool, number: int, refuse_sync: Refuse, tmp_path: Path, said: list[str]
) -> None:
    refuse_sync(folders, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_whole(tmp_path / "a", "new")
    assert said == []
    assert [path.name for path in tmp_path.iterdir()] == (["a"] if folders else [])


def test_a_file_system_without_any_sync(refuse_sync: Refuse, tmp_path: Path, said: list[str]) -> None:
    refuse_sync(False, errno.EINVAL)
    write_whole(tmp_path / "a", b"bytes")
    assert (tmp_path / "a").read_bytes() == b"bytes"
    assert len(said) == 1


def test_a_folder_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """As on Windows, and for a folder that may be written and not read."""
    real = os.open

    def refuse(path: str | Path, flags: int, *more: int) -> int:
        if Path(path).is_dir():
            raise error(errno.EACCES)
        return real(path, flags, *more)

    monkeypatch.setattr(durable.os, "open", refuse)
    write_whole(tmp_path / "a", "a")
    assert len(said) == 1


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EPERM])
def test_names_that_are_taken_are_replaced_in_two_steps(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """As over sshfs."""
    (tmp_path / "a").write_text("old")

    def replace(source: Path, target: Path) -> None:
        if target.exists():
            raise error(number)
        os.rename(source, target)

    monkeypatch.setattr(durable.os, "replace", replace)
    write_whole(tmp_path / "a", "new")
    write_whole(tmp_path / "b", "b")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "b"}
    assert len(said) == 1
    assert "cannot replace a file in one step" in said[0]


def test_what_may_not_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    (tmp_path / "a").write_text("old")

    def refuse(*_: object) -> None:
        raise error(errno.EACCES)

    monkeypatch.setattr(durable.os, "replace", refuse)
    monkeypatch.setattr(durable.os, "rename", refuse)
    with pytest.raises(PermissionError):
        write_whole(tmp_path / "a", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    assert said == []


def test_the_old_file_comes_back_when_the_second_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")
    real = os.rename

    def refuse(*_: object) -> None:
        raise error(errno.EPERM)

    def once(source: Path, target: Path) -> None:
        if source.suffix == ".tmp":
            raise error(errno.EIO)
        real(source, target)

    monkeypatch.setattr(durable.os, "replace", refuse)
    monkeypatch.setattr(durable.os, "rename", once)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(tmp_path / "a", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_whole(tmp_path / "a", "")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_long_names_and_texts_that_cannot_be_encoded(tmp_path: Path) -> None:
    name = "é" * 120
    write_whole(tmp_path / name, "a\ud800b")
    assert (tmp_path / name).read_bytes() == b"a?b"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "no space left on the disk (No space left on device); free some, or give X"),
        (errno.EDQUOT, "no space left on the disk (Disk quota exceeded); free some, or give X"),
        (errno.EROFS, "cannot be written (Read-only file system); give X, on a writable file system"),
        (errno.EACCES, "cannot be written (Permission denied); give X, which you may write to"),
        (
            errno.EIO,
            "cannot be written (Input/output error): the disk or the network behind it is failing; check it, or",
        ),
        (errno.ESTALE, "the disk or the network behind it is failing"),
        (errno.ENAMETOOLONG, "cannot be written (File name too long); give X"),
        (errno.EINVAL, "cannot be written (Invalid argument); give X"),
    ],
)
def test_permissions_are_blamed_for_permissions_only(number: int, expected: str) -> None:
    told = unwritable(error(number), "give X")
    assert expected in told
    assert ("may write" in told) is (number in (errno.EACCES, errno.EPERM))
