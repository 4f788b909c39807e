"""What a reader finds in a folder: all that can be shown, and one clear sentence for everything else."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoflip_secure.errors import StoreError
from autoflip_secure.files.checksums import sealed, unsealed
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.results import read_results

TINY = """
name: tiny
question: Does it read?
clients: 4
cohort: 2
rounds: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 120, test_samples: 40}
model: {kind: mlp, hidden: [8]}
seeds: [1, 2]
sweep: {product: {algorithm: [fedavg, autoflip]}}
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    (folder / "tiny.yaml").write_text(TINY)
    quiet = Listener(progress=lambda *_: None, note=lambda _: None)
    run_sweep(plan(load(folder / "tiny.yaml")), folder / "run", 1, quiet)
    return folder / "run"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def cells(folder: Path) -> list[Path]:
    return sorted((folder / "cells").glob("*.json"))


def one_sentence(note: str) -> None:
    assert "\n" not in note
    assert note.endswith(".")


def test_a_finished_sweep_has_nothing_to_say(folder: Path):
    found = read_results(folder)
    order = [entry["cell"] for entry in json.loads((folder / "manifest.json").read_text())["cells"]]
    assert [r.cell for r in found.records] == order
    assert (found.missing, found.notes) == ([], [])
    assert found.scenario["question"] == "Does it read?"


def test_a_moved_folder_is_the_same_folder(folder: Path, tmp_path: Path):
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "name with blanks"))
    assert read_results(moved).notes == []


def test_missing_cells_come_with_their_configuration(folder: Path):
    gone = read_record(cells(folder)[0])
    cells(folder)[0].unlink()
    found = read_results(folder)
    (missing,) = found.missing
    assert (missing["cell"], missing["algorithm"], missing["seed"]) == (gone.cell, gone.algorithm, gone.seed)
    assert missing["config"] == gone.config
    assert len(found.records) == 3


def bad_json(path: Path) -> None:
    path.write_text("{")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def other_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def a_list(path: Path) -> None:
    path.write_text("[]")


def deep(path: Path) -> None:
    path.write_text("[" * 100_000)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path: Path) -> None:
    document = json.loads(path.read_text())
    document["config"]["rounds"] = 99
    path.write_text(json.dumps(document))


def odd_version(path: Path) -> None:
    with_version(path, [1])


def true_version(path: Path) -> None:
    with_version(path, True)


@pytest.mark.parametrize(
    "damage", [bad_json, nothing, other_bytes, a_list, deep, half, edited, odd_version, true_version]
)
def test_a_damaged_file_is_named_and_left_where_it_is(folder: Path, damage: Callable[[Path], None]):
    path = cells(folder)[1]
    damage(path)
    before = path.read_bytes()
    found = read_results(folder)
    (note,) = found.notes
    one_sentence(note)
    assert path.name in note
    assert "damaged" in note
    assert [m["cell"] for m in found.missing] == [path.stem]
    assert path.read_bytes() == before


def with_version(path: Path, version: object) -> None:
    document = json.loads(path.read_text())
    document["schema_version"] = version
    document["a_field_of_the_future"] = 1
    path.write_text(json.dumps(document))


def test_cells_of_another_schema_version_are_left_out_and_said(folder: Path):
    with_version(cells(folder)[0], 3)
    with_version(cells(folder)[1], 0)
    found = read_results(folder)
    assert len(found.notes) == 2
    assert all("another schema version" in note and "this version reads up to 2" in note for note in found.notes)
    assert {m["cell"] for m in found.missing} == {p.stem for p in cells(folder)[:2]}
    assert len(found.records) == 2


def test_a_version_is_refused_even_when_the_fields_fit(folder: Path):
    path = cells(folder)[0]
    document = json.loads(unsealed(path.read_bytes())) | {"schema_version": 3}
    path.write_text(sealed(json.dumps(document)))
    with pytest.raises(StoreError, match="schema version 3; this program reads 2"):
        read_record(path)


