"""``claims``: bad input is said before anything runs; it runs, continues, is interrupted and goes on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from click.testing import Result
from processes import PATIENCE

TINY = (
    "rounds=2", "clients=5", "cohort=5", "training={epochs: 1, batch_size: 64}", "exploration.epochs=1",
    "data={kind: digits, train_samples: 200, test_samples: 50}", "model={kind: mlp, hidden: [8]}", "seeds=[10, 11]",
)  # fmt: skip
TWO = ("sweep.partition=[iid, {kind: pathological, classes_per_client: 2}]",)
Here = Callable[..., Result]


def sets(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--only", "noise_magnitud"), "did you mean 'noise_magnitude'"),
        (("--only", "demo"), "--only demo: no claim needs a scenario of that name"),
        (("--quick", "--set", "cohort=99"), "error: scenario falsifier: --set cohort=99: cohort = 99: is larger than"),
        (("--quick", "--set", "sweep.attack.sigma=[0.1]"), "scenario falsifier: --set sweep.attack.sigma=[0.1]: the"),
        (("--out", " "), "names no folder"),
        (("--workers", "0"), "workers"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_nothing_is_made(
    here: Here, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = here("claims", *arguments)
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_one_scenario_then_again_and_what_is_in_the_way(here: Here, tmp_path: Path) -> None:
    asked = ("claims", "--quick", "--only", "label_flip", *sets(*TINY, *TWO), "--workers", 1, "--out", "out", "--json")
    first = here(*asked)
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert (told["cells"], told["reused"]) == (8, 0)
    page = (tmp_path / "out" / "claims.html").read_text()
    data = json.loads((tmp_path / "out" / "claims.json").read_text())
    by_key = {one["key"]: one for one in data["claims"]}
    assert told["verdicts"].keys() == by_key.keys()
    flips = by_key["label-flips"]
    assert flips["verdict"] != "not tested here"
    assert flips["tested_by"].startswith("autoflip-secure sweep label_flip --set tune=null")
    assert "--set rounds=2" in flips["tested_by"]
    assert flips["tested_by"].endswith("--out out/label_flip")
    assert by_key["falsifier"]["why_not_tested"] == "The scenario falsifier was not asked for (--only)."
    assert "digits; mlp 8; 5 clients, 5 a round; 2 rounds" in page

    (tmp_path / "out" / "claims.html").unlink()
    again = here(*asked)
    assert json.loads(again.stdout)["reused"] == 8
    assert (tmp_path / "out" / "claims.html").read_text() == page

    (tmp_path / "out" / "claims.html").unlink()
    (tmp_path / "out" / "claims.html").mkdir()
    refused = here(*asked)
    assert refused.exit_code == 2
    assert "claims.html" in refused.stderr
    assert "All cells are kept: the same command again writes the page" in refused.stderr

    other = here("claims", "--quick", "--only", "label_flip", *sets(*TINY, *TWO), "--set", "rounds=3", "--out", "out")
    assert other.exit_code == 2
    assert "rounds: 2 -> 3" in other.stderr


@pytest.mark.slow
def test_the_whole_quick_set_made_tiny(here: Here, tmp_path: Path) -> None:
    done = here("claims", "--quick", *sets(*TINY), "--out", "all", "--workers", 1)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Of ")
    data = json.loads((tmp_path / "all" / "claims.json").read_text())
    tested = {one["key"] for one in data["claims"] if one["places"]}
    assert {"falsifier", "accuracy", "compute-sparse", "communication-values", "convergence", "variance-all"} <= tested
    assert {"graceful", "graceful-scope", "label-flips", "explorers", "thresholds", "stable-map", "drift"} <= tested
    assert {"heavy-at-zero", "whole-units", "refinement", "map-random-weights"} <= tested
    assert "exploring-again" not in tested, "in two rounds nobody explores again"
    for one in data["claims"]:
        if one["tested_by"]:
            assert here(*one["tested_by"].split()[1:2], "--help").exit_code == 0


@pytest.mark.slow
def test_an_interrupted_one_goes_on(tmp_path: Path) -> None:
    long = [change for change in TINY if not change.startswith("rounds")]
    asked = [
        "claims",
        "--quick",
        "--only",
        "threshold",
        "--only",
        "label_flip",
        *sets(*long, *TWO),
        "--workers",
        "1",
        "--out",
        "out",
    ]
    with forked.start(*asked, *sets("rounds=300"), cwd=tmp_path, session=True) as process:
        deadline = time.monotonic() + PATIENCE
        while not list(tmp_path.glob("out/*/cells/*.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # the rest of that block is written
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert "interrupted: every finished cell is kept; run the same command again to continue" in stderr
    kept = len(list(tmp_path.glob("out/*/cells/*.json")))
    assert kept
    done = forked.run(*asked, *sets("rounds=300"), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reused"] >= kept
