"""What is said of real private runs: a target that the ledger passed, one without a proof, and noise of the server."""

import json
from typing import Any

import pytest

from autoflip_secure.records.proven import who
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.entries import entries
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.privacy import exceeded, proven_sentences
from autoflip_secure.reports.study.study import Study, study
from autoflip_secure.reports.tables.frames import tidy
from autoflip_secure.reports.tables.guarantees import guarantee_table
from autoflip_secure.reports.wording.verdict import opening
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.trackers.flattened import track

SCENARIO: dict[str, Any] = {
    "name": "private", "clients": 4, "cohort": 2, "rounds": 2, "seeds": [31], "partition": "iid",
    "data": {"kind": "digits", "train_samples": 240, "test_samples": 60}, "model": {"kind": "mlp", "hidden": [8]},
    "training": {"epochs": 1, "batch_size": 16}, "exploration": {"epochs": 1, "patience": 1},
    "sweep": [
        {"product": {
            "privacy": [{"kind": "sample_level", "target_epsilon": 3, "allow_unproven": True}],
            "algorithm": ["fedavg", "autoflip"],
        }},
        {"product": {
            "privacy": [{"kind": "client_level", "target_epsilon": 5}], "sampling": ["poisson"],
            "algorithm": ["fedavg"],
        }},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    """FedAvg at sample level was begun before, under other conditions; AutoFLIP stops explorers by a bare loss."""
    folder, quiet = tmp_path_factory.mktemp("runs"), Listener(lambda *_: None, lambda text: None)
    work = plan(resolve(Document("test", SCENARIO)))
    first = {record.cell: record for record in run_sweep(work, folder, 1, quiet).records}
    cell = next(
        k for k, r in first.items() if r.algorithm == "fedavg" and r.config["privacy"]["kind"] == "sample_level"
    )
    path = folder / "ledger" / f"{cell}.json"
    document = json.loads(path.read_text())
    document["attempts"][0]["versions"]["torch"] = "1.0"
    del document["checksum"]
    path.write_text(json.dumps(document))
    (folder / "cells" / f"{cell}.json").unlink()
    return run_sweep(work, folder, 1, quiet).records


@pytest.fixture(scope="module")
def found(runs: list[RunRecord]) -> Study:
    return study(runs)


def test_names_are_of_what_was_asked_for_and_say_what_is_lacking(runs: list[RunRecord], found: Study) -> None:
    facets = set(found.cells["facet"])
    names = {name.split(" · ")[0] for name in facets}
    assert names == {
        "single samples, no guarantee for AutoFLIP, target ε 3",
        "whole clients, server adds noise, no guarantee against the server, target ε 5",
    }
    words = {entry.condition for entry in entries(runs).values()}
    assert sum("single samples, no guarantee, target ε 3" in text for text in words) == 1
    assert sum("single samples, target ε 3" in text for text in words) == 1
    assert sum("server adds noise, no guarantee against the server, target ε 5" in text for text in words) == 1
    assert not any("≤" in text for text in facets | words)


def test_the_run_above_its_target_is_called_that(runs: list[RunRecord], found: Study) -> None:
    above = next(r for r in runs if r.algorithm == "fedavg" and r.config["privacy"]["kind"] == "sample_level")
    assert above.privacy is not None
    assert above.privacy.attempts == 2
    epsilon = above.privacy.epsilon("server")
    assert epsilon is not None
    assert epsilon > 3
    assert exceeded(above.privacy, above.config["privacy"]).startswith("Above the target of 3 against the server")
    assert all(not exceeded(r.privacy, r.config["privacy"]) for r in runs if r.privacy and r is not above)
    caveats = opening(found, compare(found), SCENARIO, 0).caveats
    (said,) = [text for text in caveats if text.startswith("Above their target")]
    number = float(said.split("the ledger proves ε ≤ ")[1].split()[0])
    assert epsilon <= number < epsilon + 0.01


def test_nothing_is_said_to_hold_where_nothing_does(runs: list[RunRecord], found: Study) -> None:
    table = {(row[0].split(" · ")[0], row[2], row[3]): row[4] for row in guarantee_table(found).rows}
    assert (
        table["AutoFLIP", "target ε 3", "the server"] == table["AutoFLIP", "target ε 3", "the public"] == "no guarantee"
    )
    assert table["FedAvg", "target ε 5", "the server"] == "no guarantee"
    assert float(table["FedAvg", "target ε 5", "the public"]) <= 5
    frame = tidy(runs).drop_duplicates("cell")
    rows = frame.set_index(["algorithm", "privacy"])[["guarantee.server", "guarantee.public"]]
    assert rows.loc[("autoflip", "single samples, no guarantee, target ε 3")].tolist() == ["no", "no"]
    assert rows.loc[
        ("fedavg", "whole clients, server adds noise, no guarantee against the server, target ε 5")
    ].tolist() == ["no", "yes"]
    (said,) = [text for text in opening(found, compare(found), SCENARIO, 0).answer if "What privacy costs" in text]
    assert "AutoFLIP, single samples" in said
    assert "% with noise but no guarantee" in said


def test_amplified_bounds_name_what_they_rest_on(runs: list[RunRecord]) -> None:
    for record in runs:
        assert record.privacy is not None
        for sentence in proven_sentences(record.privacy):
            if "ε ≤" in sentence:
                secret = (
                    "samples are in which batch" if record.privacy.unit == "sample" else "takes part in which round"
                )
                assert secret in sentence


def test_trackers_get_what_is_proven_beside_the_target(runs: list[RunRecord]) -> None:
    for record in runs:
        item = track(record)
        assert item.parameters["privacy.target_epsilon"] in ("3.0", "5.0")
        assert record.privacy is not None
        for observer in (g.observer for g in record.privacy.guarantees):
            said, epsilon = (
                item.tags[f"autoflip.guarantee.{observer.replace(' ', '_')}"],
                record.privacy.epsilon(observer),
            )
            if epsilon is None:
                assert said == "no guarantee"
            else:
                assert float(said.removeprefix("ε ≤ ").split()[0]) >= epsilon
                assert f"against {who(observer)}, neighbours: " in said
                assert "δ = " in said
