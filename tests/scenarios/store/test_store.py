"""A results folder under hostile conditions: damage, full disks, other scenarios, other runs, no permission."""

import json
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
from sizes import every

from autoflip_secure.errors import StoreError
from autoflip_secure.files.checksums import with_checksum, without_checksum
from autoflip_secure.files.durable import write_whole
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import load, resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep
from autoflip_secure.scenarios.store.manifest import read_manifest
from autoflip_secure.scenarios.store.store import Store, read_record

TINY = """
name: tiny
clients: 5
cohort: 2
rounds: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
seeds: [1, 2, 3]
sweep: {product: {algorithm: [fedavg, autoflip], rounds: [2, 3]}}
"""


def tiny(*overrides: str) -> Plan:
    return plan(resolve(Document.parse(TINY, "tiny.yaml"), overrides))


class Ear:
    """Hears what a sweep says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.progress: list[tuple[float, int]] = []

    def listener(self) -> Listener:
        return Listener(lambda done, total, left: self.progress.append((done, total)), self.notes.append)


def run(work: Plan, folder: Path, ear: Ear | None = None) -> SweepResult:
    return run_sweep(work, folder, 1, (ear or Ear()).listener())


def numbers(records: list[RunRecord]) -> list[dict[str, object]]:
    return [record.numbers() for record in records]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunRecord]]:
    """A finished sweep; never change it."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    return folder, run(tiny(), folder).records


@pytest.fixture
def folder(finished: tuple[Path, list[RunRecord]], tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished[0], tmp_path / "tiny"))


# ------------------------------------------------------------------------------------------------ the good path


def test_folder_holds_scenario_manifest_and_one_file_per_cell(finished: tuple[Path, list[RunRecord]]) -> None:
    folder, records = finished
    manifest = read_manifest(folder)
    keys = {cell["cell"] for cell in manifest["cells"]}
    assert {path.stem for path in (folder / "cells").iterdir()} == keys == {r.cell for r in records}
    assert len(keys) == 12
    assert [key for block in manifest["blocks"] for key in block] == [c["cell"] for c in manifest["cells"]]
    assert plan(load(folder / "scenario.yaml")).keys == tiny().keys
    assert "complete" in (folder / "log.txt").read_text()


def test_the_same_command_again_runs_nothing(folder: Path, finished: tuple[Path, list[RunRecord]]) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    ear = Ear()
    result = run(tiny(), folder, ear)
    assert (result.reused, ear.progress) == (12, [])
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()} == before
    assert numbers(result.records) == numbers(finished[1])


def test_what_is_missing_is_run_and_equal(folder: Path, finished: tuple[Path, list[RunRecord]]) -> None:
    victims = sorted((folder / "cells").iterdir())[::5]
    for victim in victims:
        victim.unlink()
    result = run(tiny(), folder)
    assert result.reused == 12 - len(victims)
    assert numbers(result.records) == numbers(finished[1])


def test_question_may_change(folder: Path) -> None:
    assert run(tiny("question=Why?", "name=other"), folder).reused == 12
    assert "Why?" in (folder / "scenario.yaml").read_text()


# ------------------------------------------------------------------------------------------------ damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def wrong_field(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "final_accuracy": "high"}))


def other_cell(path: Path) -> None:
    record = json.loads(path.read_text())
    record["config"]["rounds"] = 77
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("damage", every(2, [cut, empty, wrong_field, noise, other_cell]))
def test_damaged_cell_is_moved_aside_run_again_and_said(
    damage: object, folder: Path, finished: tuple[Path, list[RunRecord]]
) -> None:
    victim = sorted((folder / "cells").iterdir())[3]
    damage(victim)  # type: ignore[operator]
    spoiled, ear = victim.read_bytes(), Ear()
    result = run(tiny(), folder, ear)
    aside = victim.with_name(f"{victim.name}.damaged-1")
    assert aside.read_bytes() == spoiled
    assert result.reused == 11
    assert [aside.name in note and "is damaged" in note for note in ear.notes] == [True]
    assert numbers(result.records) == numbers(finished[1])


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


@pytest.mark.parametrize("place", every(2, [pipe, nowhere, device]))
def test_what_is_no_file_is_neither_waited_for_nor_replaced_silently(place: Callable[[Path], None], folder: Path):
    victim = sorted((folder / "cells").glob("*.json"))[0]
    victim.unlink()
    place(victim)
    ear = Ear()
    run(tiny(), folder, ear)
    (note,) = ear.notes
    assert note.startswith(f"{victim}: cannot be read (")
    assert note.endswith("the cell is run again")
    assert read_record(victim).cell == victim.stem


def test_a_sweep_says_which_cells_are_not_its_own(folder: Path) -> None:
    stranger = folder / "cells" / "0123456789abcdef.json"
    shutil.copy(sorted((folder / "cells").glob("*.json"))[0], stranger)
    ear = Ear()
    run(tiny(), folder, ear)
    assert ear.notes == [
        "1 cell is not of this sweep (made by another scenario, or copied here) and left out: 0123456789abcdef"
    ]
    assert stranger.exists()


def test_second_damage_does_not_overwrite_the_first(folder: Path) -> None:
    victim = sorted((folder / "cells").iterdir())[0]
    for number in (1, 2):
        cut(victim)
        run(tiny(), folder)
        assert victim.with_name(f"{victim.name}.damaged-{number}").exists()
    assert read_record(victim).cell == victim.stem


def cell_gone(manifest: dict[str, Any]) -> None:
    manifest["cells"].pop()


