"""Blocks that do not fit into memory: for real, in a process that may have less of it, and by what is estimated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from small_sweeps import TINY, Ear, numbers

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord, TrainerChoice
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running import cutting
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep
from autoflip_secure.scenarios.store.ledgers import attempts_at
from autoflip_secure.scenarios.store.store import read_record

WIDE = """
name: wide
clients: 40
cohort: 40
rounds: 1
training: {epochs: 1, batch_size: 16}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [2000]}
algorithm: fedavg
seeds: {first: 0, count: 4}
"""
LESS = """
import resource
from pathlib import Path
from autoflip_secure.__main__ import main
from autoflip_secure.scenarios.running import sweep
there = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (there + %d * 2**20,) * 2)
main()
"""
ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
)
CUDA = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 139.00 GiB of which 1 is free."


def records(folder: Path) -> list[RunRecord]:
    return [read_record(path) for path in sorted((folder / "cells").glob("*.json"))]


def small(*overrides: str) -> Plan:
    one = ["seeds={first: 0, count: 6}", "sweep={product: {algorithm: [fedavg]}}"]
    return plan(resolve(Document.parse(TINY, "tiny.yaml"), [*one, *overrides]))


def run(work: Plan, folder: Path, ear: Ear | None = None, workers: int = 1) -> SweepResult:
    return run_sweep(work, folder, workers, (ear or Ear()).listener())


def private(noise: str) -> Plan:
    said = f"privacy={{kind: sample_level, noise_multiplier: 1.0, clip: 1.0, noise_source: {noise}}}"
    return small(said, "training.batch_size=10")


@pytest.mark.slow
def test_a_block_that_does_not_fit_is_halved_and_its_records_are_the_same_to_the_bit(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(WIDE)
    arguments = ("sweep", "wide.yaml", "--workers", "1", "--no-report", "--out")
    whole = forked.run(*arguments, "whole", cwd=tmp_path)
    short = forked.run(*arguments, "short", cwd=tmp_path, code=LESS % 270)  # four cells take 330 MiB, two 200
    assert (whole.returncode, short.returncode) == (0, 0), whole.stderr + short.stderr
    assert "memory ran out" not in whole.stderr
    assert "block 1 (4 cells of digits, mlp): memory ran out (" in short.stderr
    expected, found = records(tmp_path / "whole"), records(tmp_path / "short")
    assert numbers(found) == numbers(expected)
    assert len(found) == 4
    assert {record.trainer.together for record in expected} == {None}
    assert {record.trainer.together for record in found} <= {2, 1}
    again = forked.run(*arguments, "short", cwd=tmp_path)
    assert "4 cells: 0 run, 4 from before" in again.stdout


def test_one_cell_that_does_not_fit_ends_in_a_sentence_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text(
        f"{WIDE}sweep: {{product: {{model: [{{kind: mlp, hidden: [8]}}, {{kind: mlp, hidden: [4000]}}]}}}}\n"
    )
    arguments = ("sweep", "wide.yaml", "--workers", "1", "--no-report", "--out", "out", "--set", "seeds=[1]")
    done = forked.run(*arguments, cwd=tmp_path, code=LESS % 80)
    assert done.returncode == 2, done.stderr
    said = " ".join(done.stderr.split())
    assert "error: block 2 (1 cell of digits, mlp): one cell alone needs more memory than there is (" in said
    assert "MiB more were asked for); take a smaller model, fewer clients in a round (cohort)" in said
    assert "Traceback" not in said
    assert len(records(tmp_path / "out")) == 1


class RunsOut:
    """``run_block``, but memory runs out in the first try of more than ``most`` cells, once training has begun."""

    def __init__(self, most: int, bits: str | None, ledgers: Path | None = None) -> None:
        self.most, self.bits, self.tries, self.ledgers = most, bits, list[int](), ledgers
        self.counted: list[int] = []

    def __call__(self, block: Any, *others: Any) -> list[RunRecord]:
        self.tries.append(len(block.cells))
        if self.ledgers is not None:
            self.counted.append(max(len(attempts_at(self.ledgers / f"{key}.json")) for key in block.keys))
        *others, started = others

        def told(how: TrainerChoice) -> None:
            started(how.model_copy(update={"bits": self.bits}))
            if len(block.cells) > self.most:
                raise torch.OutOfMemoryError(CUDA)

        return run_block(block, *others, told)


@pytest.mark.parametrize(
    ("noise", "bits", "conditions"), [("seed", "stack", 1), ("seed", "block", 2), ("system", "stack", 2)]
)
def test_a_private_block_that_is_tried_again_is_counted_before_it_is(
    noise: str, bits: str, conditions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = private(noise)
    once = run(work, tmp_path / "once").records
    trial = RunsOut(3, bits, tmp_path / "again" / "ledger")
    monkeypatch.setattr(cutting, "run_block", trial)
    again = run(work, tmp_path / "again").records
    assert trial.tries == [6, 3, 3]
    assert trial.counted == [1, 2, 2]
    for record, before in zip(again, once, strict=True):
        tried = attempts_at(tmp_path / "again" / "ledger" / f"{record.cell}.json")
        assert len(tried) == 2
        assert sum("planned" in attempt for attempt in tried) == conditions
        assert record.privacy is not None
        assert before.privacy is not None
        assert record.privacy.attempts == 2
        epsilons = [
            max(g.over_rounds[-1][1] for g in one.privacy.guarantees) for one in (record, before) if one.privacy
        ]
        assert (epsilons[0] > epsilons[1]) == (conditions == 2)
        same = numbers([record]) == numbers([before])
        assert same == (conditions == 1)  # the noise of one attempt never meets other numbers


@pytest.mark.slow  # the short form is the first test
def test_where_memory_runs_out_again_and_again_parts_are_halved_until_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, ear, trial = run(small(), tmp_path / "whole"), Ear(), RunsOut(1, "stack")
    monkeypatch.setattr(cutting, "run_block", trial)
    found = run(small(), tmp_path / "parts", ear)
    assert trial.tries == [6, 3, 3, 2, 1, 2, 1, 1, 1, 1, 1]
    assert numbers(found.records) == numbers(whole.records)
    assert {record.trainer.together for record in found.records} == {1}
    assert ear.notes[0] == (
        "block 1 (6 cells of digits, mlp): memory ran out (20.00 MiB more were asked for on the GPU); it runs in parts "
        "of 3 instead"
    )
    done = [cells for cells, _ in ear.progress]
    assert done[-1] == 6
    assert [total for _, total in ear.progress] == [6] * len(done)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_blocks_are_cut_beforehand_to_what_the_device_has(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, ear = small("sweep={product: {rounds: [1, 2]}}"), Ear()
    whole = run(work, tmp_path / "whole")
    fixed, each = cutting.needed(work.blocks[0], CellBuilder())
    there = int((fixed + 2.5 * each) * workers / 0.6)
    monkeypatch.setattr(cutting, "memory_of", lambda device: there)
    found = run(work, tmp_path / "parts", ear, workers)
    assert numbers(found.records) == numbers(whole.records)
    assert {record.trainer.together for record in found.records} == {2}
    assert (
        f"2 blocks run in 6 parts: more at once is estimated to need more memory than {workers} worker" in ear.notes[0]
    )
    (path, *others) = sorted((tmp_path / "parts" / "cells").glob("*.json"))
    path.unlink()
    again = run(work, tmp_path / "parts")
    assert (again.reused, numbers(again.records)) == (len(others), numbers(whole.records))


def test_the_noise_of_a_part_is_not_that_of_the_whole_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(private("seed"), tmp_path / "whole").records
    fixed, each = cutting.needed(private("seed").blocks[0], CellBuilder())
    monkeypatch.setattr(cutting, "memory_of", lambda device: int((fixed + 3 * each) / 0.6) + 1)
    parts = run(private("seed"), tmp_path / "parts").records
    assert [r.privacy.attempts for r in parts if r.privacy] == [1] * 6
    for part, block in zip(parts, whole, strict=True):
        assert part.privacy == block.privacy
        assert part.final_loss != block.final_loss
    (tmp_path / "parts" / "cells" / f"{parts[0].cell}.json").unlink()
    again = run(private("seed"), tmp_path / "parts").records
    assert numbers(again) == numbers(parts)
    assert again[0].privacy is not None
    assert again[0].privacy.guarantees == whole[0].privacy.guarantees  # type: ignore[union-attr]


def test_who_listens_hears_every_round_once_where_a_block_begins_anew(tmp_path: Path) -> None:
    work, told = small("seeds=[1]", "sweep={product: {rounds: [2]}}"), list[tuple[str, int]]()
    (record,) = run(work, tmp_path).records
    ear = Listener(lambda *_: None, print, rounds=lambda new: told.extend((cell.key, r.round) for cell, r in new))
    hear = ear.hearing(work.cells, {})
    assert hear is not None
    first, second = ((record.cell, entry) for entry in record.rounds)
    for entries in ([first], [first], [first, second], [second]):
        hear(entries)
    assert told == [(record.cell, 1), (record.cell, 2)]


FORGETFUL = """
import multiprocessing
import os
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        if multiprocessing.parent_process() is not None and len(x) == 64 and first():
            raise MemoryError
        return super().forward(x)

