"""The command line as a user meets it: exit codes, what is printed where; real processes where that matters."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from click.testing import Result
from processes import PATIENCE, gone
from typer.testing import CliRunner

from autoflip_secure.cli import app

ROOT = Path(__file__).parents[2]
TINY = """
name: tiny
question: Does it run?
clients: 5
cohort: 2
rounds: 2
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
attack: {kind: gaussian_noise, sigma: 0.5}
seeds: [1, 2]
sweep: {product: {algorithm: [fedavg, autoflip]}}
"""


def command(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoflip_secure", *map(str, arguments)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Commands inside this process (quick: torch is there already), in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom autoflip_secure.__main__ import main\nsys.argv[1:] = ['--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'pandas', 'numpy', 'scipy', 'seaborn', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    names = ("demo", "init", "sweep", "report", "audit", "list", "gate", "party", "certificates", "schema")
    assert all(name in done.stdout for name in names)


def test_sweep_report_and_again(here: Callable[..., Result], tiny: Path, tmp_path: Path) -> None:
    """Run, continue (nothing to do), change (refused), report: what a person does in the first five minutes."""
    out = tmp_path / "out"
    first = forked.run("sweep", tiny, "--out", out, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "4 cells: 4 run" in first.stdout
    assert f"Report: {(out / 'report.html').as_uri()}" in first.stdout
    assert "<html" in (out / "report.html").read_text()

    again = here("sweep", tiny, "--out", out, "--json", "--no-report")
    summary = json.loads(again.stdout)
    assert (summary["run"], summary["reused"], summary["report"]) == (0, 4, None)

    changed = here("sweep", tiny, "--out", out, "--set", "rounds=3")
    assert (changed.exit_code, changed.stdout) == (2, "")
    assert "rounds: 2 -> 3" in changed.stderr
    assert "--out" in changed.stderr
    assert "Traceback" not in changed.stderr

    (out / "report.html").unlink()
    cells = sorted((out / "cells").iterdir())
    cells[0].unlink()
    cells[1].write_text("{")
    report = here("report", out, "--json")
    told = json.loads(report.stdout)
    assert (told["report"], told["cells"], told["missing"]) == (str(out / "report.html"), 2, 2)
    assert len(told["notes"]) == 1
    assert "is damaged" in report.stderr


@pytest.mark.slow
def test_what_is_missing_or_cannot_be_told_is_said_in_every_output(
    here: Callable[..., Result], tiny: Path, tmp_path: Path
) -> None:
    """Half a sweep, cells of another schema version, one seed, two folders: all of it through the command line."""
    assert here("sweep", tiny, "--out", "whole", "--no-report", "--workers", 1).exit_code == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    first, second, *_ = sorted((tmp_path / "half" / "cells").iterdir())
    first.unlink()
    old = json.loads(second.read_text()) | {"schema_version": 0}
    second.write_text(json.dumps(old))

    done = here("report", "half")
    assert done.exit_code == 0
    assert "1 cell left out because of another schema version (0; this version reads" in done.stderr
    assert "2 of 4 cells are missing" in done.stderr
    page, text = ((tmp_path / "half" / name).read_text() for name in ("report.html", "report.md"))
    for told in (page, text):
        assert "another schema version" in told
    assert "This sweep is not finished." in page
    assert "**Not finished.** Missing: " in text
    assert json.loads(second.read_text()) == old, "nothing is moved or changed by reading"

    done = here("report", "whole", "--compare", "half")
    assert done.exit_code == 0
    assert "half: 2 of 4 cells are missing" in done.stderr
    assert "not finished" in (tmp_path / "whole" / "comparison.html").read_text()

    interval = re.compile(r"\[[−+]?\d+\.\d+, [−+]?\d+\.\d+\\?\]")
    assert all(interval.search((tmp_path / "whole" / f"report.{kind}").read_text()) for kind in ("html", "md"))
    assert here("sweep", tiny, "--set", "seeds=[1]", "--out", "one", "--workers", 1).exit_code == 0
    page, text = ((tmp_path / "one" / name).read_text() for name in ("report.html", "report.md"))
    for told in (page, text):
        assert "one seed gives no interval" in told
        assert "nothing here says how much another seed would change" in told
        assert not interval.search(told)


def test_default_folder_is_runs_and_the_name(here: Callable[..., Result], tiny: Path, tmp_path: Path) -> None:
    done = here("sweep", tiny, "--no-report", "--set", "sweep=null", "--set", "seeds=[1]")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "runs" / "tiny" / "manifest.json").exists()


@pytest.mark.slow
def test_model_of_the_current_folder_also_in_workers(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n\ndef net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, num_classes))\n"
    )
    done = forked.run(
        "sweep", tiny, "--set", "model=mynet:net", "--set", "sweep={product: {rounds: [2, 3]}}", "--workers", 2,
        "--no-report", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["workers"] == 2


def test_wrong_input_is_one_sentence_and_exit_code_2(here: Callable[..., Result], tiny: Path, tmp_path: Path) -> None:
    for arguments, expected in [
        (("sweep", tiny, "--set", "cohort=9"), "error: --set cohort=9: cohort = 9: is larger than clients = 5"),
        (("sweep", "demoo"), "did you mean 'demo'"),
        (("sweep", tiny, "--set", "data=mnist", "--set", f"data.root={tmp_path}"), str(tmp_path)),
        (("report", tmp_path), "is not a results folder"),
        (("list", "atacks"), "did you mean 'attacks'"),
    ]:
        done = here(*arguments)
        assert (done.exit_code, done.stdout) == (2, ""), done.output
        assert expected in done.stderr
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs" / "tiny" / "cells").is_dir() or not list((tmp_path / "runs/tiny/cells").iterdir())


def test_what_breaks_is_exit_code_3_with_a_log(here: Callable[..., Result], tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from torch import nn\n\nclass Bad(nn.Linear):\n"
        "    def __init__(self, num_classes):\n        super().__init__(64, num_classes)\n"
        "    def forward(self, x):\n"
        "        if self.training and len(x) > 16:\n            raise RuntimeError('the reactor is on fire')\n"
        "        return super().forward(x.flatten(1))\n"
    )
    settings = ["--set", "model=bad:Bad", "--set", "trainer=sequential", "--set", "sweep=null"]
    settings += ["--set", "training.batch_size=20"]  # a rehearsal has no batch as large
    done = here("sweep", tiny, *settings)
    assert done.exit_code == 3
    assert "the reactor is on fire" in done.stderr
    assert "Traceback" not in done.stderr
    log = re.search(r"Details: (.+)$", done.stderr, re.MULTILINE)
    assert log is not None
    assert "Traceback" in (tmp_path / log[1]).read_text()


def test_lists_are_derived_from_the_tables(here: Callable[..., Result]) -> None:
    from autoflip_secure.scenarios.config import tables
    from autoflip_secure.scenarios.config.algorithms import ALGORITHMS

    families = json.loads(here("list", "--json").stdout)
    assert set(families["attacks"]) == set(tables.ATTACKS)
    assert set(families["algorithms"]) == set(ALGORITHMS)
    assert set(families) == {
        "attacks", "aggregators", "pruners", "algorithms", "datasets", "partitions", "models", "privacy", "presets",
        "secure_sum", "local_rules", "trackers", "pre_aggregators",
    }  # fmt: skip
    assert all(text and "\n" not in text for entries in families.values() for text in entries.values())
    plain = here("list", "presets").stdout
    assert [line.split()[0] for line in plain.splitlines() if line[0] != " "] == list(families["presets"])


def test_schema_is_json(here: Callable[..., Result]) -> None:
    schema = json.loads(here("schema").stdout)
    assert {"data", "algorithm", "attack", "sweep", "seeds"} <= set(schema["properties"])


def test_folders_that_are_called_as_ours_are_no_obstacle(tmp_path: Path) -> None:
    """``python -m`` puts the current folder first on the path; ``test_packaging`` does more with the wheel."""
    for name in ("attacks", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('somebody else')\n")
    done = command("list", "attacks", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "gaussian_noise" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_ctrl_c_keeps_what_is_finished(workers: int, tiny: Path, tmp_path: Path) -> None:
    """SIGINT to the whole process group, as a terminal sends it."""
    grid = "sweep={product: {rounds: [2, 4000], algorithm: [fedavg, autoflip]}}"
    arguments = ["sweep", str(tiny), "--out", "out", "--workers", str(workers), "--set", grid]
    with forked.start(*arguments, cwd=tmp_path, session=True) as process:
        cells = tmp_path / "out" / "cells"
        deadline = time.monotonic() + PATIENCE
        while not (cells.is_dir() and len(list(cells.glob("*.json"))) == 4) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted: every finished cell is kept" in stderr
    assert "Traceback" not in stderr
    assert len(list(cells.glob("*.json"))) == 4
    assert gone(process.pid), "processes are left behind"
