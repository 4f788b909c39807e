"""What is refused or marked because nothing is proven, and what a killed or repeated run leaves in the ledger."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest
from ledger_cells import CENTRAL, by_observer, cell_of, scenario
from processes import PATIENCE

from autoflip_secure.defenses.privacy.accountants import counted, rdp_epsilon
from autoflip_secure.defenses.privacy.guarantees import account
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.records.privacy import PrivacyRecord, Release
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.reading import read_record


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"algorithm": "autoflip", "privacy": CENTRAL}, "sensitivity is not the clip norm"),
        ({"algorithm": "median", "privacy": CENTRAL}, "sensitivity is not the clip norm"),
        (
            {"privacy": {"kind": "sample_level", "noise_multiplier": 1.0}, "exploration": {"patience": 2}},
            "exploration.patience",
        ),
        (
            {"algorithm": "guidance_only", "privacy": {**CENTRAL, "exploration_noise_multiplier": 0}},
            "exploration_noise_multiplier = 0",
        ),
    ],
)
def test_where_nothing_is_proven_it_is_refused_or_marked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(plan(scenario(**settings)).blocks)
    allowed = {**settings, "privacy": {**settings["privacy"], "allow_unproven": True}}
    check(plan(scenario(**allowed)).blocks)
    public = by_observer(ledger(cell_of(**allowed)))["public"]
    assert not public.proven
    assert said in public.reason
    assert public.clients == []
    assert all(said in r.reason for r in public.releases)
    record = ledger(cell_of(**allowed))
    assert record is not None
    assert record.epsilon("public") is None


def test_clipping_alone_proves_nothing_and_may_run() -> None:
    settings = {"algorithm": "fedavg", "privacy": {"kind": "sample_level", "noise_multiplier": 0}}
    check(plan(scenario(**settings)).blocks)
    assert "clipping alone proves nothing" in by_observer(ledger(cell_of(**settings)))["public"].reason


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"privacy": {"kind": "sample_level", "delta": 0.01}}, r"is not below 1/n"),
        ({"privacy": "sample_level", "training": {"batch_size": 200}}, r"batch rate would be 1\.3\d, over 1"),
        ({"privacy": {"kind": "sample_level", "target_epsilon": 1e-6}}, "cannot be reached"),
    ],
)
def test_what_the_data_do_not_allow_is_one_clear_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(plan(scenario(**settings)).blocks)


def test_a_forgotten_release_shows() -> None:
    """The planted bug of others: a ledger that leaves the exploration out says less than the ledger that counts it."""
    schedule = schedule_of(cell_of(privacy={"kind": "sample_level", "noise_multiplier": 1.0}))
    whole, forgotten = account(schedule), account(replace(schedule, explorers=()))
    assert (whole.epsilon() or 0) > 1.05 * (forgotten.epsilon() or 0)


def quiet() -> Listener:
    return Listener(lambda *_: None, lambda text: None)


def test_the_ledger_is_written_before_the_run_and_counts_attempts(tmp_path: Path) -> None:
    """A process is killed in the middle of training; the ledger is there, and the second attempt is counted."""
    path = tmp_path / "s.yaml"
    path.write_text(
        "clients: 6\ncohort: 3\nrounds: 4000\nseeds: [31]\nalgorithm: fedavg\n"
        "privacy: {kind: sample_level, noise_multiplier: 1.0}\n",
        encoding="utf-8",
    )
    process = forked.start("sweep", path, "--out", "out", "--no-report", cwd=tmp_path)
    files: list[Path] = []
    for _ in range(10 * PATIENCE):
        files = list((tmp_path / "out" / "ledger").glob("*.json"))
        if files:
            break
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    process.communicate()
    (file,) = files
    assert not list((tmp_path / "out" / "cells").glob("*.json"))
    document = json.loads(file.read_text())
    assert len(document["attempts"]) == 1
    steps = sum(r["steps"] for r in document["attempts"][0]["planned"] if r["observer"] == "server")
    assert steps > 4000


def test_other_versions_count_again(tmp_path: Path) -> None:
    loaded = plan(scenario(algorithm="fedavg", rounds=2, privacy={"kind": "sample_level", "noise_multiplier": 1.0}))
    first = run_sweep(loaded, tmp_path, 1, quiet()).records[0]
    (file,), (cell,) = (tmp_path / "ledger").glob("*.json"), (tmp_path / "cells").glob("*.json")
    cell.unlink()
    second = run_sweep(loaded, tmp_path, 1, quiet()).records[0]
    assert second.privacy is not None
    assert first.privacy is not None
    assert second.privacy.attempts == 2
    assert second.numbers() == first.numbers()  # the same release once more
    document = json.loads(file.read_text())
    document["attempts"][0]["versions"]["torch"] = "1.0"
    del document["checksum"]
    file.write_text(json.dumps(document))
    cell.unlink()
    third = run_sweep(loaded, tmp_path, 1, quiet()).records[0]
    assert third.privacy is not None
    assert third.privacy.attempts == 3

    def steps(record: PrivacyRecord) -> int:
        found: list[Release] = record.guarantees[0].releases
        return sum(r.steps for r in found)

    assert steps(third.privacy) == 2 * steps(first.privacy)
    assert (third.privacy.epsilon() or 0) > (first.privacy.epsilon() or 0)
    file.write_text("{")
    cell.unlink()
    with pytest.raises(StoreError, match="cannot be counted"):
        run_sweep(loaded, tmp_path, 1, quiet())


def test_a_finished_cell_that_is_run_again_with_its_block_counts_again(tmp_path: Path) -> None:
    private = {"kind": "sample_level", "noise_multiplier": 1.0}
    loaded = plan(scenario(algorithm="fedavg", rounds=2, seeds=[31, 32], privacy=private))
    assert len(loaded.blocks) == 1
    before = run_sweep(loaded, tmp_path, 1, quiet()).records
    for path in (tmp_path / "ledger").glob("*.json"):
        document = json.loads(path.read_text())
        document["attempts"][0]["versions"]["torch"] = "1.0"
        del document["checksum"]
        path.write_text(json.dumps(document))
    (tmp_path / "cells" / f"{before[1].cell}.json").unlink()
    run_sweep(loaded, tmp_path, 1, quiet())
    for old in before:
        new = read_record(tmp_path / "cells" / f"{old.cell}.json")
        assert new.rounds == old.rounds
        assert new.privacy is not None
        assert old.privacy is not None
        assert (new.privacy.attempts, old.privacy.attempts) == (2, 1)
        assert (new.privacy.epsilon() or 0) > (old.privacy.epsilon() or 0)


def test_a_ledger_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    loaded = plan(scenario(algorithm="fedavg", rounds=2, privacy={"kind": "sample_level", "noise_multiplier": 1.0}))
    (tmp_path / "ledger").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        run_sweep(loaded, tmp_path, 1, quiet())
    assert not list((tmp_path / "cells").glob("*.json"))


def test_counting_puts_equal_releases_together() -> None:
    found, _ = releases(schedule_of(cell_of(privacy={"kind": "sample_level", "noise_multiplier": 1.0})), "server")
    count = counted(r for r in found if r.client == found[0].client)
    assert count is not None
    assert len(count) == 1
    assert (rdp_epsilon(count, 1e-3) or 0) > 0