def hash_changed(manifest: dict[str, Any]) -> None:
    manifest["scenario_hash"] = "0" * 16


def inputs_changed(manifest: dict[str, Any]) -> None:
    manifest["inputs"] = dict.fromkeys(manifest["inputs"], "0" * 64)


def reseal(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Another content with a checksum that fits, as if a sweep had written it."""
    document = without_checksum(json.loads(path.read_text()))
    change(document)
    path.write_text(json.dumps(with_checksum(document)))


MANIFESTS: list[str | Callable[[dict[str, Any]], None] | None] = [
    None, "", "{", "[]", '{"schema": [1]}', '{"schema": 1}', cell_gone, "[" * 100_000, inputs_changed, hash_changed,
]  # fmt: skip


@pytest.mark.parametrize("damage", every(2, MANIFESTS))
def test_a_damaged_manifest_does_not_keep_whole_cells_from_being_taken_up(
    damage: str | Callable[[dict[str, Any]], None] | None, folder: Path, finished: tuple[Path, list[RunRecord]]
) -> None:
    path, ear = folder / "manifest.json", Ear()
    good = path.read_text()
    if damage is None:
        path.unlink()
    elif isinstance(damage, str):
        path.write_text(damage)
    else:
        manifest = json.loads(good)
        damage(manifest)
        path.write_text(json.dumps(manifest))
    spoiled = None if damage is None else path.read_bytes()
    found = run(tiny(), folder, ear)
    assert found.reused == 12
    assert numbers(found.records) == numbers(finished[1])
    (note,) = ear.notes
    assert found.damaged == [note]
    assert "whole cells are kept by their own configuration; which data" in note
    assert ("manifest.json is missing" if damage is None else "manifest.json: is damaged (") in note
    if spoiled is not None:
        assert (folder / "manifest.json.damaged-1").read_bytes() == spoiled
    assert path.read_text() == good
    again = Ear()
    assert (run(tiny(), folder, again).reused, again.notes) == (12, [])


def test_a_manifest_that_is_no_file_is_not_waited_for(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    ear = Ear()
    assert run(tiny(), folder, ear).reused == 12
    assert "manifest.json: cannot be read (it is a pipe" in ear.notes[0]


def test_without_a_manifest_cells_of_another_scenario_are_not_adopted(folder: Path) -> None:
    for damage in ("{", None):
        (folder / "manifest.json").write_text(damage) if damage else (folder / "manifest.json").unlink()
        with pytest.raises(StoreError, match=r"holds the results of another scenario.*\n  cohort: 2 -> 3"):
            run(tiny("cohort=3"), folder)
    (folder / "scenario.yaml").unlink()
    with pytest.raises(StoreError, match=r"manifest\.json is missing, and none of the cells is of this scenario; give"):
        run(tiny("cohort=3"), folder)
    assert not list(folder.glob("*.damaged-*"))
    assert run(tiny(), folder).reused == 12


def test_a_manifest_of_another_format_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema": 99}')
    with pytest.raises(StoreError, match=r"manifest\.json: is a manifest of format 99, not 1; use the version"):
        run(tiny(), folder)


def test_a_manifest_from_before_checksums_is_read(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    assert len(manifest.pop("checksum")) == 64
    path.write_text(json.dumps(manifest))
    ear = Ear()
    assert (run(tiny(), folder, ear).reused, ear.notes) == (12, [])
    assert "checksum" in json.loads(path.read_text())


def test_left_over_temporary_files_go(folder: Path) -> None:
    (folder / "ledger").mkdir()
    left = [folder / name for name in (".manifest.json.9.tmp", "cells/.abc.json.9.tmp", "ledger/.abc.json.9.tmp")]
    for path in left:
        path.write_text("half")
    (folder / ".report.html.9.tmp").write_text("of a report that is being written now")
    run(tiny(), folder)
    assert [path for path in left if path.exists()] == []
    assert (folder / ".report.html.9.tmp").exists()


# --------------------------------------------------------------------------------------- other scenarios, other runs


def test_changed_scenario_is_refused_with_the_difference(folder: Path) -> None:
    with pytest.raises(StoreError) as caught:
        run(tiny("cohort=3", "training.lr=0.2"), folder)
    message = str(caught.value)
    assert "cohort: 2 -> 3" in message
    assert "training.lr: (not there) -> 0.2" in message
    assert "rounds" not in message.split("What changed:")[1]
    assert "--out" in message
    assert run(tiny(), folder).reused == 12, "a refusal changes nothing"


def test_more_seeds_are_another_scenario(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"seeds: \[1, 2, 3\] -> \[1, 2\]"):
        run(tiny("seeds=[1, 2]"), folder)


def test_same_file_read_otherwise_is_refused(folder: Path) -> None:
    """As after an upgrade that changed a default: the file is the same, the cells are not."""
    reseal(folder / "manifest.json", hash_changed)
    with pytest.raises(StoreError, match="another version"):
        run(tiny(), folder)


def test_second_run_is_refused_while_the_first_holds_the_folder(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from autoflip_secure.scenarios.store.store import Store\n"
        "with Store(Path(sys.argv[1])):\n    print('locked', flush=True); sys.stdin.read()"
    )
    reads, writes = os.pipe()
    with forked.start(folder, code=code, cwd=folder.parent, stdin=reads) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StoreError, match="another run is writing to this folder"):
            run(tiny(), folder)
        os.close(writes)
        other.wait()
    os.close(reads)
    assert run(tiny(), folder).reused == 12


# ------------------------------------------------------------------------------------------------ disks


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
