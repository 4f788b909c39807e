"""What keeping models takes: each with the mask of its round, workers, disks, and private cells that are run again."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_models import FEW, PRIVATE, files, run, tiny

from autoflip_secure.errors import StoreError
from autoflip_secure.federation.state import ServerState
from autoflip_secure.scenarios.running import keeping
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.store import checkpoints
from autoflip_secure.scenarios.store.checkpoints import (
    WHICH,
    Checkpoints,
)


def test_each_model_comes_with_the_mask_of_its_round() -> None:
    spec = tiny(*FEW).cells[0]
    cell = CellBuilder().cell(spec, spec, torch.device("cpu"))
    draws = torch.Generator().manual_seed(0)
    masks = [torch.rand(cell.problem.layout.size, generator=draws) < share for share in (0.9, 0.7, 0.5, 0.3)]
    watcher = Checkpoints()
    for number, (mask, accuracy) in enumerate(zip(masks, (None, 0.2, 0.4, 0.4), strict=True)):
        watcher.model(cell, ServerState(number, mask.float(), mask, None, None, None), accuracy)
    kept = watcher.of(cell)
    assert [(which, kept[which].round) for which in WHICH] == [("initial", 0), ("best", 2), ("final", 3)]
    for which in WHICH:
        assert torch.equal(kept[which].mask, masks[kept[which].round])
    assert torch.equal(kept["best"].weights, masks[2].float())
    assert torch.equal(kept["initial"].weights, cell.problem.initial)


@pytest.mark.slow  # the short form: tests/commands/test_kill.py, whose workers write models
def test_workers_write_the_same_bytes(tmp_path: Path) -> None:
    work = tiny("rounds=2", "sweep={product: {rounds: [1, 2]}}")
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    run(work, alone)
    run(work, beside, workers=2)
    assert len(files(alone)) == 4
    assert files(alone) == files(beside)


def test_a_full_disk_is_said_and_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_whole", full)
    with pytest.raises(StoreError, match="no space left on the disk"):
        run(tiny("seeds=[1]", "rounds=1"), tmp_path)


def test_much_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LARGE", 4 * 15 * (65 * 12 + 13 * 10))
    sizes = [note for note in run(tiny("rounds=1"), tmp_path / "four")[1] if "GiB" in note]
    assert len(sizes) == 1
    assert "4 cells" in sizes[0]
    assert not [note for note in run(tiny("rounds=1", "seeds=[1]"), tmp_path / "two")[1] if "GiB" in note]


def test_a_private_cell_is_run_again_where_that_releases_nothing_new(tmp_path: Path) -> None:
    work = tiny(*FEW, PRIVATE.replace("NOISE", "seed"))
    before = run(work, tmp_path, keep=False)[0].records[0]
    after, _ = run(work, tmp_path)
    assert len(files(tmp_path)) == 1
    assert after.records[0].numbers() == before.numbers()
    assert after.records[0].privacy is not None
    assert before.privacy is not None
    assert after.records[0].privacy.guarantees == before.privacy.guarantees


@pytest.mark.parametrize("noise", ["seed", "system"])
def test_a_private_cell_is_not_run_again_for_another_release(noise: str, tmp_path: Path) -> None:
    work = tiny(*FEW, PRIVATE.replace("NOISE", noise))
    run(work, tmp_path, keep=False)
    (ledger,) = (tmp_path / "ledger").iterdir()
    if noise == "seed":  # as if another torch had made it
        text = json.loads(ledger.read_text())
        del text["checksum"]
        text["attempts"][0]["versions"]["torch"] = "1.0"
        ledger.write_text(json.dumps(text))
    before = ledger.read_bytes()
    with pytest.raises(StoreError, match="further release of private data"):
        run(work, tmp_path)
    assert ledger.read_bytes() == before
    assert not files(tmp_path)
