"""The pytest plugin as a user has it: real sessions in their own processes, with a model and data of one's own."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import forked
import numpy as np
import pytest
from processes import PATIENCE
from sklearn.datasets import load_iris

ROOT = Path(__file__).parents[2]
NOISE = """
name: noise
data: {kind: npz, path: data/flowers.npz}
model: "flower_nets.small:net"
clients: 4
cohort: 4
rounds: 6
training: {epochs: 2, batch_size: 16, lr: 0.2}
exploration: {epochs: 1}
seeds: [10, 11, 12]
sweep:
  product:
    attack: [none, {kind: gaussian_noise, sigma: 0.5, scope: 0.25}, {kind: gaussian_noise, sigma: 50, scope: 0.5}]
    algorithm: [fedavg, median]
"""
NET = """
from torch import nn
from flower_nets.width import WIDTH

def net(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], WIDTH), nn.ReLU(), nn.Linear(WIDTH, num_classes))
"""
TESTS = """
def test_holds(robustness):
    results = robustness("noise.yaml")
    assert results.accuracy(sigma=0.5, algorithm="median").n == 3
    assert results.accuracy(attack="none", algorithm="fedavg").lower > 0.4
    loss = results.loss(seed=10, sigma=50, algorithm="fedavg").mean
    print(f"cells: {len(results.records)}, reused: {results.reused}, loss: {loss}")


def test_breaks_as_it_should(robustness):
    results = robustness("noise.yaml")
    clean, noisy = (results.accuracy(algorithm="fedavg", **attack) for attack in ({"attack": "none"}, {"sigma": 50}))
    assert noisy.mean < clean.mean
    assert noisy.lower > 0.99, "this fails"
"""
# The entry point as an installation would register it, whether or not the project is installed.
ENTRY_POINTS = "\n".join(
    f"[{group}]\n" + "\n".join(f"{name} = {target}" for name, target in points.items())
    for group, points in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"].items()
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that trains a model of its own on its own data."""
    home = tmp_path / "repository"
    flowers = load_iris()
    x = ((flowers.data - flowers.data.mean(0)) / flowers.data.std(0)).astype(np.float32)
    train = np.arange(len(x)) % 3 != 0
    for folder in ("data", "flower_nets", "tests"):
        (home / folder).mkdir(parents=True)
    y = flowers.target
    np.savez(home / "data" / "flowers.npz", x_train=x[train], y_train=y[train], x_test=x[~train], y_test=y[~train])
    (home / "pyproject.toml").write_text("[tool.pytest.ini_options]\nfilterwarnings = ['error']\n")
    (home / "flower_nets" / "__init__.py").touch()
    (home / "flower_nets" / "small.py").write_text(NET)
    (home / "flower_nets" / "width.py").write_text("WIDTH = 8\n")
    (home / "tests" / "noise.yaml").write_text(NOISE)
    (home / "tests" / "test_robust.py").write_text(TESTS)
    return home


def session(home: Path, *arguments: str, anew: bool = False) -> subprocess.CompletedProcess[str]:
    """A pytest session in ``home``'s tests folder, with the plugin found by its entry point.

    ``anew``: in an interpreter that has imported nothing.
    """
    site = home.parent / "site" / "autoflip_secure-0.1.0.dist-info"
    site.mkdir(parents=True, exist_ok=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: autoflip-secure\nVersion: 0.1.0\n")
    (site / "entry_points.txt").write_text(ENTRY_POINTS)
    options, path = ["-q", "-p", "no:randomly", "-rP", *arguments], f"{site.parent}{os.pathsep}{ROOT}"
    if not anew:
        options += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
        return forked.run(*options, cwd=home / "tests", env={"PYTHONPATH": path}, module="pytest")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=home / "tests", env=environment, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


def test_own_model_and_data_run_once(repository: Path) -> None:
    first = session(repository)
    assert "1 failed, 1 passed" in first.stdout, first.stdout + first.stderr
    assert "cells: 18, reused: 0" in first.stdout
    assert "this fails" in first.stdout
    assert "<accuracy(algorithm='fedavg', sigma=50) = 0." in first.stdout, "the failure shows the estimate"
    cells = sorted(repository.glob(".pytest_cache/d/robustness/noise-*/cells/*.json"))
    assert len(cells) == 18
    written = [path.stat().st_mtime_ns for path in cells]

    second = session(repository, "-k", "holds")
    assert "1 passed" in second.stdout, second.stdout + second.stderr
    assert "cells: 18, reused: 18" in second.stdout
    assert [path.stat().st_mtime_ns for path in cells] == written
    assert "0 blocks to do" in (cells[0].parents[1] / "log.txt").read_text()
    loss = next(line for line in first.stdout.splitlines() if line.startswith("cells:")).split("loss: ")[1]
    assert f"loss: {loss}" in second.stdout

    (repository / "flower_nets" / "width.py").write_text("WIDTH = 9\n")
    third = session(repository, "-k", "holds", "--robustness-cache", str(repository / "kept"))
    assert "cells: 18, reused: 0" in third.stdout, "another model has other results"
    assert len(list((repository / "kept").glob("noise-*/cells/*.json"))) == 18


@pytest.mark.slow
def test_two_processes_of_one_session_run_it_once(repository: Path) -> None:
    done = session(repository, "-n", "2", "-k", "holds or breaks", "--dist", "each")
    assert "2 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    reused = sorted(line.split("reused: ")[1].split(",")[0] for line in done.stdout.splitlines() if "reused: " in line)
    assert reused == ["0", "18"]


def test_session_without_the_fixture_imports_nothing_heavy(repository: Path) -> None:
    (repository / "tests" / "test_robust.py").write_text(
        "import sys\n\ndef test_light(request):\n"
        "    heavy = {'torch', 'scipy', 'pydantic', 'scenarios', 'reports'} & set(sys.modules)\n"
        "    assert not heavy\n"
        "    assert request.config.pluginmanager.has_plugin('autoflip_secure')\n"
    )
    done = session(repository, anew=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_mistakes_are_one_clear_sentence(repository: Path) -> None:
    (repository / "tests" / "test_robust.py").write_text(
        "def test_name(robustness):\n    robustness('nois.yaml')\n\n"
        "def test_key(robustness):\n    robustness('noise.yaml', roundz=3)\n\n"
        "def test_data(robustness):\n    robustness('noise.yaml', data={'kind': 'npz', 'path': 'away.npz'})\n"
    )
    done = session(repository)
    assert "3 failed" in done.stdout, done.stdout + done.stderr
    assert f"robustness('nois.yaml'): no such file ({repository / 'tests' / 'nois.yaml'}" in done.stdout
    assert "--set roundz=3" in done.stdout
    assert f"{repository / 'away.npz'}: no such file" in done.stdout
    done = session(repository, "--robustness-workers", "0", "-k", "name")
    assert "--robustness-workers 0: give 1 or more" in done.stdout + done.stderr
