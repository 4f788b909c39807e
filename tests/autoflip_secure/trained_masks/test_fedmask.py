"""FedMask in the reading of SenSys, one client and one coordinate after the other, against the engine."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from math import ceil, log, sqrt
from statistics import fmean
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from digits_cells import PROBLEM, X, Y, cell
from hand_masks import MaskByHand
from seen_rounds import watched
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import ClientJob, RoundRule, Scoring, TrainingSchedule
from autoflip_secure.local_rules.one_shot import OneShot
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.fedmask import FedMask
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

LAYOUT, CLIENTS = PROBLEM.layout, 10
HELD = replace(
    PROBLEM,
    clients=tuple(rows[6 + k % 3 :] for k, rows in enumerate(PROBLEM.clients)),
    held_out=tuple(rows[: 6 + k % 3] for k, rows in enumerate(PROBLEM.clients)),
)
SCHEDULE = TrainingSchedule(lr=0.5, epochs=2, batch_size=16)
PRUNER, RULE = FedMask(tuning_epochs=2, tuning_lr=0.05), OneShot(sparsity=0.4, strength=2.0, target_density=0.3)
SCORED = LAYOUT.where(LAYOUT["1.weight"], LAYOUT["3.weight"])
COUNT = 32 * 64 + 16 * 32
HEADER = 13


def fedmask(name: str = "fedmask", seed: int = 0, **protocol: Any) -> Cell:
    settings = {"pruner": PRUNER, "local_rule": RULE, "aggregator": Mean(weighting="equal"), "training": SCHEDULE,
                "evaluation": "personal", "rounds": 4, "cohort": 4}  # fmt: skip
    return replace(cell(name, seed, **{**settings, **protocol}), problem=HELD)


class Oracle:
    """Everything that server and clients hold."""

    def __init__(self, one: Cell) -> None:
        self.cell, self.theta = one, PROBLEM.initial.clone()
        for number, segment in enumerate(LAYOUT):
            if segment.name in ("1.weight", "3.weight"):
                coins = torch.rand(
                    segment.stop - segment.start, generator=generator(0, Purpose.FROZEN_WEIGHTS, 0, number)
                )
                scale = sqrt(2 / segment.shape[1])
                self.theta[segment.slice] = torch.where(coins < 0.5, scale, -scale)
        self.own: dict[int, Tensor] = {}  # scores, and weights of what is personal
        self.structure: dict[int, Tensor] = {}
        self.known: dict[int, float] = {}  # coordinate -> a_j

    def start(self, client: int) -> Tensor:
        """What training begins from."""
        if client not in self.own:
            return torch.where(SCORED, 0.0, PROBLEM.initial)
        values = self.own[client].clone()
        for j, mean in self.known.items():
            if self.structure[client][j]:
                a = min(max(mean, 0.02), 0.98)
                values[j] = log(a / (1 - a))
        return values

    def round(self, round_: int) -> tuple[int, int]:
        """One round; bytes up and down."""
        sent: dict[int, Tensor] = {}
        up = down = 0
        known = torch.tensor([j in self.known for j in range(LAYOUT.size)])
        for client in self.cell.cohort(round_).tolist():
            fresh, rows = client not in self.own, HELD.clients[client]
            held = torch.ones(LAYOUT.size, dtype=torch.bool) if fresh else self.structure[client]
            down += HEADER + (
                0 if fresh else ceil(int((held & SCORED).sum()) / 8) + 4 * int((held & SCORED & known).sum())
            )
            job = ClientJob(
                self.start(client), rows, PROBLEM.y_train[rows], 0, (round_, client), None if fresh else held,
                rule=RoundRule(RULE, round_, 4), scoring=Scoring(PRUNER, self.theta),
            )  # fmt: skip
            self.own[client], self.structure[client] = MaskByHand(
                PROBLEM.module, LAYOUT, PROBLEM.x_train, job, SCHEDULE
            ).run()
            sent[client] = self.own[client].sigmoid() >= 0.5
            up += HEADER + ceil((int((self.structure[client] & SCORED).sum()) + COUNT * fresh) / 8)
        for j in SCORED.nonzero().flatten().tolist():
            holders = [k for k in sent if self.structure[k][j]]
            if len(holders) >= 2:
                self.known[j] = fmean(float(sent[k][j]) for k in holders)
        return up, down

    def model(self, client: int) -> tuple[Tensor, Tensor]:
        """Weights and mask of a client's own model."""
        start = self.start(client)
        held = self.structure.get(client, torch.ones(LAYOUT.size, dtype=torch.bool))
        live = held & (~SCORED | (start.sigmoid() >= 0.5))
        return torch.where(SCORED, self.theta, start) * live, live

    def tuned(self, client: int) -> Tensor:
        """After two more epochs of plain steps on what is live."""
        weights, live = self.model(client)
        rows, order = HELD.clients[client], generator(0, Purpose.BATCHES, 5, client)
        net = copy.deepcopy(PROBLEM.module)
        for _ in range(2):
            for batch in torch.randperm(len(rows), generator=order).split(16):
                LAYOUT.load(net, weights)
                net.zero_grad()
                F.cross_entropy(net(PROBLEM.x_train[rows[batch]]), PROBLEM.y_train[rows[batch]]).backward()
                weights = weights - 0.05 * live * LAYOUT.flatten({n: p.grad for n, p in net.named_parameters()})  # type: ignore[misc]
        return weights

    def tested(self, client: int, weights: Tensor) -> tuple[float, float]:
        """Accuracy and loss on rows of its own that it never trains on."""
        net, rows = copy.deepcopy(PROBLEM.module), HELD.held_out[client]
        LAYOUT.load(net, weights)
        with torch.no_grad():
            scores, labels = net(PROBLEM.x_train[rows]), PROBLEM.y_train[rows]
            return float((scores.argmax(1) == labels).float().mean()), float(F.cross_entropy(scores, labels))


