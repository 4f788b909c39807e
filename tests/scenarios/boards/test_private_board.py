"""A board whose runs are private: epsilon with its observer, and an entry that states less."""

import json
from pathlib import Path
from typing import Any

import pytest
import small_board
from small_board import BOARD, invoke, tampered

from autoflip_secure.records.board import read_entry
from autoflip_secure.records.privacy import OBSERVERS, PrivacyRecord


@pytest.mark.slow
def test_a_board_with_privacy_has_epsilon_with_its_observer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's own numbers, of all runs the largest; an entry that states less is found out by its ledger."""
    monkeypatch.chdir(tmp_path)
    private = "privacy: {kind: client_level, clip: 1.0, noise: distributed, noise_multiplier: 3}"
    text = small_board.TEXT.replace("tune: {axes: {training.lr: [0.1, 0.4]}, seeds: [0]}", private)
    text = text.replace("name: adaptive, attacks", "attacks").replace("[fedavg, median]", "[fedavg]")
    Path("board.yaml").write_text(text)
    invoke("sweep", "board.yaml", "--out", "run", "--no-report", "--workers", 1)
    invoke(*BOARD, "run", "--entries", "entries")
    stated = {one.observer: one for one in read_entry(Path("entries/fedavg.json")).privacy}
    ledgers = [
        PrivacyRecord.model_validate(json.loads(path.read_text())["privacy"])
        for path in Path("run/cells").glob("*.json")
    ]
    for observer in OBSERVERS:
        found = [ledger.epsilon(observer) for ledger in ledgers]
        assert (max(found) if None not in found else None) == (stated[observer].epsilon if observer in stated else None)
    assert stated
    page = Path("leaderboard.html").read_text()
    assert "ε ≤" in page
    assert "No defence here proves privacy" not in page
    again = ("verify", "entries/fedavg.json", "--board", "board.yaml", "--cells", 2, "--seed", 1)
    done = invoke(*again)
    assert "2 private runs counted in runs/verify-fedavg: autoflip-secure budget runs/verify-fedavg" in done.stdout
    counted, begun = ({path.name for path in Path(run, "ledger").iterdir()} for run in ("runs/verify-fedavg", "run"))
    assert len(counted) == 2
    assert counted < begun
    assert "digits: 2 private cells begun" in invoke("budget", "runs/verify-fedavg").stdout
    both, one = (invoke("budget", "run", *more).stdout for more in (("runs/verify-fedavg",), ()))
    assert both == one  # what was repeated to the bit was released once
    assert json.loads(invoke(*again, "--json").stdout)["ledgers"] == "runs/verify-fedavg"
    refused = invoke(*again, "--out", "run", exits=2).stderr
    assert "run: holds the results of another scenario; give another folder with --out" in refused

    def less(document: dict[str, Any]) -> None:
        document["privacy"][0]["epsilon"] /= 2

    path = tampered(tmp_path, tmp_path / "less.json", less, "fedavg")
    done = invoke("verify", path, "--board", "board.yaml", "--cells", 1, exits=1)
    assert "states an epsilon that is not proven" in done.stdout
