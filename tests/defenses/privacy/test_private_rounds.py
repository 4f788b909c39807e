"""Rounds of the engine under client-level privacy, against the step by hand, with bad clients among the others."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells, watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.seeds import Purpose


class Notes(Watcher):
    """Keeps what went over the wire."""

    def __init__(self) -> None:
        self.rounds: list[tuple[ServerState, Tensor, Tensor, ServerState]] = []
        self.explored: Tensor | None = None

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        self.explored = sent

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.rounds.append((before, clients, sent, after))


def cell_of(**settings: Any) -> tuple[Cell, Any]:
    document = {"clients": 10, "cohort": 4, "rounds": 4, "seeds": [21], "model": {"kind": "mlp", "hidden": [8]}}
    scenario = resolve(Document("here", {**document, **settings}))
    builder = CellBuilder()
    trainer = builder.trainer(scenario.cells[0])
    return builder.cell(scenario.cells[0], scenario.cells[0], torch.device("cpu")), trainer


def test_the_published_step_is_the_clipped_sum_and_noise_over_the_expected_cohort() -> None:
    privacy = {"kind": "client_level", "clip": 0.3, "noise_multiplier": 0.2}
    cell, trainer = cell_of(algorithm="fedavg", sampling="poisson", privacy=privacy)
    notes = Notes()
    (record,) = run_cells([cell], trainer, watch=notes)
    sizes = set()
    for number, (before, clients, sent, after) in enumerate(notes.rounds, 1):
        assert (sent.norm(dim=1) <= 0.3).all()
        drawn = cell.draws.generator(Purpose.SERVER_NOISE, number).standard_normal(sent.shape[1])
        noise = torch.from_numpy(drawn).float()
        step = (sent.sum(0) + 0.2 * 0.3 * noise) / 4  # 4 are expected, whoever came
        assert torch.allclose(after.weights - before.weights, step, atol=1e-6)
        sizes.add(len(clients))
    assert len(sizes) > 1
    assert "add noise to the sum (the server)" in record.pipeline


def test_poisson_cohorts_are_drawn_one_client_at_a_time() -> None:
    cell, _ = cell_of(sampling="poisson", rounds=400)
    came = torch.zeros(400, 10)
    for round_ in range(1, 401):
        came[round_ - 1, cell.cohort(round_)] = 1
    assert came.mean() == pytest.approx(0.4, abs=0.03)
    assert stats.chisquare(came.sum(0).numpy()).pvalue > 1e-3
    assert came.sum(1).var() == pytest.approx(10 * 0.4 * 0.6, rel=0.3)  # a fixed cohort would have none


def test_a_cohort_of_nobody_is_noise_alone_and_still_published() -> None:
    privacy = {"kind": "client_level", "clip": 1.0, "noise_multiplier": 1.0}
    cuts = {"kind": "taylor", "every": 1, "until": 1.0, "bound": 0.1}  # by reports: of nobody, they are noise too
    algorithm = {"name": "own", "pruner": cuts, "aggregator": "mean"}
    cell, trainer = cell_of(algorithm=algorithm, sampling="poisson", privacy=privacy, clients=10, cohort=1, rounds=8)
    (record,) = run_cells([cell], trainer)
    alone = [r for r in record.rounds if not r.participants]
    assert alone
    assert all(r.step_norm > 0 for r in alone)
    assert len({r.density for r in record.rounds}) >= 4


@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_guidance_learns_from_the_step_where_the_proof_is_about_the_sum(noise: str) -> None:
    """Masks are published: made of single rows, each with its share of the noise, they would tell more than the sum."""
    privacy = {"kind": "client_level", "clip": 1.0, "noise_multiplier": 0.0, "noise": noise}
    cell, trainer = cell_of(algorithm="guidance_only", privacy=privacy)
    notes = Notes()
    watch_cells([cell], trainer, notes)
    before, _, _, after = notes.rounds[0]
    assert before.guidance is not None
    assert after.guidance is not None
    step = (after.weights - before.weights) * before.mask
    expected = 0.9 * before.guidance.energy + 0.1 * step**2 / step.square().sum()
    assert torch.allclose(after.guidance.energy, expected, atol=1e-9)


def test_bad_clients_do_as_they_like() -> None:
    privacy = {"kind": "client_level", "clip": 0.1, "noise_multiplier": 0.01, "noise": "distributed"}
    attack = {"kind": "gaussian_noise", "sigma": 5.0, "scope": 0.3}
    cell, trainer = cell_of(algorithm="autoflip", privacy=privacy, attack=attack, cohort=8)
    assert isinstance(cell.protocol.attack, GaussianNoise)
    notes = Notes()
    watch_cells([cell], trainer, notes)
    for _, clients, sent, _ in notes.rounds:
        malicious = cell.malicious_clients[clients]
        assert (sent[malicious].norm(dim=1) > 10).all()
        assert (sent[~malicious].norm(dim=1) < 1).all()
    assert notes.explored is not None
    assert torch.equal(notes.explored.norm(dim=1) > 10, cell.malicious_clients)


def test_only_honest_clients_train_by_dp_sgd() -> None:
    privacy = {"kind": "sample_level", "clip": 0.5, "noise_multiplier": 1.0}
    cell, _ = cell_of(privacy=privacy, attack={"kind": "label_flip", "scope": 0.3, "window": {"first": 2, "last": 3}})
    assert all(cell.private_steps(k, 1) is not None for k in range(10))
    assert [cell.private_steps(k, 2) is None for k in range(10)] == cell.malicious_clients.tolist()
    steps = cell.private_steps(0, 1)
    assert steps is not None
    assert (steps.clip, steps.noise_multiplier) == (0.5, 1.0)


def test_bad_clients_vote_too() -> None:
    """The server sees who is long and who is short, and not who is malicious."""
    clip = {"start": 1.0, "lr": 1.0, "noise_multiplier": 1e-3}
    privacy = {"kind": "client_level", "clip": clip, "noise_multiplier": 1e-4}
    attack = {"kind": "gaussian_noise", "sigma": 100.0, "clients": [0, 1, 2]}
    cell, trainer = cell_of(algorithm="fedavg", privacy=privacy, attack=attack, cohort=10, rounds=1)
    notes = Notes()
    watch_cells([cell], trainer, notes)
    ((before, _, sent, after),) = notes.rounds
    long = (sent.norm(dim=1) > 0.999).sum()
    assert 3 <= long < 10
    share = (10 - float(long)) / 10
    assert log(after.privacy.clip / before.privacy.clip) == pytest.approx(-(share - 0.5), abs=2e-3)


def test_the_ledger_says_how_votes_are_counted() -> None:
    adaptive, _ = cell_of(
        algorithm="fedavg", privacy={"kind": "client_level", "clip": {"noise_multiplier": 4.0}, "noise_multiplier": 4.0}
    )
    plain, _ = cell_of(algorithm="fedavg", privacy={"kind": "client_level", "clip": 1.0, "noise_multiplier": 4.0})
    with_votes, without = ledger(adaptive), ledger(plain)
    assert with_votes is not None
    assert without is not None
    assert with_votes.guarantees == without.guarantees
    assert ["votes on the clip norm" in note for note in with_votes.notes] == [True]
    assert without.notes == []
