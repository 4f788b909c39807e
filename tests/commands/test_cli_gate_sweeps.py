"""The gate on a sweep that diverged, and on one that proves less privacy than before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_gates import PRIVATE, edited
from click.testing import Result


@pytest.mark.slow
def test_a_sweep_that_diverged_says_so_and_is_no_baseline(tmp_path: Path, here: Callable[..., Result]) -> None:
    """A table with columns up to a million, at the usual learning rate."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)).astype(np.float32) * [1, 1, 1e3, 1e6], np.arange(60) % 3
    np.savez(
        tmp_path / "table.npz",
        x_train=x[:45].astype(np.float32),
        y_train=y[:45],
        x_test=x[45:].astype(np.float32),
        y_test=y[45:],
    )
    (tmp_path / "s.yaml").write_text(
        "name: table\nclients: 3\ncohort: 2\nrounds: 3\ntraining: {epochs: 1}\nmodel: {kind: mlp, hidden: [4]}\n"
        "data: {kind: npz, path: table.npz}\nalgorithm: fedavg\nseeds: [1, 2]\n"
    )
    done = here("sweep", "s.yaml", "--out", "run", "--json", "--workers", 1)
    assert done.exit_code == 0
    (told,) = json.loads(done.stdout)["training"]
    assert told.startswith("Training diverged, FedAvg without attack in IID: 2 of 2 runs; ")
    assert "column 3 (of 4, from 0) has root mean square" in told
    assert f"note: {told}" in done.stderr
    for page in ("report.md", "report.html"):
        text = (tmp_path / "run" / page).read_text()
        assert text.index("Training diverged") < text.index("reaches")
        assert "more rounds" not in text
    assert here("report", "run", "--compare", "run").exit_code == 0
    for side in ("A", "B"):
        assert f"- {side}: Training diverged" in (tmp_path / "run" / "comparison.md").read_text()
    new = ("gate", "run", "--baseline", "b.json", "--update", "--reason", "first")
    refused = here(*new)
    assert refused.exit_code == 2
    assert told in refused.stderr
    assert "--allow-unlearned" in refused.stderr
    assert not (tmp_path / "b.json").exists()
    taken = here(*new, "--allow-unlearned")
    assert (taken.exit_code, taken.stderr) == (0, f"note: {told}\n")
    lost = here("gate", "run", "--baseline", "b.json", "--allow-unlearned")
    assert lost.exit_code == 2
    assert "give it with --update" in lost.stderr


def test_less_privacy_is_a_regression(tmp_path: Path, here: Callable[..., Result]) -> None:
    """The ledger of real private runs: a repeated run proves the same; one seed that proves less fails the gate."""
    (tmp_path / "private.yaml").write_text(PRIVATE)
    for name in ("then", "run"):
        done = here("sweep", "private.yaml", "--out", tmp_path / name, "--no-report", "--workers", 1)
        assert done.exit_code == 0, done.output
    held = ("--baseline", tmp_path / "b.json")
    new = ("gate", tmp_path / "then", *held, "--update", "--reason", "first")
    assert here(*new, "--allow-unlearned").exit_code == 0  # it learns next to nothing, or more where noise is kind
    assert here("gate", tmp_path / "run", *held).exit_code == 0

    def leak(record: dict[str, Any], _: object) -> None:
        for guarantee in record["privacy"]["guarantees"] if record["seed"] == 11 else []:
            for client in guarantee["clients"] if guarantee["observer"] == "public" else []:
                client |= {k: 1.01 * client[k] for k in ("rdp", "prv", "pld") if client[k] is not None}

    done = here("gate", edited(tmp_path, tmp_path / "leaky", leak), *held, "--json")
    assert done.exit_code == 1, done.output
    (worse,) = [row for row in json.loads(done.stdout)["metrics"] if row["decision"] == "regression"]
    assert (worse["metric"], worse["method"]) == ("epsilon", "computed")
    assert worse["new"] == pytest.approx(1.01 * worse["baseline"])
    assert "higher on 1 of 2 seeds, most on seed 11" in worse["reason"]
