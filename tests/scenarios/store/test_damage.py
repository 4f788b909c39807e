"""A results folder whose cells, manifest or files are damaged, no files or left over."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sizes import every
from small_sweeps import Ear, numbers, run, tiny

from autoflip_secure.errors import StoreError
from autoflip_secure.files.checksums import with_checksum, without_checksum
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.store.reading import read_record


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


def test_same_file_read_otherwise_is_refused(folder: Path) -> None:
    """As after an upgrade that changed a default: the file is the same, the cells are not."""
    reseal(folder / "manifest.json", hash_changed)
    with pytest.raises(StoreError, match="another version"):
        run(tiny(), folder)
