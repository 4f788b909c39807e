"""Models that a sweep keeps: what is in the files, that no number changes, what damage and other runs do to them."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_models import files, run, tiny
from safetensors import safe_open
from sizes import every
from torch import nn

from autoflip_secure.errors import StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.exporting import reload_model
from autoflip_secure.scenarios.store.checkpoints import (
    cells_without_models,
    models_file,
    read_metadata,
)
from autoflip_secure.scenarios.store.store import Store


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunRecord]]:
    """A finished sweep with models; never change it."""
    folder = tmp_path_factory.mktemp("kept") / "tiny"
    return folder, run(tiny(), folder)[0].records


@pytest.fixture
def folder(finished: tuple[Path, list[RunRecord]], tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished[0], tmp_path / "tiny"))


def by_hand(path: Path, which: str) -> float:
    """Accuracy of a kept model by torch alone: the network written out, the test images straight from the data set."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    names = {"1.weight": "dense1.weight", "1.bias": "dense1.bias", "3.weight": "output.weight", "3.bias": "output.bias"}
    with safe_open(path, "pt") as file:
        net.load_state_dict({own: file.get_tensor(f"{which}/weights/{name}") for own, name in names.items()})
    data = tiny().cells[0].settings.data.load()
    with torch.no_grad():
        right = net(data.x_test).argmax(1) == data.y_test
    return int(right.sum()) / len(right)


def test_final_and_best_model_have_the_accuracy_of_the_record(finished: tuple[Path, list[RunRecord]]) -> None:
    folder, records = finished
    assert len(files(folder)) == len(records) == 4
    for record in records:
        path = models_file(folder, record.cell)
        found = read_metadata(path, record.cell)["models"]
        course = [entry.test_accuracy for entry in record.rounds]
        assert by_hand(path, "final") == record.final_accuracy == found["final"]["accuracy"]
        assert by_hand(path, "best") == max(x for x in course if x is not None) == found["best"]["accuracy"]
        assert found["best"]["round"] == 1 + course.index(found["best"]["accuracy"]), "of several, the first"
        assert by_hand(path, "initial") == found["initial"]["accuracy"]
    assert any(record.rounds[-1].density < 1 for record in records), "something was pruned"


def test_masks_are_those_of_the_run_and_weights_are_zero_where_they_are_false(
    finished: tuple[Path, list[RunRecord]],
) -> None:
    folder, records = finished
    for record in records:
        names = ("dense1.weight", "dense1.bias", "output.weight", "output.bias")
        with safe_open(models_file(folder, record.cell), "pt") as file:
            for which in ("best", "final"):
                for name in names:
                    dead = ~file.get_tensor(f"{which}/mask/{name}")
                    assert not file.get_tensor(f"{which}/weights/{name}")[dead].any()
            whole = torch.cat([file.get_tensor(f"final/mask/{name}").flatten() for name in names])
        assert hashlib.sha256(whole.numpy().tobytes()).hexdigest()[:16] == record.digests["mask"]


def test_initial_weights_are_those_that_the_seed_draws(finished: tuple[Path, list[RunRecord]]) -> None:
    for spec in tiny().cells:
        drawn = CellBuilder().module(spec.settings, spec.seed).state_dict()
        with safe_open(models_file(finished[0], spec.key), "pt") as file:
            assert all(torch.equal(file.get_tensor(f"initial/weights/{name}"), drawn[name]) for name in drawn)
            alive = file.get_tensor("initial/mask/dense1.weight")
        assert bool(alive.all()) == (spec.settings.algorithm.name == "fedavg"), "the exploration has pruned already"


def test_metadata_say_what_the_models_are(finished: tuple[Path, list[RunRecord]]) -> None:
    folder, records = finished
    found = read_metadata(models_file(folder, records[0].cell), records[0].cell)
    assert found["cell"] == records[0].cell
    assert found["seed"] == records[0].seed
    assert found["model"] == {"kind": "mlp", "hidden": [12]}
    assert found["shapes"]["dense1.weight"] == [12, 64]
    assert found["models"]["final"]["round"] == 4
    assert "optimistic" in found["best"]
    assert "nothing is proven" in found["privacy"]


def test_keeping_models_changes_no_number_and_finished_cells_are_run_again_for_them(
    finished: tuple[Path, list[RunRecord]], tmp_path: Path
) -> None:
    bare, _ = run(tiny(), tmp_path, keep=False)
    assert [r.numbers() for r in bare.records] == [r.numbers() for r in finished[1]]
    assert not files(tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    again, notes = run(tiny(), tmp_path)
    assert again.reused == 4
    assert any("4 finished cells have no models" in note for note in notes)
    assert {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()} == before, "records stay"
    assert files(tmp_path) == files(finished[0])


def test_a_run_that_ends_before_a_record_is_written_is_taken_up(
    finished: tuple[Path, list[RunRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tiny(), tmp_path)
    assert len(files(tmp_path)) == 4, "models first: a record is never without them"
    assert not list((tmp_path / "cells").iterdir())
    run(tiny(), tmp_path)
    assert files(tmp_path) == files(finished[0])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def of_another_cell(path: Path) -> None:
    shutil.copy(next(other for other in sorted(path.parent.iterdir()) if other != path), path)


def no_safetensors(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 3)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'\\"round\\": 4', b'\\"round\\": 3'))


@pytest.mark.parametrize("damage", every(2, [flipped, cut, of_another_cell, no_safetensors, edited, empty]))
def test_damage_is_named_by_export_and_mended_by_the_next_sweep(
    damage: Callable[[Path], None], finished: tuple[Path, list[RunRecord]], folder: Path
) -> None:
    record = finished[1][0]
    path = models_file(folder, record.cell)
    damage(path)
    assert path.read_bytes() != models_file(finished[0], record.cell).read_bytes()
    with pytest.raises(StoreError, match=f"{path}: is damaged .*--keep-models"):
        reload_model(folder, record, "final")
    result, notes = run(tiny(), folder)
    assert any("damaged" in note and "moved to" in note for note in notes)
    assert result.reused == 4
    assert files(folder).items() >= files(finished[0]).items()


def test_models_of_another_run_of_the_cell_are_not_its_models(
    finished: tuple[Path, list[RunRecord]], folder: Path
) -> None:
    record = finished[1][0]
    rounds = [*record.rounds[:-1], record.rounds[-1].model_copy(update={"step_norm": 1.25})]
    other = record.model_copy(update={"rounds": rounds})
    with pytest.raises(StoreError, match="another run of this cell"):
        reload_model(folder, other, "final")
    with Store(folder) as store:
        store.save(other)
        assert cells_without_models(store, {record.cell: other}) == {record.cell}
    models_file(folder, record.cell).unlink()
    _, notes = run(tiny(), folder)
    assert any(record.cell in note and "different numbers from its record" in note for note in notes)
    others = {name: content for name, content in files(finished[0]).items() if record.cell not in name}
    assert files(folder) == others, "models of other steps than those of the record are not kept"


def test_cells_that_leave_no_models_beside_others_are_said(folder: Path, tmp_path: Path) -> None:
    assert run(tiny(), folder, keep=False)[1] == [], "all is there"
    next((folder / "cells").iterdir()).unlink()
    said = [note for note in run(tiny(), folder, keep=False)[1] if "--keep-models" in note]
    assert len(said) == 1
    assert "leave none" in said[0]
    assert not [note for note in run(tiny(), tmp_path / "new", keep=False)[1] if "--keep-models" in note]
