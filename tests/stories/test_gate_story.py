"""A gate for real pull requests: the repository of docs/ci.md, with a model, a table and an aggregator of its own.

Harmless edits pass, losses that are planted do not, and a setting that is changed on purpose is compared across.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from built_wheel import Program, clean
from sklearn.datasets import load_digits

DOC = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
SCENARIO, _, _, RULES = re.findall(r"^```yaml\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)[:4]
MEDIAN = next(code for code in re.findall(r"^```python\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL) if "Middle" in code)
SEEDS = 12
NET = """
from torch import nn

def net(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
Run = Callable[..., subprocess.CompletedProcess[str]]


def runner(installed: Path, cwd: Path) -> Run:
    def run(*arguments: object, exits: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(installed / "autoflip-secure"), *map(str, arguments)]
        environment = {**clean(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == exits, f"{command} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return run


def fill(place: Path) -> None:
    digits = load_digits()
    x, y = (digits.images / 16).astype(np.float32), digits.target
    np.savez(place / "robustness.npz", x_train=x[:600], y_train=y[:600], x_test=x[600:900], y_test=y[600:900])
    (place / "my_models").mkdir()
    (place / "my_models" / "small.py").write_text(NET)
    (place / "my_rules.py").write_text(MEDIAN)
    short = SCENARIO.replace("count: 20", f"count: {SEEDS}").replace("[fedavg, autoflip]", "[autoflip]")
    (place / "robustness.yaml").write_text(short)
    (place / "rules.yaml").write_text(RULES)


@pytest.fixture(scope="module")
def trusted(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with its baselines, made as the page says."""
    place = tmp_path_factory.mktemp("trusted")
    fill(place)
    run = runner(installed, place)
    for name in ("robustness", "rules"):
        run("sweep", f"{name}.yaml", "--out", f"runs/{name}", "--no-report")
        made = ("gate", f"runs/{name}", "--baseline", f"{name}.json", "--update", "--reason", "first baseline")
        assert "Commit it with your code" in run(*made).stdout
    return place


@pytest.fixture
def branch(trusted: Path, installed: Path, tmp_path: Path) -> tuple[Path, Run]:
    """A fresh checkout with the baselines, and the program in it."""
    place = Path(shutil.copytree(trusted, tmp_path / "branch", ignore=shutil.ignore_patterns("runs")))
    return place, runner(installed, place)


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))


GATE = ("gate", "runs/robustness", "--baseline", "robustness.json")


def swept(run: Run, *more: object) -> None:
    run("sweep", "robustness.yaml", "--out", "runs/robustness", "--no-report", *more)


def test_dropout_is_harmless_and_its_costs_do_not_fail(branch: tuple[Path, Run]) -> None:
    place, run = branch
    edit(place / "my_models" / "small.py", "nn.ReLU(),", "nn.ReLU(), nn.Dropout(0.1),")
    swept(run)
    done = run(*GATE, "--history", "trend.jsonl", "--trend", "trend.html", "--export", "bencher=bmf.json")
    assert done.stdout.startswith("gate: pass (5 metrics: 5 pass)")
    assert "changed since the baseline: source of model.factory my_models.small:net" in done.stdout
    assert "advisory: 9 metrics shown, never failing" in done.stdout
    assert len((place / "trend.jsonl").read_text().splitlines()) == 1
    assert "Last run: pass" in (place / "trend.html").read_text()
    assert "attacked-accuracy" in (place / "bmf.json").read_text()


def test_tanh_on_two_seeds_says_how_many_are_lacking_and_runs_them(branch: tuple[Path, Run]) -> None:
    place, run = branch
    edit(place / "my_models" / "small.py", "nn.ReLU()", "nn.Tanh()")
    swept(run, "--set", "seeds=[100, 101]")
    few = run(*GATE, exits=2)
    assert re.search(r"cannot be told: about \d+ more seeds? would settle it \(\d+ in all\)", few.stdout)
    assert f"{SEEDS - 2} seeds of the baseline can be added: --more-seeds runs them" in few.stdout
    more = run(*GATE, "--more-seeds")
    assert more.stdout.startswith("gate: pass (5 metrics: 5 pass)")
    assert f"{SEEDS - 2} seeds more of the baseline are run" in more.stderr
    costs = [line for line in more.stdout.splitlines() if line.startswith("advisory: AutoFLIP") and "bytes" in line]
    assert costs, "Tanh is pruned less, which is shown"
    assert "worse" in costs[0]
    assert "regression" in run(*GATE, "--more-seeds", "--metrics", "accuracy,bytes", exits=1).stdout
    edit(place / "my_models" / "small.py", "nn.Tanh()", "nn.Sigmoid()")
    shutil.rmtree(place / "runs" / "robustness" / "more_seeds")
    other = run(*GATE, "--more-seeds", exits=2)
    assert "has changed since the sweep was run" in other.stderr


def test_a_learning_rate_is_gated_across(branch: tuple[Path, Run]) -> None:
    place, run = branch
    edit(place / "robustness.yaml", "lr: 0.1", "lr: 0.3")
    swept(run)
    assert "training.lr: 0.1 -> 0.3" in run(*GATE, exits=2).stderr
    done = run(*GATE, "--across", "training.lr")
    assert done.stdout.startswith("gate: pass (5 metrics: 5 pass)")
    assert "compared across training.lr 0.1 -> 0.3 (3 configurations)" in done.stdout
    wrong = run(*GATE, "--across", "training.rate", exits=2)
    assert "no configuration has this setting" in wrong.stderr


def test_an_aggregator_that_no_longer_defends_fails_under_noise(branch: tuple[Path, Run]) -> None:
    """Without attack a mean is as good as a median; the loss is under noise, and only there. Nothing is pruned."""
    place, run = branch
    edit(place / "my_rules.py", "view.updates.median(0).values", "view.updates.mean(0)")
    run("sweep", "rules.yaml", "--out", "runs/rules", "--no-report")
    said = json.loads(run("gate", "runs/rules", "--baseline", "rules.json", "--json", exits=1).stdout)
    assert said["changed"] == ["source of algorithm.aggregator.kind my_rules:Middle and what it imports"]
    words = {row["metric"]: row["decision"] for row in said["metrics"] if not row["advisory"]}
    assert words == {"clean_accuracy": "pass", "attacked_accuracy": "regression"}
    costs = {(row["method"], row["decision"]) for row in said["metrics"] if row["advisory"]}
    assert costs == {("exact", "pass")}


MINE = '''
from torch import where

from autoflip_secure.interfaces import Pruner, UpdateAttack


class Flip(UpdateAttack):
    """Malicious clients send their update reversed."""

    factor: float = 1.0

    def updates(self, updates, malicious, active, generators):
        return where(malicious[:, None], -self.factor * updates, updates)


class Small(Pruner):
    """Weights that are small at the start go."""

    def mask(self, view):
        return view.mask & ((view.weights.abs() > 0.02) | ~view.layout.prunable) if view.round == 0 else view.mask
'''
OWN = """
name: own
rounds: 2
clients: 4
cohort: 2
training: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 60}
model: {kind: mlp, hidden: [8]}
seeds: [1, 2]
attack: {kind: "mine:Flip", scope: 0.5}
algorithm: {name: own, pruner: "mine:Small", aggregator: mean}
"""


def test_an_attack_and_a_pruner_of_ones_own_are_gated(installed: Path, tmp_path: Path) -> None:
    """An edit of their source needs no option; an option that they gain is a setting, and compared across."""
    run = runner(installed, tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "own.yaml").write_text(OWN)

    def swept_to(out: str) -> tuple[str, ...]:
        run("sweep", "own.yaml", "--out", out, "--no-report", "--workers", 1)
        return ("gate", out, "--baseline", "own.json")

    run(*swept_to("first"), "--update", "--reason", "first", "--allow-unlearned")
    edit(tmp_path / "mine.py", "are small at the start", "start small")
    done = run(*swept_to("second"))
    assert "2 of the 2 cells that are in both are bit-identical" in done.stdout
    for path in ("attack.kind mine:Flip", "algorithm.pruner.kind mine:Small"):
        assert f"changed since the baseline: source of {path} and what it imports" in done.stdout
    edit(tmp_path / "mine.py", "    factor: float = 1.0", "    factor: float = 1.0\n    bias: float = 0.0")
    third = swept_to("third")
    assert "attack.bias" in run(*third, exits=2).stderr
    across = run(*third, "--across", "attack.bias")
    assert "compared across attack.bias (not there) -> 0 (1 configuration)" in across.stdout


def test_init_writes_a_gate_that_passes_and_overwrites_nothing(program: Program, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "robustness.yaml").unlink()
    mine = ("--set", "data={kind: npz, path: robustness.npz}", "--set", "model=my_models.small:net")
    small = ("--set", "seeds=[100, 101]", "--set", "rounds=15", "--set", "sweep.algorithm=[fedavg]")
    done = program("gate", "init", *mine, *small)
    assert "Wrote robustness.yaml, robustness.json and .github/workflows/robustness.yml" in done.stdout
    program("sweep", "robustness.yaml", "--out", "again", "--no-report")
    assert "6 of the 6 cells that are in both are bit-identical" in program(
        "gate", "again", "--baseline", "robustness.json"
    ).stdout  # fmt: skip
    before = (tmp_path / "robustness.json").read_bytes()
    refused = program("gate", "init", *mine, exits=2)
    assert "already exist, and nothing is overwritten" in refused.stderr
    assert (tmp_path / "robustness.json").read_bytes() == before