def first():
    try:
        os.unlink("once")
    except FileNotFoundError:  # another worker's, or none is left
        return False
    return True

def make(num_classes):
    return Net(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def test_a_worker_tells_that_memory_ran_out(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FORGETFUL)
    (tmp_path / "tiny.yaml").write_text(
        TINY.replace("{kind: mlp, hidden: [8]}", '"net:make"').replace("[fedavg, autoflip]", "[fedavg]")
    )
    arguments = ("sweep", "tiny.yaml", "--workers", "2", "--no-report", "--out")
    whole = forked.run(*arguments, "whole", cwd=tmp_path)
    (tmp_path / "once").touch()
    short = forked.run(*arguments, "short", cwd=tmp_path)
    assert (whole.returncode, short.returncode) == (0, 0), whole.stderr + short.stderr
    assert not (tmp_path / "once").exists()
    assert "memory ran out (MemoryError); it runs in parts of 2 instead" in " ".join(short.stderr.split())
    found = records(tmp_path / "short")
    assert numbers(found) == numbers(records(tmp_path / "whole"))
    assert sorted(record.trainer.together or 0 for record in found) == [0, 0, 0, 1, 2, 2]


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(cutting, "run_block", fails)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        cutting.attempt(small().blocks[0])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(CUDA), RuntimeError(ALLOCATOR), MemoryError()])
def test_memory_is_told_from_other_errors_and_one_cell_is_not_halved(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cutting, "run_block", fails)
    block = small("seeds=[1]").blocks[0]
    found = cutting.attempt(block)
    assert isinstance(found, cutting.TooLarge)
    assert not found.same
    with pytest.raises(InputError, match="one cell alone needs more memory than there is"):
        cutting.halves(block, found)
