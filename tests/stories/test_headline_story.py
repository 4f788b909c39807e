"""A report opens with the answer to the question of its sweep, from the installed wheel."""

import json
from pathlib import Path

import pytest
from built_wheel import Program

SMALL = ("--set", "rounds=2", "--set", "seeds=[10, 11]", "--set", "clients=6", "--set", "cohort=3", "--workers", 1)
FEW = ("--set", "sweep.attack=[none]", "--set", "sweep.algorithm=[fedavg, autoflip]")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_question_has_its_headline(program: Program, tmp_path: Path) -> None:
    """Privacy is compared with none, or algorithms within one setting of privacy: only the report changes."""
    few = (*FEW, "--set", "sweep.privacy.target_epsilon=[4, 8]")
    run = ("sweep", "privacy_cost", *SMALL, *few, "--out", "p")
    program(*run)
    text = (tmp_path / "p" / "report.md").read_text(encoding="utf-8")
    assert text.startswith("### Privacy against none, AutoFLIP: ")
    assert "| Privacy | Accuracy without attack | Difference to runs without privacy |" in text
    cells = sorted((tmp_path / "p" / "cells").iterdir())
    before = [cell.read_bytes() for cell in cells]

    program(*run, "--set", "compare=algorithm")  # the same cells, another question: nothing runs again
    text = (tmp_path / "p" / "report.md").read_text(encoding="utf-8")
    assert text.startswith("### no privacy: AutoFLIP against FedAvg")
    assert "**no privacy, over 1 condition**" in text
    assert [cell.read_bytes() for cell in cells] == before


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_axis_has_its_headline(program: Program, tmp_path: Path) -> None:
    program("sweep", "explorers", *SMALL, "--set", "tune=null", "--set", "sweep.exploration.explorers=[1, 3]",
            "--set", "sweep.partition=[iid]", "--set", "sweep.attack=[none]", "--out", "e")  # fmt: skip
    text = (tmp_path / "e" / "report.md").read_text(encoding="utf-8")
    assert text.startswith("### Explorers against 1, AutoFLIP: ")
    assert "FedAvg, which has no explorers, reaches" in text
    page = (tmp_path / "e" / "report.html").read_text(encoding="utf-8")
    assert "Paired differences to explorers 1" in page


@pytest.mark.slow
def test_what_is_no_axis_is_refused_and_nothing_is_lost(program: Program, tmp_path: Path) -> None:
    done = program("sweep", "privacy_cost", *SMALL, "--set", "compare=privcy", "--out", "p", exits=2)
    assert "--set compare=privcy: compare: 'privcy' is no axis of the sweep; did you mean 'privacy'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "p").exists()
    schema = json.loads(program("schema").stdout)
    assert "compare" in schema["properties"]
