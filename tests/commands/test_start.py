"""Questions that need no computing are answered without the libraries that compute; shells complete as quickly."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "opacus", "pandas", "sklearn", "scipy", "numpy", "matplotlib", "crypten")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
QUICK = [  # arguments, exit code, what is said
    (["--version"], 0, "autoflip-secure 0."),
    (["--help"], 0, "sweep"),
    (["gate", "--help"], 0, "--baseline"),
    (["list"], 0, "gaussian_noise"),
    (["list", "attacks"], 0, "sigma: 0.5"),
    (["list", "attacks", "label_flip"], 0, "AutoFLIP paper, Fig. 10"),
    (["list", "atacks"], 2, "did you mean 'attacks'?"),
    (["list", "attacks", "label_flop"], 2, "did you mean 'label_flip'?"),
    (["schema"], 0, '"$schema"'),
    (["init", "new.yaml"], 0, "Wrote new.yaml"),
    (["init", "new.yaml", "--preset", "demo"], 2, "already exists"),
    (["sweep", "--wrkers", "2"], 2, "No such option: --wrkers"),
    (["swep"], 2, "No such command 'swep'"),
    (["sweep", "demoo"], 2, "did you mean 'demo'?"),
    (["sweep", "there/is/none.yaml"], 2, "no such file"),
    (["sweep", "bad.yaml"], 2, "bad.yaml:2: not valid YAML"),
    (["sweep", "binary.yaml"], 2, "not UTF-8"),
    (["audit", "demoo"], 2, "did you mean 'demo'?"),
    (["report", "nowhere"], 2, "nowhere: no such folder"),
    (["report", "."], 2, "not a results folder"),
    (["export", "nowhere"], 2, "nowhere: no such folder"),
    (["budget", "nowhere"], 2, "no such folder"),
    (["gate", "nowhere", "--baseline", "b.json"], 2, "no such folder"),
    (["gate", "swept", "--baseline", "b.json"], 2, "b.json: there is no baseline, but there is"),
]
Told = tuple[int, str, list[str]]  # exit code, output, what is imported by then
COMPLETED = [  # what is typed, and what it may become
    ("autoflip-secure sw", {"sweep"}),
    ("autoflip-secure sweep --work", {"--workers"}),
    ("autoflip-secure sweep noise_", {"noise_magnitude", "noise_scope"}),
    ("autoflip-secure sweep ba", {"bad.yaml"}),
    ("autoflip-secure init --preset noise_m", {"noise_magnitude"}),
    ("autoflip-secure list at", {"attacks"}),
    ("autoflip-secure list attacks la", {"label_flip", "landscape_lie", "layer_trick"}),
    ("autoflip-secure list secure_sum up", {"updates"}),
]
SCRIPT = """
import json, os, sys
from typer.testing import CliRunner
from autoflip_secure.cli import app
quick, typed, heavy = json.loads(sys.argv[1])
def call(arguments, env=None):
    done = CliRunner().invoke(app, arguments, prog_name="autoflip-secure", env=env)
    return done.exit_code, done.output, sorted(set(heavy) & set(sys.modules))
told = [call(arguments) for arguments in quick]
for text in typed:
    words = text.split(" ")
    position = {"COMP_WORDS": text, "COMP_CWORD": str(len(words) - 1)}
    told.append(call([], {"_AUTOFLIP_SECURE_COMPLETE": "complete_bash", **position}))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Told]:
    """All of it in one fresh interpreter, in turn: what one of them imports would show in those behind it."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "bad.yaml").write_text("clients: 5\n  cohort: 2\n")
    (folder / "binary.yaml").write_bytes(b"name: \xff\xfe\xfa\n")
    (folder / "b2.json").touch()
    (folder / "swept").mkdir()
    manifest = {"schema": 1, "scenario_hash": "", "name": "swept", "cells": [], "blocks": []}
    (folder / "swept" / "manifest.json").write_text(json.dumps(manifest))
    asked = json.dumps([[arguments for arguments, _, _ in QUICK], [text for text, _ in COMPLETED], HEAVY])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, asked], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout)]


@pytest.mark.parametrize("number", range(len(QUICK)), ids=[" ".join(arguments) for arguments, _, _ in QUICK])
def test_an_answer_that_needs_no_computing_imports_nothing_heavy(number: int, told: list[Told]) -> None:
    _, code, expected = QUICK[number]
    found, output, heavy = told[number]
    assert heavy == []
    assert found == code, output
    assert expected in " ".join(output.split())


def test_no_line_is_longer_than_80_columns(told: list[Told]) -> None:
    texts = ("--help", "gate", "list")
    answers = zip(QUICK, told, strict=False)
    shown = [output for (asked, code, _), (_, output, _) in answers if not code and asked[0] in texts]
    assert len(shown) == 5
    assert [line for output in shown for line in output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("number", range(len(COMPLETED)), ids=[text for text, _ in COMPLETED])
def test_shells_complete(number: int, told: list[Told]) -> None:
    code, output, heavy = told[len(QUICK) + number]
    assert (code, heavy) == (0, [])
    assert set(output.split()) == COMPLETED[number][1]


def test_bash_itself_completes(tmp_path: Path) -> None:
    """With the script that is installed, and the console script that it calls."""
    command = tmp_path / "autoflip-secure"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m autoflip_secure "$@"\n')
    command.chmod(0o755)
    script = """
        source <(_AUTOFLIP_SECURE_COMPLETE=source_bash autoflip-secure)
        complete -p autoflip-secure
        COMP_WORDS=(autoflip-secure list pruners random_) COMP_CWORD=3
        _autoflip_secure_completion autoflip-secure
        echo "${COMPREPLY[@]}"
    """
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=tmp_path, env=ENVIRONMENT | {"PATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "complete -o default -F _autoflip_secure_completion autoflip-secure", "random_weights random_units",
    ], done.stderr  # fmt: skip
