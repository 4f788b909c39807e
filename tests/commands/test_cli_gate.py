"""The gate as a user's CI meets it: a real sweep of digits, real processes, exit codes 0, 1 and 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from cli_gates import command, edited
from click.testing import Result
from older_baselines import older
from scipy import stats

from autoflip_secure.files.checksums import unsealed
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import effective_margins, make_baseline, read_baseline
from autoflip_secure.reports.gate.decision import LEVEL
from autoflip_secure.reports.gate.gate import run_gate
from autoflip_secure.scenarios.store.reading import read_record


def shift(record: dict[str, Any], by: float) -> None:
    """More accuracy at every evaluation."""
    record["final_accuracy"] += by
    for entry in record["rounds"]:
        entry["test_accuracy"] += by


def defence_lost(record: dict[str, Any], known: dict[tuple[Any, ...], Any]) -> None:
    """What a defence that silently stopped working leaves: really trained, really measured, without the defence."""
    if record["algorithm"] == "agreement_only" and record["config"]["attack"]["kind"] != "none":
        undefended = known["fedavg", "gaussian_noise", record["seed"]]
        record |= {name: undefended[name] for name in ("final_accuracy", "rounds")}


def test_the_same_sweep_run_again_passes(finished: Path, tmp_path: Path) -> None:
    again = command("sweep", finished / "small.yaml", "--out", tmp_path / "again", "--no-report", "--workers", 1)
    assert again.returncode == 0, again.stderr
    summary = tmp_path / "summary.md"
    summary.write_text("earlier step\n")
    done = command(
        "gate", tmp_path / "again", "--baseline", finished / "baseline.json", "--junit", tmp_path / "out" / "j.xml",
        "--markdown", tmp_path / "m.md", GITHUB_STEP_SUMMARY=str(summary),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("gate: pass (5 metrics: 5 pass)\nbaseline: first | of <all>")
    assert "16 of the 16 cells that are in both are bit-identical" in done.stdout
    suite = ET.parse(tmp_path / "out" / "j.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("17", "0", "0")
    assert summary.read_text() == "earlier step\n" + (tmp_path / "m.md").read_text() + "\n"
    assert "first \\| of &lt;all&gt;" in summary.read_text()


def test_a_defence_that_is_lost_is_a_regression(finished: Path, tmp_path: Path) -> None:
    folder = edited(finished, tmp_path, defence_lost)
    done = command("gate", folder, "--baseline", finished / "baseline.json", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    said = json.loads(done.stdout)
    (worse,) = [row for row in said["metrics"] if row["decision"] == "regression"]
    assert (worse["algorithm"], worse["metric"], worse["method"]) == ("agreement only", "attacked_accuracy", "paired")
    assert worse["change"] < -0.1
    assert said["identical_cells"] == 12


def test_a_loss_lost_in_the_noise_cannot_be_told(finished: Path, tmp_path: Path) -> None:
    def wobble(record: dict[str, Any], _: object) -> None:
        if record["algorithm"] == "fedavg":
            shift(record, 0.1 * (-1) ** record["seed"])

    done = command("gate", edited(finished, tmp_path, wobble), "--baseline", finished / "baseline.json")
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.count("\ncannot tell: FedAvg") == 2
    assert "more seeds would settle it" in done.stdout


@pytest.mark.slow
def test_other_seeds_are_compared_unpaired(finished: Path, tmp_path: Path, here: Callable[..., Result]) -> None:
    swept = here(
        "sweep", finished / "small.yaml", "--set", "seeds={first: 50, count: 4}", "--out", tmp_path / "other",
        "--no-report", "--workers", 1,
    )  # fmt: skip
    assert swept.exit_code == 0, swept.output
    done = here("gate", tmp_path / "other", "--baseline", finished / "baseline.json", "--json")
    said = json.loads(done.stdout)
    assert done.exit_code in (0, 2)
    assert said["paired_cells"] == 0
    assert {row["method"] for row in said["metrics"]} <= {"unpaired", "exact"}
    assert not [row for row in said["metrics"] if row["decision"] == "regression"]


def test_a_margin_can_be_changed_and_is_kept(finished: Path, tmp_path: Path, here: Callable[..., Result]) -> None:
    held = tmp_path / "b.json"
    shutil.copy(finished / "baseline.json", held)
    folder = edited(finished, tmp_path, lambda r, _: shift(r, -0.04))
    assert here("gate", folder, "--baseline", held).exit_code == 1
    margins = ("--margin", "clean_accuracy=0.05", "--margin", "attacked_accuracy=5%")
    assert here("gate", folder, "--baseline", held, *margins).exit_code == 0
    update = ("--update", "--reason", "wider margins")
    assert here("gate", finished / "run", "--baseline", held, *margins, *update).exit_code == 0
    done = here("gate", folder, "--baseline", held)
    assert done.exit_code == 0
    assert "clean_accuracy 0.05, attacked_accuracy 0.05" in done.stdout
    again = here("gate", finished / "run", "--baseline", held, "--update", "--reason", "again", "--json")
    assert json.loads(again.stdout)["margins"]["clean_accuracy"] == 0.05


def test_unusable_input_is_one_sentence_and_exit_code_2(
    finished: Path, tmp_path: Path, here: Callable[..., Result]
) -> None:
    baseline, run = finished / "baseline.json", finished / "run"
    half, hurt, empty = tmp_path / "half", tmp_path / "hurt", tmp_path / "empty"
    for folder in (half, hurt):
        shutil.copytree(run, folder)
    next((half / "cells").iterdir()).unlink()
    next((hurt / "cells").iterdir()).write_text("{")
    empty.mkdir()
    (tmp_path / "bad.json").write_text("{")
    for arguments, expected in [
        ((run, "--baseline", tmp_path / "none.json"), "there is no baseline; make one"),
        ((run, "--baseline", tmp_path / "bad.json"), "bad.json: is damaged"),
        ((run, "--baseline", tmp_path), "cannot be read"),
        ((empty, "--baseline", baseline), "is not a results folder"),
        ((half, "--baseline", baseline), "the sweep is incomplete: 1 of 16 cells are missing or unusable"),
        ((hurt, "--baseline", baseline), "the sweep is incomplete: 1 of 16 cells are missing or unusable"),
        ((half, "--baseline", tmp_path / "new.json", "--update", "--reason", "x"), "the sweep is incomplete"),
        ((run, "--baseline", tmp_path / "new.json", "--update"), "--update and --reason TEXT go together"),
        ((run, "--baseline", tmp_path / "new.json", "--reason", "x"), "--update and --reason TEXT go together"),
        ((run, "--baseline", baseline, "--margin", "speed=1"), "there is no metric 'speed'"),
        ((run, "--baseline", baseline, "--junit", tmp_path), "cannot be written"),
    ]:
        done = here("gate", *arguments)
        assert done.exit_code == 2, done.output
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert expected in errors[0]
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "new.json").exists()


def test_another_scenario_does_not_meet_the_baseline(
    finished: Path, tmp_path: Path, here: Callable[..., Result]
) -> None:
    settings = ("--set", "rounds=2", "--set", "seeds=[10]", "--no-report", "--workers", "1")
    assert here("sweep", finished / "small.yaml", "--out", tmp_path / "short", *settings).exit_code == 0
    done = here("gate", tmp_path / "short", "--baseline", finished / "baseline.json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no configuration of the sweep is in the baseline" in done.stderr
    assert "rounds: 4 -> 2" in done.stderr


@pytest.mark.slow
def test_real_runs_on_other_seeds_raise_an_alarm_in_at_most_5_percent(
    finished: Path, tmp_path: Path, here: Callable[..., Result]
) -> None:
    """Sixty real seeds, split at random into a baseline and a new run of five each, again and again."""
    seeds = list(range(100, 160))
    settings = ("--set", f"seeds={seeds}", "--no-report", "--workers", "1")
    assert here("sweep", finished / "small.yaml", "--out", tmp_path / "many", *settings).exit_code == 0
    by_seed: dict[int, list[RunRecord]] = {seed: [] for seed in seeds}
    for path in (tmp_path / "many" / "cells").glob("*.json"):
        record = read_record(path)
        by_seed[record.seed].append(record)
    draws, alarms, runs = np.random.default_rng(8), 0, 150
    margins = effective_margins({}, [])
    for _ in range(runs):
        drawn = draws.permutation(seeds)[:10].tolist()
        old, new = ([r for seed in part for r in by_seed[seed]] for part in (drawn[:5], drawn[5:]))
        alarms += run_gate(new, make_baseline(old, "old", "then", margins), margins).exit_code == 1
    assert alarms <= stats.binom.ppf(0.999, runs, LEVEL)


def test_outcomes_are_never_mixed(finished: Path, tmp_path: Path, here: Callable[..., Result]) -> None:
    """A sweep is judged by the outcome that the baseline says; another one is asked for in vain."""
    means, lasts, old = finished / "baseline.json", tmp_path / "last.json", tmp_path / "old.json"
    made = here("gate", finished / "run", "--baseline", lasts, "--update", "--reason", "x", "--outcome", "last")
    assert "accuracy is the last evaluation" in made.stdout
    document = json.loads(lasts.read_text())
    assert (document["outcome"], json.loads(means.read_text())["outcome"]) == ("last", str(DEFAULT))
    old.write_text(json.dumps(older(read_baseline(lasts), 2)))  # from before there was a choice
    for held, words in ((means, DEFAULT.words), (lasts, "the last evaluation"), (old, "the last evaluation")):
        done = here("gate", finished / "run", "--baseline", held, "--json")
        assert done.exit_code == 0, done.output
        assert here("gate", finished / "run", "--baseline", held).stdout.count(f"accuracy is {words}") == 1
        noted = f"note: the scenario's outcome is {DEFAULT.words}; the gate uses the baseline's, the last evaluation"
        assert (noted in done.stderr) == (held is not means)
    refused = here("gate", finished / "run", "--baseline", means, "--outcome", "last")
    assert refused.exit_code == 2
    assert "two outcomes are never compared; leave --outcome out, or make a new baseline" in refused.stderr
    wrong = here("report", finished / "run", "--outcome", "best")
    assert (wrong.exit_code, "--outcome = 'best': should be 'last', or" in wrong.stderr) == (2, True)


def test_the_gate_s_numbers_are_those_of_the_outcome(
    finished: Path, tmp_path: Path, here: Callable[..., Result]
) -> None:
    records = [
        RunRecord.model_validate_json(unsealed(path.read_bytes()))
        for path in (finished / "run" / "cells").glob("*.json")
    ]
    wanted = {
        rule: sorted(rule.accuracy(r) for r in records if r.config["attack"]["kind"] == "none")
        for rule in (DEFAULT, OutcomeRule(1))
    }
    assert wanted[DEFAULT] != wanted[OutcomeRule(1)]
    for rule, expected in wanted.items():
        held = tmp_path / f"{rule.evaluations}.json"
        here("gate", finished / "run", "--baseline", held, "--update", "--reason", "x", "--outcome", str(rule))
        found = [v for e in read_baseline(held).entries.values() for v in e.metrics.get("clean_accuracy", {}).values()]
        assert sorted(found) == pytest.approx(expected, rel=1e-12)
