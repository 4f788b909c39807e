"""Numbers of a processor and of a GPU do not meet in one folder unnamed: records that say `cuda` stand for a GPU."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_sweeps import TINY, Ear, numbers
from small_sweeps import run as run_tiny

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.checksums import sealed
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.comparison.matching import match
from autoflip_secure.reports.gate.baseline import versions as versions_of
from autoflip_secure.scenarios.boards import verifying
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, Shard, plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.executors import local
from autoflip_secure.scenarios.running.executors.far import Expected
from autoflip_secure.scenarios.running.merging import merge
from autoflip_secure.scenarios.running.sweep import run_sweep
from autoflip_secure.scenarios.store.store import read_record

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="`auto` is the GPU here; written for a processor")
AUTO = ("device=auto", "sweep={product: {algorithm: [fedavg], rounds: [1, 2, 3]}}", "seeds=[1, 2]")  # three blocks
_GPU = {"gpu": "NVIDIA H200, CUDA 12.8, cuDNN 91002"}


def work(*more: str) -> Plan:
    return plan(resolve(Document.parse(TINY, "tiny.yaml"), [*AUTO, *more]))


def on_gpu(record: RunRecord) -> RunRecord:
    trainer = record.trainer.model_copy(update={"device": "cuda"})
    return record.model_copy(update={"trainer": trainer, "versions": {**record.versions, **_GPU}})


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cells").glob("*.json"))


def rewrite(path: Path) -> None:
    """As if the cell had been computed on a GPU."""
    path.write_bytes(sealed(on_gpu(read_record(path)).model_dump_json()).encode())


def halfway(folder: Path, *more: str) -> None:
    """A folder with the first of three blocks, of a GPU."""
    run_sweep(work(*more), folder, 1, Ear().listener(), shard=Shard(1, 3))
    for path in files(folder):
        rewrite(path)


def test_a_sweep_does_not_continue_on_another_kind_of_device(tmp_path: Path) -> None:
    halfway(tmp_path)
    before = {path: path.read_bytes() for path in files(tmp_path)}
    with pytest.raises(StoreError) as error:
        run_tiny(work(), tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: its cells were computed on a GPU (cuda), and this machine would compute on a processor (cpu); "
        "`device: auto` names neither, and their last digits differ; continue on a machine like the one before, or run "
        "the sweep in another folder, with `device: cpu` or `device: cuda`, which are part of a cell's name"
    )
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_a_finished_sweep_of_a_gpu_is_read_on_a_processor(tmp_path: Path) -> None:
    run_tiny(work(), tmp_path)
    for path in files(tmp_path):
        rewrite(path)
    again = run_tiny(work(), tmp_path)
    assert again.reused == len(again.records) == len(work().keys)
    assert {record.trainer.device for record in again.records} == {"cuda"}


def test_on_one_kind_of_device_it_continues_and_a_named_device_is_another_cell(tmp_path: Path) -> None:
    run_sweep(work(), tmp_path / "auto", 1, Ear().listener(), shard=Shard(1, 3))
    there = run_tiny(work(), tmp_path / "auto")
    assert there.reused == 2
    named = run_tiny(work("device=cpu"), tmp_path / "cpu")
    assert not {r.cell for r in there.records} & {r.cell for r in named.records}
    assert [r.final_loss for r in there.records] == [r.final_loss for r in named.records]


def test_folders_of_two_kinds_are_not_merged(tmp_path: Path) -> None:
    halfway(tmp_path / "1")
    run_sweep(work(), tmp_path / "2", 1, Ear().listener(), shard=Shard(2, 3))
    with pytest.raises(StoreError) as error:
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all", print)
    assert f"{tmp_path / '2'}: its cell " in str(error.value)
    assert f"was computed on a processor (cpu), and those in {tmp_path / '1'} on a GPU (cuda); " in str(error.value)
    assert not (tmp_path / "all").exists()


def test_folders_that_name_their_device_are_merged(tmp_path: Path) -> None:
    halfway(tmp_path / "1", "device=cpu")  # rewritten all the same: it is the name that counts
    run_sweep(work("device=cpu"), tmp_path / "2", 1, Ear().listener(), shard=Shard(2, 3))
    found = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all", print)
    assert {record.trainer.device for record in found.records} == {"cpu", "cuda"}


def test_records_that_come_from_elsewhere_are_of_the_same_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, sent = local.attempt, list[Any]()

    def gpu_after_the_first(*args: Any, **kwargs: Any) -> list[RunRecord]:
        sent.append(args[0])
        found = here(*args, **kwargs)
        return found if len(sent) == 1 else [on_gpu(record) for record in found]

    monkeypatch.setattr(local, "attempt", gpu_after_the_first)
    with pytest.raises(StoreError, match=r"was computed on a GPU \(cuda\), and others of it on a processor \(cpu\)"):
        run_tiny(work(), tmp_path)
    assert len(files(tmp_path)) == 2  # of the first block


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("auto", "`device: auto` is cpu on a node and cuda where the sweep was started, whose numbers do not mix; set"),
        ("cuda", "device = 'cuda', and torch finds no GPU on a node; give it one, set device: cpu or leave out --it"),
    ],
)
def test_a_block_that_is_sent_away_finds_the_device_that_it_was_sent_for(device: str, said: str) -> None:
    block, builder = work(f"device={device}").blocks[0], CellBuilder()
    with pytest.raises(InputError, match=re.escape(said)):
        replace(Expected.of(block, {}), device="cuda").check(block, builder, "a node", "--it")
    Expected.of(work().blocks[0], {}).check(work().blocks[0], builder, "a node", "--it")


def test_compare_and_gate_name_the_gpu(tmp_path: Path) -> None:
    records = run_tiny(work(), tmp_path).records
    moved = [on_gpu(record) for record in records]
    assert numbers(records) != numbers(moved)  # the device is among what is compared
    (found,) = match(records, moved).versions
    assert (found.path, found.first, found.second) == ("gpu", "(not there)", _GPU["gpu"])
    assert versions_of(moved)["gpu"] == _GPU["gpu"]
    assert "gpu" not in versions_of(records)


def test_another_gpu_is_another_kind_of_processor_to_who_verifies() -> None:
    near = verifying.Again(0, None, 1, 0.9, 0.91, equal=False, proven=True)
    for name, verdict in (("gpu", "verified"), ("kernels", "verified"), ("torch", "cannot tell")):
        assert (
            verifying.Verification([near], [], {name: ("a", "b")}, alone=True, alone_here=True, unmet=[]).verdict
            == verdict
        )