@pytest.mark.parametrize("kind", ["stacked", pytest.param("sequential", marks=pytest.mark.slow)])
def test_every_round_is_that_of_the_reading(kind: str) -> None:
    one = fedmask()
    (record, seen), oracle = watched(one, kind), Oracle(one)
    for round_, entry in enumerate(record.rounds, 1):
        up, down = oracle.round(round_)
        state = seen.states[round_]
        assert state.scored is not None
        means = torch.tensor([oracle.known.get(j, 0.5) for j in range(LAYOUT.size)])
        assert float((state.weights - means)[SCORED].abs().gt(1e-6).float().mean()) < 0.005  # a score near 0 may round
        assert set((state.scored.known & SCORED).nonzero().flatten().tolist()) == set(oracle.known)
        assert entry.bytes.uplink_values == up
        assert entry.bytes.downlink_values == down
        models = [oracle.model(k) for k in range(CLIENTS)]
        weights = [model for model, _ in models] if round_ < 4 else [oracle.tuned(k) for k in range(CLIENTS)]
        assert entry.personal is not None
        accuracies, losses = zip(*(oracle.tested(k, own) for k, own in enumerate(weights)), strict=True)
        assert entry.personal.mean == pytest.approx(fmean(accuracies), abs=0.04)
        assert entry.test_loss == pytest.approx(fmean(losses), rel=0.01)
    assert len({k for entry in record.rounds for k in entry.participants}) > 6
    assert record.mask is None
    live = [fmean(int(mask[one.slice].sum()) for _, mask in models) for one in LAYOUT if one.kind == "weight"]
    assert [layer.live_weights for layer in record.layers] == pytest.approx(live, abs=5)
    assert record.client_state is not None
    assert record.client_state.bytes_per_client == {"mask": ceil(LAYOUT.size / 8), "trained": 4 * LAYOUT.size}
    assert "after the last round: clients train their live weights" in record.pipeline
    spent, rounds = record.costs.flops.sparse, [entry.flops.sparse for entry in record.rounds]
    assert spent is not None
    assert spent > sum(one for one in rounds if one is not None)  # tuning is counted


@pytest.mark.slow
def test_structures_are_cut_once_and_bits_alone_travel_whatever_attackers_want() -> None:
    attack = SignFlip(scale=1e6, scope=0.3)
    record, seen = watched(fedmask(attack=attack, rounds=3))
    for before, sent in zip(seen.states, seen.sent, strict=False):
        bits = (sent + before.weights)[:, SCORED][sent[:, SCORED] != 0]
        assert bool(((bits - bits.round()).abs() < 1e-6).all())
        assert not bool(sent[:, ~SCORED].any())
    densities = [entry.density for entry in record.rounds]
    assert all(0 < density <= 0.6 for density in densities)
    assert record.personal is not None
    assert not set(record.personal.clients) & set(record.malicious_clients)


def test_what_one_client_alone_holds_does_not_move() -> None:
    _, seen = watched(fedmask(cohort=1, rounds=2))
    for state in seen.states:
        assert state.scored is not None
        assert torch.equal(state.weights, seen.states[0].weights)
        assert not bool((state.scored.known & SCORED).any())


@pytest.mark.slow
def test_the_view_of_all_masks_is_theta_where_most_clients_want_it() -> None:
    _, seen = watched(fedmask(rounds=2))
    last, theta = seen.states[-1], Oracle(fedmask()).theta
    torch.testing.assert_close(last.model[SCORED], (theta * (last.weights >= 0.5))[SCORED])
    assert torch.equal(last.model[~SCORED], PROBLEM.initial[~SCORED])


@pytest.mark.slow
def test_who_diverges_keeps_what_it_had() -> None:
    wild = SCHEDULE.model_copy(update={"lr": 1e30, "weight_decay": 1.0})
    record, seen = watched(fedmask(training=wild, rounds=2, attack=GaussianNoise(scope=0.2)))
    assert all(entry.rejected == entry.participants for entry in record.rounds)
    assert torch.equal(seen.states[-1].weights, seen.states[0].weights)


@pytest.mark.slow
def test_it_serves_clients_of_two_digits_well() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                               nn.Linear(64, 10))  # fmt: skip
    layout = Layout.of(module)
    of_two = [[i for i in range(1400) if int(Y[i]) in (k, (k + 3) % 10)] for k in range(CLIENTS)]
    problem = replace(
        PROBLEM, module=module, layout=layout, units=Chain.of(module, X[:1]), initial=layout.vector(module),
        x_train=X[:1400], y_train=Y[:1400], x_test=X[1400:], y_test=Y[1400:],
        clients=tuple(torch.tensor(rows[k % 4 :: 4]) for k, rows in enumerate(of_two)),
        held_out=tuple(torch.tensor(rows[(k + 1) % 4 :: 4]) for k, rows in enumerate(of_two)),
    )  # fmt: skip
    schedule = TrainingSchedule(optimizer="adam", lr=0.1, epochs=3, batch_size=16)
    options: Mapping[str, Any] = {"training": schedule, "rounds": 8, "cohort": 5, "evaluate_every": 8}
    one = replace(fedmask(pruner=FedMask(), local_rule=OneShot(), **options), problem=problem)
    (record,) = run_cells([one], choose_trainer(module, layout, X[:1]))
    assert record.final_accuracy > 0.85
