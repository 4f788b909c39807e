"""Trackers on the command line: what a sweep and its resume write, and what is said where they cannot."""

import json
import sys
from pathlib import Path

import forked
import pytest
from tracked import SCENARIO
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.errors import StoreError
from autoflip_secure.scenarios.running.tracker_choice import trackers

# MLflow and its database layer warn of their own future.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
ROOT = Path(__file__).parents[3]


def test_sweep_writes_to_both_and_a_resume_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    (tmp_path / "tracked.yaml").write_text(SCENARIO)
    command = ["sweep", "tracked.yaml", "--no-report", "--tensorboard", "tb", "--mlflow", "file:runs/ml", "--json"]
    told = []
    for _ in range(2):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        told.append([(t["kind"], t["new"], t["kept"]) for t in json.loads(done.stdout)["trackers"]])
    assert told == [[("TensorBoard", 8, 0), ("MLflow", 8, 0)], [("TensorBoard", 0, 8), ("MLflow", 0, 8)]]
    assert len(list((tmp_path / "tb" / "tracked").glob("*/events.*"))) == 8
    assert "TensorBoard: 0 runs written, 8 already there. See them with: tensorboard --logdir tb\n" in (
        CliRunner().invoke(app, command[:-1]).stdout
    )


def test_a_missing_library_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "tracked.yaml").write_text(SCENARIO)
    code = (
        "import sys\nfrom autoflip_secure.__main__ import main\n"
        "for name in ('tensorboard', 'mlflow'):\n"
        "    sys.modules[name] = None\n"
        "    sys.argv[1:] = ['sweep', 'tracked.yaml', f'--{name}', 'x']\n"
        "    try:\n        main()\n    except SystemExit as end:\n        assert end.code == 2\n"
    )
    done = forked.run(code=code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    for line, name in zip(done.stderr.splitlines(), ("tensorboard", "mlflow"), strict=True):
        assert line.startswith(f"error: --{name}: needs a library that is not installed (")
        assert line.endswith(f"install it with: pip install 'autoflip-secure[{name}]'")
    assert not (tmp_path / "runs").exists()


def test_a_sweep_without_trackers_imports_none() -> None:
    code = (
        "import sys\nimport autoflip_secure.scenarios.running.tracker_choice, autoflip_secure.scenarios.running.sweep\n"
        "assert not {'tensorboard', 'mlflow', 'torch.utils.tensorboard'} & set(sys.modules)"
    )
    done = forked.run(code=code, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_experiment_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps its name and its state, and refuses runs in it in words of its own, after the sweep."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    place = (tmp_path / "mlruns").as_uri()
    client = MlflowClient(tracking_uri=place)
    number = client.create_experiment("tracked")
    trackers(None, place, "tracked")
    client.delete_experiment(number)
    with pytest.raises(
        StoreError, match=rf"'tracked' was deleted there.* restore --experiment-id {number}`.*--set name="
    ):
        trackers(None, place, "tracked")
    trackers(None, place, "other")


def test_databases_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "page.db").write_text("<!doctype html><title>404</title>")
    with pytest.raises(StoreError, match=r"page\.db: is a web page, not a SQLite database"):
        trackers(None, f"sqlite:///{tmp_path / 'page.db'}", "tracked")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"there is no folder \S*foldr, but there is \S*folder; make it"):
        trackers(None, f"sqlite:///{tmp_path / 'foldr' / 'a.db'}", "tracked")
