"""For an auditor: the log of a real federation and the budget of simulated runs, counted and ready to be signed."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from built_wheel import Program

EXAMPLE = Path(__file__).parents[2] / "examples" / "account"
SMALL = (
    "clients=4", "cohort=2", "rounds=2", "seeds=[21]", "sweep=null", "algorithm=fedavg", "attack=none", "suite=null",
    "tune=null", "model={kind: mlp, hidden: [8]}",
)  # fmt: skip


def settings(*more: str) -> list[str]:
    return [part for one in (*SMALL, *more) for part in ("--set", one)]


@pytest.mark.slow
def test_a_real_federations_log(program: Program, tmp_path: Path) -> None:
    """As docs/account.md says it; a log that was cut off is refused in one sentence, and nothing is written."""
    for name in ("ward.yaml", "rounds.csv"):
        shutil.copy(EXAMPLE / name, tmp_path)
    told = program("account", "ward.yaml", "--out", "ward.html", "--clients", "ward.csv").stdout
    assert "no guarantee" in told
    assert "add or remove one client" in told
    assert "Signatures" in (tmp_path / "ward.html").read_text()
    with (tmp_path / "ward.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["observer"] for row in rows} == {"server", "public", "another client"}
    program("account", "ward.yaml", "--at-most", "2", "--against", "public")
    program("account", "ward.yaml", "--at-most", "1", exits=1)
    found = json.loads(program("account", "ward.yaml", "--json").stdout)
    assert [g["proven"] for g in found["privacy"]["guarantees"]] == [False, True, True]
    lines = (tmp_path / "rounds.csv").read_text().splitlines()
    (tmp_path / "rounds.csv").write_text("\n".join(line for line in lines if not line.startswith("7,")))
    refused = program("account", "ward.yaml", "--out", "never.html", exits=2)
    assert "1 round of 1 to 20 missing (7)" in refused.stderr.replace("\n", " ")
    assert not (tmp_path / "never.html").exists()


@pytest.mark.slow
def test_the_budget_of_runs(program: Program, tmp_path: Path) -> None:
    private = settings("privacy={kind: sample_level, clip: 1.0, target_epsilon: 4}")
    program("sweep", "demo", "--out", "out", "--workers", 1, "--no-report", *private)
    told = program("budget", "out", "--clients", "clients.csv", "--out", "page.html").stdout
    assert "1 private cell begun" in told
    with (tmp_path / "clients.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["observer"] == "public"]
    assert rows
    assert all(0 < float(row["epsilon"]) <= 4 for row in rows)
    assert "may be said" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_an_audits_title_says_what_its_page_says(program: Program, tmp_path: Path) -> None:
    """Nobody adds noise: exit code 2, and the title is no all-clear."""
    told = program("audit", "demo", "--out", "out", *settings(), exits=2)
    assert told.stdout.startswith("Nothing is proven for these settings, so there is no guarantee")
    page = (tmp_path / "out" / "audit.html").read_text()
    assert 'id="verdict-title">Nothing is proven for these settings' in page
    assert "Nothing may be promised: no guarantee (nobody adds noise)." in page
