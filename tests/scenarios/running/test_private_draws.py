"""Releases that are counted as independent are: across cells, across attempts, and whoever knows what."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sizes import every
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.privacy import PrivacyRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.fingerprints import own_source, read_by
from autoflip_secure.scenarios.store.ledgers import (
    attempts_at,
    conditions,
    ledger_file,
    under_conditions,
    write_attempts,
)
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.seeds import PrivateDraws, Purpose

SAMPLES = {"kind": "sample_level", "clip": 1.0}
CLIENTS = {"kind": "client_level", "clip": 1.0}


class Rows(Watcher):
    """What the server receives: round -> client -> row; round 0 is the exploration."""

    def __init__(self) -> None:
        self.found: dict[int, dict[int, Tensor]] = {}

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        self.found[0] = dict(zip(clients.tolist(), sent, strict=True))

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.found[after.round] = dict(zip(clients.tolist(), sent, strict=True))


def scenario(**settings: Any) -> LoadedScenario:
    base: dict[str, Any] = {
        "clients": 6, "cohort": 3, "rounds": 1, "seeds": [31], "model": {"kind": "mlp", "hidden": [16]},
        "training": {"batch_size": 16, "epochs": 1}, "exploration": {"epochs": 1}, "algorithm": "fedavg",
    }  # fmt: skip
    return resolve(Document("here", {**base, **settings}))


def cell_of(under: str = "", **settings: Any) -> Cell:
    spec = replace(scenario(**settings).cells[0], conditions=under)
    return CellBuilder().cell(spec, spec, torch.device("cpu"))


def rows_of(cell: Cell, **settings: Any) -> Rows:
    spec, rows = scenario(**settings).cells[0], Rows()
    watch_cells([cell], CellBuilder().trainer(spec), rows)
    return rows


def cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def test_the_difference_of_two_attempts_has_the_noises_size() -> None:
    """One sample changed in between, everything else the same: nobody's noise cancels."""
    settings: dict[str, Any] = {"privacy": {**SAMPLES, "target_epsilon": 2}, "cohort": 6}
    first = cell_of("data 1", **settings)
    changed = first.problem.x_train.clone()
    owner = 4
    changed[first.problem.clients[owner][0]] += 1
    problem = replace(first.problem, x_train=changed)
    again, kept = replace(first, problem=problem, conditions="data 2"), replace(first, problem=problem)
    one, two, same = (rows_of(cell, **settings).found[1] for cell in (first, again, kept))
    steps = -(-len(first.problem.clients[0]) // 16)
    size = first.protocol.training.lr * first.noise_multipliers[0] / 16 * steps**0.5  # of the noise in one row
    for client in range(6):
        difference = (one[client] - two[client]).numpy()
        assert difference.std() == pytest.approx(2**0.5 * size, rel=0.15)
        if client != owner:  # as it was: the same address, and all that is left is what changed
            assert torch.equal(one[client], same[client])


@pytest.mark.parametrize("kind", ["sample_level", "client_level"])
def test_cells_of_one_sweep_share_no_noise(kind: str) -> None:
    """Rows of one client at targets 8 and 4 cannot be combined into what they hide."""
    extra = {"noise": "distributed"} if kind == "client_level" else {}
    settings: dict[str, Any] = {"cohort": 6, "algorithm": "autoflip"}
    both = [
        {**settings, "privacy": {"kind": kind, "clip": 1.0, "noise_multiplier": sigma, **extra}} for sigma in (2.0, 4.0)
    ]
    cells = [cell_of(**one) for one in both]
    weak, strong = (rows_of(cell, **one).found for cell, one in zip(cells, both, strict=True))
    assert torch.equal(cells[0].problem.initial, cells[1].problem.initial)
    for round_ in (0, 1):
        for client in range(6):
            assert abs(cosine(weak[round_][client], strong[round_][client])) < 0.15  # was 0.99: nearly all is noise
            left = 2 * weak[round_][client] - strong[round_][client]  # was free of noise
            assert float(left.std()) > float(strong[round_][client].std())


def test_what_a_guarantee_rests_on_is_drawn_for_each_cell_and_each_condition() -> None:
    cells = [
        cell_of(under, rounds=40, clients=20, privacy={**CLIENTS, "noise_multiplier": sigma}, sampling=sampling)
        for under, sigma, sampling in (("a", 2, "fixed"), ("b", 2, "fixed"), ("a", 3, "fixed"), ("a", 2, "poisson"))
    ]
    drawn = [[tuple(cell.cohort(number).tolist()) for number in range(1, 41)] for cell in cells]
    for one, other in combinations(drawn, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 5
    assert all(len(set(cohort)) == 3 for cohort in drawn[0])
    came = np.bincount([k for cohort in drawn[0] for k in cohort], minlength=20)
    assert stats.chisquare(came).pvalue > 1e-3


@pytest.mark.parametrize("privacy", ["none", {**SAMPLES, "noise_multiplier": 2.0}])
def test_everything_else_stays_paired(privacy: Any) -> None:
    attack = {"kind": "label_flip", "scope": 0.5}
    one, other = (cell_of(u, privacy=privacy, attack=attack, algorithm=a) for u, a in (("a", "fedavg"), ("b", "krum")))
    assert torch.equal(one.malicious_clients, other.malicious_clients)
    assert torch.equal(one.problem.initial, other.problem.initial)
    for round_ in range(1, 10):
        assert torch.equal(one.cohort(round_), other.cohort(round_))
    for mine, theirs in zip(one.problem.clients, other.problem.clients, strict=True):
        assert torch.equal(mine, theirs)


def test_the_conditions_of_a_private_cell_are_software_processor_and_data() -> None:
    private, bare = (scenario(privacy=p) for p in ({**SAMPLES, "noise_multiplier": 2.0}, "none"))
    blocks = list(plan(private).blocks)
    (named,) = read_by(blocks[0].cells[0].settings)
    one, other = (under_conditions(blocks, {named: digest})[0].cells[0].conditions for digest in ("1", "2"))
    assert one != other
    assert json.loads(one)["versions"] == conditions()
    assert {"torch", "numpy", "kernels", "processor", "opacus"} <= conditions().keys()
    assert conditions()["source"] == own_source()
    assert under_conditions(plan(bare).blocks, {named: "1"})[0].cells[0].conditions == ""
    chosen = plan(scenario(privacy={**SAMPLES, "target_epsilon": 4.0, "accountant": "pld"}))
    assert "dp-accounting" in json.loads(under_conditions(chosen.blocks, {})[0].cells[0].conditions)["versions"]


def test_addresses_have_their_own_state_of_more_than_a_hundred_bits() -> None:
    draws = PrivateDraws.of(7, "cell", "conditions")
    streams = [draws.generator(Purpose.DP_NOISE, 1, client).standard_normal(20_000) for client in range(4)]
    streams += [PrivateDraws.of(7, "cell", "other").generator(Purpose.DP_NOISE, 1, 0).standard_normal(20_000)]
    streams += [PrivateDraws.of(8, "cell", "conditions").generator(Purpose.DP_NOISE, 1, 0).standard_normal(20_000)]
    streams += [draws.generator(Purpose.POISSON, 1, 0).standard_normal(20_000)]
    correlations = np.corrcoef(streams)[np.triu_indices(len(streams), 1)]
    assert np.abs(correlations).max() < 0.03
    assert all(stats.kstest(stream, "norm").pvalue > 1e-4 for stream in streams)
    again = draws.generator(Purpose.DP_NOISE, 1, 0).standard_normal(20_000)
    assert np.array_equal(again, streams[0])
    assert not np.array_equal(again, again.astype(np.float32))  # in double, whose normals do not end at 5.8
    state = draws.generator(Purpose.DP_NOISE, 1, 0).bit_generator.state["state"]
    assert all(int(word) > 2**32 for word in [*state["key"], *state["counter"]])


def test_parts_of_a_key_do_not_run_together() -> None:
    keys = [PrivateDraws.of(1, *parts).key for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""))]
    assert len({*keys, PrivateDraws.of(11, "c").key, PrivateDraws.of(1, "1c").key}) == 6
    assert "key" not in repr(PrivateDraws.of(1))


