"""A sweep in two stages: a planted best value is found, and the same whatever is run where, when and how often."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sizes import every
from small_sweeps import Ear, numbers, run

import autoflip_secure as af
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.tuned import choices
from autoflip_secure.scenarios.audits.sweep_audit import audit_scenario, chosen_in
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.results import read_results

TEXT = """
name: tuned
clients: 5
cohort: 3
rounds: 4
training: {epochs: 2, batch_size: 16}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 300, test_samples: 100}
model: {kind: mlp, hidden: [16]}
seeds: [11, 12]
suite: {attacks: [label_flip]}
tune: {axes: {training.lr: [0.001, 0.2, 0.00001]}, seeds: [1, 2]}
sweep: {product: {algorithm: [fedavg, autoflip]}}
"""


def work(*overrides: str) -> Plan:
    return plan(resolve(Document.parse(TEXT, "s.yaml"), overrides))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """A finished sweep; nobody changes its folder."""
    return run(work(), tmp_path_factory.mktemp("tuned") / "results")


@pytest.fixture
def folder(done: SweepResult, tmp_path: Path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(done.folder, tmp_path / "copy"))


def written(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.glob("**/cells/*.json"))}


# ------------------------------------------------------------------------------------------------ both stages


def test_the_planted_best_value_is_found_and_reported(done: SweepResult) -> None:
    """With a rate of 0.2 a model learns, with the others it does not."""
    assert len(done.records) == 2 * 2 * 2
    for record in done.records:
        assert record.config["training"]["lr"] == 0.2
        assert record.seed in (11, 12)
        assert record.tuning is not None
        assert record.tuning.chosen == {"training.lr": 0.2}
        assert [one.values["training.lr"] for one in record.tuning.tried] == [0.001, 0.2, 0.00001]
        low, best, lowest = (one.mean for one in record.tuning.tried)
        assert best > 2 * max(low, lowest)
        assert (record.tuning.seeds, record.tuning.budget, record.tuning.at_edge) == (
            [1, 2],
            3,
            {"training.lr": "largest"},
        )


def test_what_the_record_says_is_what_the_cells_of_the_stage_say(done: SweepResult) -> None:
    assert done.tuning is not None
    cells = {record.cell: record for record in done.tuning.records}
    assert len(cells) == 2 * 3 * 2
    for record in done.records:
        assert record.tuning is not None
        for tried in record.tuning.tried:
            own = [cells[key] for key in tried.cells]
            assert [one.seed for one in own] == record.tuning.seeds
            assert {one.algorithm for one in own} == {record.algorithm}
            assert {one.config["attack"]["kind"] for one in own} == {"none"}
            assert {one.config["training"]["lr"] for one in own} == {tried.values["training.lr"]}
            assert tried.accuracies == [plan_outcome(one) for one in own]


def plan_outcome(record: Any) -> float:
    """The default outcome of a run, by hand: the mean of the evaluations of the second half of its 4 rounds."""
    values = [entry.test_accuracy for entry in record.rounds[2:]]
    return float(sum(values) / len(values))


def test_tuned_numbers_are_those_of_the_value_written_out(done: SweepResult, tmp_path: Path) -> None:
    plain = plan(resolve(Document.parse(TEXT, "s.yaml"), ["tune=null", "training.lr=0.2"]))
    other = run(plain, tmp_path / "written")
    own = {record.cell: record.numbers() for record in done.records}
    assert {record.cell for record in other.records} == {*own}
    for record in other.records:
        beside = {key: value for key, value in own[record.cell].items() if key not in ("tuning", "axes")}
        assert {key: value for key, value in record.numbers().items() if key != "axes"} == beside


def test_the_stage_is_a_results_folder_of_its_own(done: SweepResult) -> None:
    outside, inside = read_results(done.folder), read_results(done.folder / "tuning")
    assert (outside.notes, outside.missing, inside.notes, inside.missing) == ([], [], [], [])
    assert {record.seed for record in outside.records} == {11, 12}
    assert {record.seed for record in inside.records} == {1, 2}
    assert inside.scenario["name"] == "tuned-tuning"
    assert all(record.tuning is None for record in inside.records)


def test_a_report_compares_tuned_with_tuned(done: SweepResult) -> None:
    """Algorithms of one setting are compared, whatever each was given; the stage is in no average."""
    records = [
        record.model_copy(
            update={
                "config": {**record.config, "training": {**record.config["training"], "lr": rate}},
                "tuning": record.tuning and record.tuning.model_copy(update={"chosen": {"training.lr": rate}}),
            }
        )
        for record in done.records
        for rate in [0.2 if record.algorithm == "fedavg" else 0.001]
    ]
    found = study(records)
    assert [*found.facets] == ["IID"]
    assert found.algorithms == ["FedAvg", "AutoFLIP"]
    assert [(one.facet, one.algorithm) for one in choices(found)] == [("IID", "FedAvg"), ("IID", "AutoFLIP")]
    assert {*found.cells["seed"]} == {11, 12}


# ------------------------------------------------------------------------------------------------ again


def test_the_same_again_runs_nothing(done: SweepResult, folder: Path) -> None:
    before, ear = written(folder), Ear()
    again = run(work(), folder, ear)
    assert again.tuning is not None
    assert (again.reused, again.tuning.reused, ear.progress) == (8, 12, [])
    assert written(folder) == before
    assert numbers(again.records) == numbers(done.records)


@pytest.mark.parametrize(("place", "step"), every(3, [("tuning/cells", 5), ("cells", 3), ("tuning/manifest.json", 0)]))
def test_what_is_missing_of_either_stage_is_run_and_equal(
    place: str, step: int, done: SweepResult, folder: Path
) -> None:
    victims = sorted((folder / place).iterdir())[::step] if step else [folder / place]
    for victim in victims:
        victim.unlink()
    again = run(work(), folder)
    assert again.tuning is not None
    assert 12 - again.tuning.reused + 8 - again.reused == (len(victims) if step else 0)
    assert numbers(again.records) == numbers(done.records)
    assert again.tuning.records[0].numbers() == (done.tuning or again.tuning).records[0].numbers()


def test_it_goes_on_where_it_was_stopped_in_its_first_stage(done: SweepResult, tmp_path: Path) -> None:
    """Ctrl-C after the first block: nothing is chosen yet, and what is done is kept."""
    seen: list[float] = []

    def stop(finished: float, total: int, left: float | None) -> None:
        seen.append(finished)
        if finished > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(work(), tmp_path, 1, Listener(stop, lambda text: None))
    kept = written(tmp_path)
    assert kept
    assert all(name.startswith("tuning/") for name in kept)
    again = run(work(), tmp_path)
    assert again.tuning is not None
    assert again.tuning.reused == len(kept)
    assert numbers(again.records) == numbers(done.records)


@pytest.mark.slow
def test_workers_make_no_difference(done: SweepResult, tmp_path: Path) -> None:
    other = run_sweep(work(), tmp_path, 2, Ear().listener())
    assert numbers(other.records) == numbers(done.records)
    assert other.tuning is not None
    assert done.tuning is not None
    assert numbers(other.tuning.records) == numbers(done.tuning.records)


@pytest.mark.slow
def test_the_order_of_algorithms_makes_no_difference(done: SweepResult, tmp_path: Path) -> None:
    other = run(work("sweep.algorithm=[autoflip, fedavg]"), tmp_path)
    own = {record.cell: record.numbers() for record in done.records}
    assert {record.cell: record.numbers() for record in other.records} == own


# ------------------------------------------------------------------------------------------------ what is said, refused


def test_it_says_which_stage_runs(folder: Path) -> None:
    said: list[tuple[str, int]] = []
    run_sweep(work(), folder, 1, Listener(lambda *_: None, str, stage=lambda name, cells: said.append((name, cells))))
    assert said == [("stage 1 of 2 (tuning)", 12), ("stage 2 of 2", 8)]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("tune.seeds=[1, 3]", "tune.seeds: [1, 2] -> [1, 3]"),
        ("outcome=last", "outcome: (not there) -> last"),
        ("tune=null", "tune.axes.training.lr: [0.001, 0.2, 1e-05] -> (not there)"),
        ("rounds=5", "rounds: 4 -> 5"),
        ("seeds=[11]", "seeds: [11, 12] -> [11]"),
    ],
)
def test_a_folder_of_another_tuning_is_refused(changed: str, said: str, folder: Path) -> None:
    """Before its first stage, so that nothing is run in vain; and by the curve where the cells are the same."""
    before = written(folder)
    with pytest.raises(StoreError) as error:
        run(work(changed), folder)
    assert said in str(error.value)
    assert written(folder) == before


def test_another_curve_is_another_tuning_though_the_choice_is_the_same(folder: Path) -> None:
    shutil.rmtree(folder / "tuning")
    with pytest.raises(StoreError, match=r"tune\.axes\.training\.lr"):
        run(work("tune.axes.training.lr=[0.2, 0.001]"), folder)


def test_records_of_a_folder_without_manifest_get_the_curve_that_their_choice_is_from(folder: Path) -> None:
    shutil.rmtree(folder / "tuning")
    for name in ("manifest.json", "scenario.yaml"):
        (folder / name).unlink()
    again = run(work("tune.axes.training.lr=[0.2, 0.001]"), folder)
    assert again.reused == 8
    for record in (*again.records, *read_results(folder).records):
        assert record.tuning is not None
        assert [one.values["training.lr"] for one in record.tuning.tried] == [0.2, 0.001]


def test_what_is_wrong_with_the_second_stage_is_said_before_the_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="attack names class 77"):
        run(work("suite={attacks: [{kind: label_flip, to: target, target: 77}]}"), tmp_path)
    assert not written(tmp_path)


def test_an_audit_is_of_the_chosen_settings(done: SweepResult, tmp_path: Path) -> None:
    assert {*chosen_in(done.folder, work()).keys} == {record.cell for record in done.records}
    with pytest.raises(InputError, match=r"^tune: which settings to audit has not been chosen in .*none yet; run the"):
        audit_scenario(work(), tmp_path / "none", str)


def test_a_damaged_cell_of_the_stage_is_run_again(done: SweepResult, folder: Path) -> None:
    victim = next((folder / "tuning" / "cells").iterdir())
    victim.write_text(victim.read_text().replace('"seed":', '"sead":', 1))
    found = read_results(folder)
    assert len(found.records) == 8
    assert any("Its tuning stage cannot be read" in note for note in found.notes)
    again = run(work(), folder)
    assert numbers(again.records) == numbers(done.records)
    assert len(again.damaged) == 1
    assert read_record(victim).cell == victim.stem


def test_from_python(tmp_path: Path) -> None:
    scenario = Document.parse(TEXT, "s.yaml").data
    changed = {"rounds": 1, "suite": None, "sweep": None, "algorithm": "fedavg", "seeds": [11]}
    found = af.run({**scenario, **changed}, tune__axes__training__lr=[0.001, 0.1], tune__seeds=[1], out=tmp_path)
    tuned = found.records[0].tuning
    assert tuned is not None
    assert [one.values for one in tuned.tried] == [{"training.lr": 0.001}, {"training.lr": 0.1}]
    assert af.load(tmp_path).records[0].tuning == tuned
    entry = json.loads((tmp_path / "manifest.json").read_text())["cells"][0]
    assert {*entry} == {"cell", "algorithm", "seed", "axes", "tuning"}
