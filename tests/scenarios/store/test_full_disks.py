"""A results folder on full disks, without permission, and after writes that failed."""

import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_sweeps import numbers, run, tiny

from autoflip_secure.errors import StoreError
from autoflip_secure.files.durable import write_whole
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.store.manifest import read_manifest
from autoflip_secure.scenarios.store.store import Store


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 128 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if not made or made.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_full_disk_keeps_what_is_finished(small_disk: Path, finished: tuple[Path, list[RunRecord]]) -> None:
    folder = small_disk / "tiny"
    (small_disk / "ballast").write_bytes(b"x" * 40_000)
    with pytest.raises(StoreError, match=r"no space left on the disk.* (\d+) finished cells are kept") as caught:
        run(tiny(), folder)
    kept = [path for path in (folder / "cells").iterdir() if path.suffix == ".json"]
    assert 0 < len(kept) < 12
    assert f"{len(kept)} finished cells are kept" in str(caught.value)
    assert not list((folder / "cells").glob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    result = run(tiny(), folder)
    assert result.reused == len(kept)
    assert numbers(result.records) == numbers(finished[1])


def test_file_size_limit_is_a_clear_error(tmp_path: Path) -> None:
    """The same without root: the system refuses files as large as a record."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(StoreError, match="no space left on the disk"):
            run(tiny("sweep=null"), tmp_path / "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "tiny" / "cells").iterdir()) == []


def test_unwritable_folder() -> None:
    with pytest.raises(StoreError, match=r"cannot be written .*--out"):
        run(tiny(), Path("/proc/autoflip/tiny"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            run(tiny(), tmp_path / "tiny")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "tiny").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        run(tiny(), tmp_path / "tiny")


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="large"):
            write_whole(path, "new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_not_a_results_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a results folder"):
        read_manifest(tmp_path)


def test_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with Store(tmp_path / "a") as store:
            assert store.cells.is_dir()