def test_only_other_versions_is_an_error_that_says_what_to_do(folder: Path):
    for path in cells(folder):
        with_version(path, 3)
    with pytest.raises(StoreError, match="4 cells left out because of another schema version") as error:
        read_results(folder)
    assert "Report with the version that wrote them" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_named_and_not_waited_for(folder: Path, make: Callable[[Path], None]):
    victim = cells(folder)[0]
    victim.unlink()
    make(victim)
    (folder / "scenario.yaml").unlink()
    make(folder / "scenario.yaml")
    found = read_results(folder)
    assert len(found.records) == 3
    scenario, cell = found.notes
    assert scenario.startswith("scenario.yaml cannot be read (it is a pipe, a socket or a device, not a file)")
    assert f"{victim.name}: cannot be read (it is a pipe, a socket or a device, not a file)" in cell
    (folder / "manifest.json").unlink()
    make(folder / "manifest.json")
    assert "manifest.json: cannot be read (it is a pipe" in read_results(folder).notes[0]


def test_cells_of_another_sweep_are_left_out_and_counted(folder: Path):
    foreign = folder / "cells" / "0123456789abcdef.json"
    shutil.copy(cells(folder)[0], foreign)
    found = read_results(folder)
    (note,) = found.notes
    one_sentence(note)
    assert note.startswith("1 cell is not of this sweep")
    assert foreign.stem in note
    assert len(found.records) == 4


def test_a_folder_with_only_foreign_cells_is_refused(folder: Path):
    for path in cells(folder):
        path.rename(path.with_name(f"f{path.stem[1:]}x.json"))
    with pytest.raises(StoreError, match=r"none of its 4 cells is of the sweep in manifest\.json"):
        read_results(folder)


def test_a_scenario_that_did_not_make_the_cells_is_noticed(folder: Path):
    text = (folder / "scenario.yaml").read_text()
    (folder / "scenario.yaml").write_text(text.replace("rounds: 2", "rounds: 3"))
    found = read_results(folder)
    (note,) = found.notes
    assert "is not the one that made these cells" in note
    assert len(found.records) == 4


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read"),
        ("[1]", "cannot be read"),
        ("a: [", "cannot be read"),
        ("roundz: 3", "not understood"),
        ("[" * 100_000, "nested too deeply"),
        ("a: !!timestamp x", "cannot be read (scenario.yaml:1: a: the tag"),
    ],
)
def test_without_a_scenario_the_cells_are_still_shown(folder: Path, content: str | None, expected: str):
    if content is None:
        (folder / "scenario.yaml").unlink()
    else:
        (folder / "scenario.yaml").write_text(content)
    found = read_results(folder)
    (note,) = found.notes
    one_sentence(note)
    assert expected in note
    assert found.scenario["name"] == "tiny"
    assert len(found.records) == 4


NO_LIST = {"schema": 1, "scenario_hash": "", "name": "x", "cells": 3, "blocks": []}


@pytest.mark.parametrize("content", [None, "{", "{}", json.dumps(NO_LIST)])
def test_without_a_manifest_the_cells_speak(folder: Path, content: str | None):
    if content is None:
        (folder / "manifest.json").unlink()
    else:
        (folder / "manifest.json").write_text(content)
    found = read_results(folder)
    assert len(found.records) == 4
    assert "whether some are missing is not known" in found.notes[0]
    one_sentence(found.notes[0])


def test_a_changed_manifest_is_noticed(folder: Path):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"].pop()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (note,) = read_results(folder).notes
    assert "manifest.json: is damaged (it was changed after the sweep wrote it: its checksum does not match): " in note
    del manifest["checksum"]  # as older versions wrote it: its hash tells
    (folder / "manifest.json").write_text(json.dumps(manifest))
    notes = " ".join(read_results(folder).notes)
    assert "manifest.json was changed" in notes
    assert "1 cell is not of this sweep" in notes


def test_nothing_there_is_said_plainly(folder: Path, tmp_path: Path):
    with pytest.raises(StoreError, match="no such folder"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"scenario\.yaml: is a file; give the folder of a sweep"):
        read_results(folder / "scenario.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="is empty; run the sweep first"):
        read_results(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("hello")
    with pytest.raises(StoreError, match="is not a results folder"):
        read_results(tmp_path / "empty")
    for path in cells(folder):
        path.unlink()
    with pytest.raises(StoreError, match=r"none of its cells is finished\. Run the sweep first"):
        read_results(folder)


def test_only_damaged_cells_is_an_error_that_names_them(folder: Path):
    for path in cells(folder):
        path.write_text("{")
    with pytest.raises(StoreError, match="nothing to report on") as error:
        read_results(folder)
    assert cells(folder)[0].name in str(error.value)
    assert "\n" not in str(error.value)
