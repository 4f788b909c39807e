"""Odd input through the commands themselves: one message, exit code 2, and nothing of it shown raw."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.commands.session import exit_codes
from autoflip_secure.terminal.notes import remark

ROOT = Path(__file__).parents[2]
ODD = "[red]\x1b[31m\n\u202ex[/red]"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    (tmp_path / "s.yaml").write_text("rounds: 1\n")
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", ODD), ("sweep", "s.yaml", "--set", ODD), ("sweep", "s.yaml", "--set", f"name={ODD}"),
        ("sweep", "s.yaml", "--set", f"{ODD}=1"), ("sweep", "s.yaml", "--set", f"attack='{ODD}'"),
        ("sweep", "s.yaml", "--set", f"sweep.{ODD}=[1]"), ("report", ODD), ("report", "s.yaml", "--compare", ODD),
        ("gate", ODD, "--baseline", ODD), ("gate", ".", "--baseline", "b.json", "--margin", ODD), ("list", ODD),
        ("audit", ODD), ("budget", ODD), ("budget", ODD, ODD), ("sweep", "s.yaml", "--workers", ODD), (ODD,),
        ("sweep", "s.yaml", "--out", ""), ("sweep", "a" * 5000), ("report", "a" * 5000), ("budget", "a" * 5000),
        ("gate", "a" * 5000, "--baseline", "b.json"), ("party", "--certificates", "a" * 5000),
    ],
    ids=lambda arguments: " ".join(map(ascii, arguments))[:60],
)  # fmt: skip
def test_odd_arguments_are_one_visible_message(arguments: tuple[str, ...], here: Callable[..., Result]) -> None:
    done = here(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Details:" not in done.stderr
    assert "\x1b[31m" not in done.stderr
    assert "\u202e" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gate", "s.yaml", "--baseline", "b"), "s.yaml: is a file; give the folder of a sweep"),
        (("gate", "runs/tinny", "--baseline", "b"), "runs/tinny: no such folder, but there is"),
        (("budget", "s.yaml"), "s.yaml: is a file; give the folder of a sweep"),
        (("budget", "runs/tinny"), "runs/tinny: no such folder, but there is"),
        (("verify", "s.yaml"), "s.yaml: is not a board entry, which is JSON"),
        (("sweep", "runs/tiny"), "runs/tiny: is a folder; give its scenario, runs/tiny/scenario.yaml"),
        (("sweep", "runs"), "runs: is a folder; give the path of a scenario file"),
        (("account", "runs/tiny"), "runs/tiny: is a folder; give the path of a log file"),
    ],
    ids=lambda one: " ".join(one)[:20],
)
def test_a_file_for_a_folder_and_the_other_way_round(
    arguments: tuple[str, ...], said: str, here: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "scenario.yaml").write_text("rounds: 1\n")
    done = here(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"error: {said}")


def test_a_current_folder_that_is_gone_is_named(here: Callable[..., Result], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    for arguments in (("sweep", "demo"), ("report", tmp_path), ("gate", tmp_path, "--baseline", "b"), ("list",)):
        done = here(*arguments)
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith(
            "error: the current folder cannot be used (No such file or directory): it was del"
        )
    assert here("--help").exit_code == 0


def test_user_text_in_a_note_and_in_a_crash_is_visible(capsys: pytest.CaptureFixture[str]) -> None:
    def crash() -> None:
        with exit_codes(None):
            remark(f"kept {ODD}")
            raise RuntimeError(ODD)

    with pytest.raises(typer.Exit):
        crash()
    said = capsys.readouterr().err
    assert "note: kept [red]\\x1b[31m\\n\\u202ex[/red]\n" in said
    assert "error: RuntimeError: [red]\\x1b[31m\n\\u202ex[/red]\nDetails: " in said
