"""What several files of command tests start from: sweeps and audits that are run once for all of them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cli_audits
import cli_exports
import cli_gates
import pytest
from cli_gates import ROOT
from click.testing import Result
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.store.reading import read_record


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Commands inside this process (quick: torch is there already)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep and a baseline of it: 16 cells; never change it."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "small.yaml").write_text(cli_gates.SCENARIO)
    done = cli_gates.command("sweep", folder / "small.yaml", "--out", folder / "run", "--no-report", "--workers", 1)
    assert done.returncode == 0, done.stderr
    made = cli_gates.command(
        "gate", folder / "run", "--baseline", folder / "baseline.json", "--update", "--reason", "first | of <all>"
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert "6 configurations and curves" not in made.stdout
    assert "4 configurations and curves of 16 cells" in made.stdout
    return folder


@pytest.fixture(scope="session")
def kept_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with models; never change it."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "kept.yaml").write_text(cli_exports.SCENARIO.replace("PRIVACY", cli_exports.PRIVACY))
    done = cli_exports.invoke(
        "sweep", folder / "kept.yaml", "--out", folder / "run", "--keep-models", "--no-report", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["models"] == str(folder / "run" / "models")
    return folder / "run"


@pytest.fixture(scope="session")
def audit_scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("audits")
    (found / "tiny.yaml").write_text(cli_audits.TINY)
    short = cli_audits.TINY[: cli_audits.TINY.index("sweep:")] + (
        "sweep:\n  product:\n    privacy:\n      - {kind: sample_level, clip: 1.0, target_epsilon: 3}\n"
        "      - {kind: client_level, clip: 1.0, noise: distributed, noise_multiplier: 3}\n"
    )
    (found / "short.yaml").write_text(short)
    return found


@pytest.fixture(scope="session")
def first_audit(audit_scenarios: Path) -> subprocess.CompletedProcess[str]:
    return cli_audits.command("audit", "short.yaml", "--json", folder=audit_scenarios)


@pytest.fixture(scope="session")
def private_sweep(audit_scenarios: Path) -> tuple[Path, list[RunRecord]]:
    done = cli_audits.command("sweep", "tiny.yaml", "--out", "swept", folder=audit_scenarios)
    assert done.returncode == 0, done.stderr
    found = [read_record(p) for p in sorted((audit_scenarios / "swept/cells").glob("*.json"))]
    return audit_scenarios / "swept", found