def quiet() -> Listener:
    return Listener(lambda *_: None, lambda text: None)


def steps(record: PrivacyRecord) -> int:
    return sum(release.steps for release in record.guarantees[0].releases)


@pytest.mark.parametrize("kind", every(2, ["client_level", "sample_level"]))
def test_noise_of_the_operating_system_is_new_every_time_and_every_attempt_counts(kind: str, tmp_path: Path) -> None:
    privacy = {"kind": kind, "clip": 1.0, "noise_multiplier": 2.0, "noise_source": "system"}
    work = plan(scenario(privacy=privacy, rounds=2, cohort=6))
    first = run_sweep(work, tmp_path, 1, quiet()).records[0]
    assert first.privacy is not None
    assert any("cannot be repeated bit for bit" in note for note in first.privacy.notes)
    (tmp_path / "cells" / f"{first.cell}.json").unlink()
    second = run_sweep(work, tmp_path, 1, quiet()).records[0]
    assert second.privacy is not None
    assert second.rounds != first.rounds
    assert second.privacy.attempts == 2
    assert steps(second.privacy) == 2 * steps(first.privacy)
    assert read_record(tmp_path / "cells" / f"{first.cell}.json") == second
    cell = cell_of(privacy=privacy)
    assert torch.equal(cell.cohort(1), cell.cohort(1))  # training and ledger know the same


