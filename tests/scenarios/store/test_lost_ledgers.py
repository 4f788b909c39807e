"""A ledger that is gone is noticed: by its cell, or by the manifest when the cell is gone too."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoflip_secure.errors import StoreError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep
from autoflip_secure.scenarios.store.results import read_results

TINY = """
name: private
clients: 4
cohort: 2
rounds: 1
training: {epochs: 1, batch_size: 16}
data: {kind: digits, train_samples: 120, test_samples: 40}
model: {kind: mlp, hidden: [8]}
algorithm: fedavg
seeds: [31, 32]
sweep: {product: {privacy: [none, {kind: sample_level, noise_multiplier: 1.0}]}}
"""


def tiny() -> Plan:
    return plan(resolve(Document.parse(TINY, "tiny.yaml"), ()))


def run(folder: Path, notes: list[str]) -> SweepResult:
    return run_sweep(tiny(), folder, 1, Listener(progress=lambda *_: None, note=notes.append))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost") / "run"
    notes: list[str] = []
    run(folder, notes)
    assert notes == []
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def private(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "ledger").glob("*.json"))


def test_the_manifest_knows_what_was_begun(folder: Path) -> None:
    keys = private(folder)
    assert len(keys) == 2
    assert json.loads((folder / "manifest.json").read_text())["begun"] == keys
    notes: list[str] = []
    assert run(folder, notes).reused == 4
    assert notes == read_results(folder).notes == []


def test_sweep_and_report_say_when_a_ledger_is_gone(folder: Path) -> None:
    first, second = private(folder)
    (folder / "ledger" / f"{first}.json").unlink()
    notes: list[str] = []
    again = run(folder, notes)
    assert notes == read_results(folder).notes
    (note,) = notes
    assert note.startswith(f"1 private cell has no ledger file any more ({first}): ")
    record = next(record for record in again.records if record.cell == first)
    assert record.privacy is not None
    assert record.privacy.attempts == 1
    assert record.privacy.epsilon() is not None
    (folder / "ledger" / f"{second}.json").unlink()
    notes.clear()
    run(folder, notes)
    assert notes[0].startswith("2 private cells have no ledger file")


@pytest.mark.parametrize("everything", [False, True], ids=["one cell", "all cells"])
def test_a_cell_without_its_ledger_is_not_begun_again(folder: Path, everything: bool) -> None:
    keys = private(folder)
    for gone in keys if everything else keys[1:]:
        (folder / "ledger" / f"{gone}.json").unlink()
        (folder / "cells" / f"{gone}.json").unlink()
    if everything:
        shutil.rmtree(folder / "cells")
    before = [(folder / "ledger" / f"{key}.json").read_text() for key in private(folder)]
    for _ in range(2):
        with pytest.raises(StoreError, match=r"\.json is missing, and its cell was begun before.*restore it") as said:
            run(folder, [])
        assert "\n" not in str(said.value)
    assert [(folder / "ledger" / f"{key}.json").read_text() for key in private(folder)] == before
    assert json.loads((folder / "manifest.json").read_text())["begun"] == keys


def test_a_cell_whose_ledger_is_there_is_begun_again_and_counted(folder: Path) -> None:
    gone, _ = private(folder)
    (folder / "cells" / f"{gone}.json").unlink()
    again = run(folder, [])
    record = next(record for record in again.records if record.cell == gone)
    assert record.privacy is not None
    assert record.privacy.attempts == 2


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def one_attempt_less(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attempts": []}))


def of_another_cell(path: Path) -> None:
    path.write_bytes(next(other for other in path.parent.iterdir() if other != path).read_bytes())


def of_other_types(path: Path) -> None:
    path.write_text(json.dumps({"cell": path.stem, "attempts": [{"versions": "1"}]}))


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [cut, one_attempt_less, of_another_cell, of_other_types, nested, pipe])
def test_sweep_and_report_name_a_damaged_ledger(folder: Path, damage: Callable[[Path], None]) -> None:
    path = folder / "ledger" / f"{private(folder)[0]}.json"
    damage(path)
    notes: list[str] = []
    again = run(folder, notes)
    assert again.reused == 4
    assert notes == read_results(folder).notes
    (note,) = notes
    assert note.startswith(f"{path} {'cannot be read' if damage is pipe else 'is damaged'} (")
    assert note.endswith("and no more is known.")
    (folder / "cells" / path.name).unlink()
    with pytest.raises(StoreError, match=r"so what was released before cannot be counted; restore it"):
        run(folder, [])


def test_a_ledger_from_before_checksums_is_read(folder: Path) -> None:
    path = folder / "ledger" / f"{private(folder)[0]}.json"
    document = json.loads(path.read_text())
    assert len(document.pop("checksum")) == 64
    path.write_text(json.dumps(document))
    assert read_results(folder).notes == []


def test_without_a_manifest_the_ledgers_say_what_was_begun(folder: Path) -> None:
    """A cell without its ledger is not begun again where anything tells that it was begun."""
    (folder / "manifest.json").write_text("{")
    keys = private(folder)
    (folder / "cells" / f"{keys[0]}.json").unlink()
    notes: list[str] = []
    again = run(folder, notes)
    record = next(record for record in again.records if record.cell == keys[0])
    assert record.privacy is not None
    assert record.privacy.attempts == 2
    assert "whether private cells were begun that left neither cell nor ledger, is not known" in notes[0]
    assert json.loads((folder / "manifest.json").read_text())["begun"] == keys


def test_a_folder_from_before_the_manifest_knew_speaks_by_its_cells(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["begun"], manifest["checksum"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(folder / "ledger")
    (note,) = read_results(folder).notes
    assert note.startswith("2 private cells have no ledger file")
