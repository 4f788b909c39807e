"""A results folder: what is in it, what is taken up, and how other scenarios and other runs are told apart."""

import os
from pathlib import Path

import forked
import pytest
from small_sweeps import Ear, numbers, run, tiny

from autoflip_secure.errors import StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.store.manifest import read_manifest

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


# --------------------------------------------------------------------------------------- other scenarios, other runs


def test_changed_scenario_is_refused_with_the_difference(folder: Path) -> None:
    with pytest.raises(StoreError) as caught:
        run(tiny("cohort=3", "training.lr=0.2"), folder)
    message = str(caught.value)
    assert "cohort: 2 -> 3" in message
    assert "training.lr: (not there) -> 0.2" in message
    assert "rounds" not in message.split("What changed:")[1]
    assert "--out" in message
    assert "or remove this one" in message
    assert run(tiny(), folder).reused == 12, "a refusal changes nothing"
    (folder / "ledger").mkdir(exist_ok=True)
    (folder / "ledger" / "0123456789abcdef.json").write_text("{}")
    with pytest.raises(StoreError) as caught:
        run(tiny("cohort=3"), folder)
    assert "remove" not in str(caught.value), "nobody is to lose the count of what was released"


def test_more_seeds_are_another_scenario(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"seeds: \[1, 2, 3\] -> \[1, 2\]"):
        run(tiny("seeds=[1, 2]"), folder)


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
