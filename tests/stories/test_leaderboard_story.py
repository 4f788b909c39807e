"""A stranger puts a defence of her own on a board, hands in its entry, and somebody else checks it."""

import json
import shutil
from pathlib import Path

import pytest
import small_board
from built_wheel import Program

from autoflip_secure.files.checksums import with_checksum


@pytest.mark.slow
def test_a_strangers_defence_on_a_board(program: Program, tmp_path: Path) -> None:
    small_board.write(tmp_path)
    board = ("--board", "board.yaml")
    program("sweep", "board.yaml", "--out", "built", "--workers", 1, "--no-report")
    mine = ("--set", f"sweep.algorithm={small_board.MINE}", "--out", "mine", "--no-report")
    program("sweep", "board.yaml", *mine)
    again = program("sweep", "board.yaml", *mine, "--json")
    assert json.loads(again.stdout)["run"] == 0, "a finished board is continued, not run again"

    done = program("leaderboard", *board, "built", "mine", "--out", "board.html", "--entries", "entries", "--json")
    assert sorted(path.name for path in (tmp_path / "entries").iterdir()) == [
        "fedavg.json",
        "halved.json",
        "median.json",
    ]
    page = (tmp_path / "board.html").read_text(encoding="utf-8")
    for told in ("halved", "no guarantee", "every update", "greedy oracle", "knows defence", "strangers:Halved"):
        assert told in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page

    program("verify", "entries/halved.json", *board, "--cells", 3)
    changed = json.loads((tmp_path / "entries" / "halved.json").read_text())
    del changed["checksum"]
    for setting in changed["settings"]:
        for runs in setting["runs"]:
            runs["accuracies"] = [1.0 for _ in runs["accuracies"]]
            runs["digests"] = ["0" * 16 for _ in runs["digests"]]
    (tmp_path / "better.json").write_text(json.dumps(with_checksum(changed)))
    assert "differs" in program("verify", "better.json", *board, "--cells", 2, exits=1).stdout

    other = tmp_path / "elsewhere"  # where her code is not
    other.mkdir()
    shutil.copytree(tmp_path / "entries", other / "entries")
    shutil.copy(tmp_path / "board.yaml", other)
    here = program("leaderboard", *board, "entries", "--json", cwd=other)
    assert json.loads(here.stdout)["views"] == json.loads(done.stdout)["views"]
    assert "strangers" in program("verify", "entries/halved.json", *board, cwd=other, exits=2).stderr


@pytest.mark.slow
def test_the_boards_of_the_package(program: Program, tmp_path: Path) -> None:
    listed = program("list", "presets").stdout
    assert "board-digits-1" in listed
    assert "board-mnist-1" in listed
    small = ("--set", "rounds=1", "--set", "seeds=[10]", "--set", "sweep={product: {algorithm: [fedavg]}}")
    program("sweep", "board-digits-1", *small, "--set", "tune=null", "--set", "suite=standard-1", "--out", "other",
            "--no-report")  # fmt: skip
    refused = " ".join(program("leaderboard", "other", exits=2).stderr.split())
    assert "is not a run of board-digits-1, where nothing but sweep.algorithm may differ" in refused