def test_another_source_under_the_same_version_draws_anew_and_counts(tmp_path: Path) -> None:
    """What the ledger says was planned then, the record may count otherwise, and says so."""
    work = plan(scenario(privacy={**SAMPLES, "noise_multiplier": 2.0}, rounds=2, cohort=6))
    first = run_sweep(work, tmp_path, 1, quiet()).records[0]
    (tmp_path / "cells" / f"{first.cell}.json").unlink()
    path = ledger_file(tmp_path, first.cell)
    (attempt,) = attempts_at(path)
    assert attempt["versions"]["source"] == own_source()
    attempt["versions"]["source"] = "before an edit"
    planned = [{**row, "steps": row["steps"] + 1} for row in attempt["planned"]]
    found = {}
    for name, rows in (("alike", attempt["planned"]), ("otherwise", planned)):
        folder = tmp_path.parent / name
        shutil.copytree(tmp_path, folder)
        write_attempts(ledger_file(folder, first.cell), [{**attempt, "planned": rows}])
        found[name] = run_sweep(work, folder, 1, quiet()).records[0]
        record = found[name].privacy
        assert record is not None
        assert first.privacy is not None
        assert record.attempts == 2
        assert steps(record) == 2 * steps(first.privacy)
        assert any("planned otherwise" in note for note in record.notes) == (name == "otherwise")
    assert found["alike"].rounds == found["otherwise"].rounds == first.rounds  # under the conditions of now, as before


def test_the_ledger_counts_the_cohorts_that_each_attempt_really_had() -> None:
    """Secret cohorts differ from attempt to attempt; a server that sees rows learns from a client each time it came."""
    privacy = {**CLIENTS, "noise": "distributed", "noise_multiplier": 4.0}
    settings: dict[str, Any] = {"privacy": privacy, "rounds": 8}
    first, second = (cell_of(under, **settings) for under in ("a", "b"))
    both = ledger(second, 2, [first])
    assert both is not None
    (server,) = (g for g in both.guarantees if g.observer == "server")
    for client in range(6):
        came = sum(client in cell.cohort(n).tolist() for cell in (first, second) for n in range(1, 9))
        assert sum(r.steps for r in server.releases if r.client == client) == came
    alone = ledger(second)
    assert alone is not None
    assert (both.epsilon("server") or 0) > (alone.epsilon("server") or 0)
