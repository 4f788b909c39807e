"""Shards of a sweep, and folders put together: the union is one run to the bit; nothing is lost or counted twice."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_sweeps import TINY, Ear, numbers

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import BLOCK_CELLS, Plan, Shard, plan
from autoflip_secure.scenarios.running.merging import Merged, merge
from autoflip_secure.scenarios.running.more_seeds import planned, run_more_seeds
from autoflip_secure.scenarios.running.sweep import SweepResult, run_sweep
from autoflip_secure.scenarios.store.ledgers import attempts_at
from autoflip_secure.scenarios.store.manifest import MORE_SEEDS
from autoflip_secure.scenarios.store.reading import read_record

THREE = TINY.replace("rounds: [2, 3]", "rounds: [1, 2, 3]")  # blocks: cells of one block have equal rounds
PRIVATE = THREE.replace("batch_size: 64", "batch_size: 20").replace(
    "sweep:", "privacy: {kind: sample_level, noise_multiplier: 1.0, clip: 1.0}\nsweep:"
)
TUNED = THREE.replace("sweep:", "tune: {axes: {training.lr: [0.05, 0.2]}, seeds: [0]}\nsweep:")


def small(text: str = THREE, *overrides: str, block_cells: int = BLOCK_CELLS) -> Plan:
    return plan(resolve(Document.parse(text, "tiny.yaml"), overrides), block_cells)


def part(work: Plan, folder: Path, shard: str | None = None) -> SweepResult:
    return run_sweep(work, folder, 1, Ear().listener(), shard=None if shard is None else Shard.parse(shard))


def merged(*folders: Path, into: Path, said: list[str] | None = None) -> Merged:
    return merge(folders, into, ([] if said is None else said).append)


def said_of(*folders: Path, into: Path) -> str:
    with pytest.raises(StoreError) as error:
        merged(*folders, into=into)
    return str(error.value)


@given(st.integers(1, 40), st.integers(1, 12))
def test_shards_are_disjoint_and_together_all(cells: int, parts: int) -> None:
    work = small(TINY, f"seeds={{first: 0, count: {cells}}}", block_cells=3)
    shards = [work.part(Shard(number, parts)) for number in range(1, parts + 1)]
    assert sorted(block.index for shard in shards for block in shard) == [block.index for block in work.blocks]
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert work.part(None) == [*work.blocks]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3", " 1/2", "1" * 9 + "/2", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="should be K/N, as in 3/16"):
        Shard.parse(text)


def test_the_union_is_one_run_to_the_bit(tmp_path: Path) -> None:
    work = small()
    whole = part(work, tmp_path / "whole")
    shards = [tmp_path / str(number) for number in (1, 2, 3)]
    found = [part(work, folder, f"{folder.name}/3") for folder in shards]
    assert sum(len(one.records) for one in found) == len(work.keys)
    result = merged(*shards, into=tmp_path / "all")
    assert numbers(result.records) == numbers(whole.records)
    assert (result.new, result.missing) == (len(work.keys), 0)
    again = part(work, tmp_path / "all")
    assert again.reused == len(work.keys)
    manifests = [json.loads((tmp_path / one / "manifest.json").read_text()) for one in ("all", "whole")]
    assert manifests[0] == manifests[1]


def test_what_is_missing_runs_in_the_merged_folder_and_late_shards_are_added(tmp_path: Path) -> None:
    work = small()
    for number in (1, 2):
        part(work, tmp_path / str(number), f"{number}/3")
    first = merged(tmp_path / "1", into=tmp_path / "all")
    second = merged(tmp_path / "2", tmp_path / "1", tmp_path / "all", into=tmp_path / "all")
    assert first.new > 0
    assert second.new == len(second.records) - len(first.records) > 0
    assert second.missing > 0
    assert numbers(part(work, tmp_path / "all").records) == numbers(part(work, tmp_path / "whole").records)


def test_folders_that_are_read_stay_as_they_are(tmp_path: Path) -> None:
    part(small(), tmp_path / "1", "1/2")
    before = {path: path.read_bytes() for path in (tmp_path / "1").rglob("*") if path.is_file()}
    merged(tmp_path / "1", into=tmp_path / "all")
    assert {path: path.read_bytes() for path in (tmp_path / "1").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_each_shard_tunes_and_chooses_alike(tmp_path: Path) -> None:
    work = small(TUNED)
    whole = part(work, tmp_path / "whole")
    for number in (1, 2):
        part(work, tmp_path / str(number), f"{number}/2")
    result = merged(tmp_path / "1", tmp_path / "2", into=tmp_path / "all")
    assert numbers(result.records) == numbers(whole.records)
    again = part(work, tmp_path / "all")
    assert again.tuning is not None
    assert (again.reused, again.tuning.reused) == (len(work.keys), len(again.tuning.records))
    for cell in (tmp_path / "2" / "tuning" / "cells").glob("*.json"):
        shutil.copy(cell, tmp_path / cell.name)
        (tmp_path / "1" / "tuning" / "cells" / cell.name).unlink()
        cell.unlink()
        break
    said = said_of(tmp_path / "1", tmp_path / "2", into=tmp_path / "none")
    assert "1 cell of the tuning stage in none of the folders; run one of the shards again" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_shard_run_twice_is_counted_as_what_it_released(tmp_path: Path) -> None:
    """Under the same conditions it releases the same: two attempts, one release. A copy of a folder is no attempt."""
    work = small(PRIVATE)
    once = part(work, tmp_path / "whole")
    for name in ("1", "again"):
        part(work, tmp_path / name, "1/2")
    part(work, tmp_path / "2", "2/2")
    shutil.copytree(tmp_path / "1", tmp_path / "copy")
    copied = merged(tmp_path / "1", tmp_path / "copy", tmp_path / "2", into=tmp_path / "all")
    assert numbers(copied.records) == numbers(once.records)
    ledgers = list((tmp_path / "again" / "ledger").glob("*.json"))
    for path in ledgers:  # begun at another second
        text = json.loads(path.read_text())
        text["attempts"][0]["began"] = "2000-01-01T00:00:00+00:00"
        text.pop("checksum", None)
        path.write_text(json.dumps(text))
    result = merged(tmp_path / "again", into=tmp_path / "all")
    tried = {record.cell: record.privacy.attempts for record in result.records if record.privacy is not None}
    twice = {path.stem for path in ledgers}
    assert twice
    assert tried == {key: 2 if key in twice else 1 for key in work.keys}
    for record, before in zip(result.records, once.records, strict=True):
        assert record.privacy is not None
        assert before.privacy is not None
        assert record.privacy.epsilon() == before.privacy.epsilon()
        assert len(attempts_at(tmp_path / "all" / "ledger" / f"{record.cell}.json")) == record.privacy.attempts


def test_another_release_of_a_cell_costs_more(tmp_path: Path) -> None:
    """Begun elsewhere under other conditions, without an end: its ledger alone comes along, and is paid for."""
    work = small(PRIVATE)
    part(work, tmp_path / "1", "1/1")
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    path = next((tmp_path / "2" / "ledger").glob("*.json"))
    text = json.loads(path.read_text())
    text["attempts"][0]["versions"]["torch"] = "2.4.0"
    text.pop("checksum", None)
    path.write_text(json.dumps(text))
    (tmp_path / "2" / "cells" / path.name).unlink()
    before = read_record(tmp_path / "1" / "cells" / path.name)
    result = merged(tmp_path / "1", tmp_path / "2", into=tmp_path / "all")
    record = next(one for one in result.records if one.cell == path.stem)
    assert record.privacy is not None
    assert before.privacy is not None
    assert record.privacy.attempts == 2
    assert (record.privacy.epsilon() or 0) > (before.privacy.epsilon() or 0) > 0
    assert read_record(tmp_path / "all" / "cells" / path.name) == record


def test_what_differs_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    part(small(), tmp_path / "1", "1/2")
    into = tmp_path / "none"
    part(small(THREE, "training.lr=0.3"), tmp_path / "other", "1/2")
    said = said_of(tmp_path / "1", tmp_path / "other", into=into)
    assert f"merge folders of one scenario; {tmp_path / 'other'} is of another one" in said
    assert "training.lr: " in said
    shutil.copytree(tmp_path / "1", tmp_path / "data")
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    manifest["inputs"] = dict.fromkeys(manifest["inputs"], "0" * 64)
    manifest.pop("checksum", None)
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    assert "was made from another data" in said_of(tmp_path / "1", tmp_path / "data", into=into)
    shutil.copytree(tmp_path / "1", tmp_path / "numbers")
    path = next((tmp_path / "numbers" / "cells").glob("*.json"))
    text = json.loads(path.read_text())
    text["rounds"][0]["test_accuracy"] += 0.125
    text.pop("checksum", None)
    path.write_text(json.dumps(text))
    said = said_of(tmp_path / "1", tmp_path / "numbers", into=into)
    assert f"its cell {path.stem} has other numbers than in {tmp_path / '1'}" in said
    path.write_text("{")
    assert "is damaged" in (said := said_of(tmp_path / "1", tmp_path / "numbers", into=into))
    assert f"--out {tmp_path / 'numbers'} runs the cell again" in said
    (tmp_path / "kept with --out").write_text("mine")
    said = said_of(tmp_path / "1", into=tmp_path / "kept with --out")
    assert said.startswith(f"{tmp_path / 'kept with --out'}: cannot be written")
    assert said.endswith("give another folder with --into")
    assert "is the only folder" in said_of(tmp_path / "1", into=tmp_path / "1")
    assert "no such folder" in said_of(tmp_path / "nowhere", into=into)
    assert not into.exists()


def test_a_ledger_that_is_gone_is_refused(tmp_path: Path) -> None:
    part(small(PRIVATE), tmp_path / "1", "1/2")
    next((tmp_path / "1" / "ledger").glob("*.json")).unlink()
    assert "is missing, and its cell was begun before" in said_of(tmp_path / "1", into=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    manifest = json.loads((tmp_path / "1" / "manifest.json").read_text())
    manifest.pop("checksum")
    (tmp_path / "1" / "manifest.json").write_text(json.dumps({**manifest, "begun": []}))
    said = said_of(tmp_path / "1", into=tmp_path / "none")  # its cell says that it was begun, if nothing else does
    assert "is missing, and its cell was begun before" in said


def test_a_folder_that_lost_its_scenario_is_not_written_over(tmp_path: Path) -> None:
    """Its ledgers say what was released; they were replaced by those of the folders that were merged into it."""
    for name in ("1", "2"):
        part(small(PRIVATE), tmp_path / name, "1/2")
    (tmp_path / "2" / "scenario.yaml").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "2").rglob("*") if path.is_file()}
    assert "it has no scenario.yaml" in said_of(tmp_path / "1", into=tmp_path / "2")
    assert {path: path.read_bytes() for path in (tmp_path / "2").rglob("*") if path.is_file()} == before


def test_seeds_that_a_gate_ran_besides_come_along(tmp_path: Path) -> None:
    """They released something about the same data."""
    work = small(PRIVATE, "sweep={product: {rounds: [1]}}")
    part(work, tmp_path / "1")
    more = planned(tmp_path / "1", [7])
    (tmp_path / "1" / MORE_SEEDS).write_text("mine")
    with pytest.raises(StoreError, match=r"cannot be written .*; gate a copy of the sweep in another folder$"):
        run_more_seeds(tmp_path / "1", more, 1, Ear().listener())
    (tmp_path / "1" / MORE_SEEDS).unlink()
    run_more_seeds(tmp_path / "1", more, 1, Ear().listener())
    with pytest.raises(StoreError, match="holds other seeds than 7, 9, of an earlier --more-seeds; run the"):
        run_more_seeds(tmp_path / "1", planned(tmp_path / "1", [7, 9]), 1, Ear().listener())
    merged(tmp_path / "1", into=tmp_path / "all")
    for key in more.keys:
        ledgers = [attempts_at(tmp_path / name / MORE_SEEDS / "ledger" / f"{key}.json") for name in ("1", "all")]
        assert ledgers[0] == ledgers[1] != []
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    shutil.rmtree(tmp_path / "2" / MORE_SEEDS)
    run_more_seeds(tmp_path / "2", planned(tmp_path / "2", [8]), 1, Ear().listener())
    said = said_of(tmp_path / "1", tmp_path / "2", into=tmp_path / "none")
    assert f"{tmp_path / '2' / MORE_SEEDS} is of another one" in said
    assert not (tmp_path / "none").exists()


def test_models_come_from_whoever_has_them_whole(tmp_path: Path) -> None:
    work = small(TINY, "sweep={product: {rounds: [1]}}")
    part(work, tmp_path / "bare")
    run_sweep(work, tmp_path / "kept", 1, Ear().listener(), keep_models=True)
    name = Path("models") / f"{work.keys[0]}.safetensors"
    merged(tmp_path / "bare", tmp_path / "kept", into=tmp_path / "all")
    whole = (tmp_path / "kept" / name).read_bytes()
    assert (tmp_path / "all" / name).read_bytes() == whole
    (tmp_path / "all" / name).write_bytes(whole[:-9])  # as an interrupted copy left it
    merged(tmp_path / "kept", into=tmp_path / "all")
    assert (tmp_path / "all" / name).read_bytes() == whole
