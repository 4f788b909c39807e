"""The server's learning rate and momentum against the recursion by hand, and where they must not reach."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from frozen_networks import cells, network, problem, trainer_for
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from autoflip_secure.algorithm.server_step import published_step, server_step
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.federation.cell import Cell, Problem
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Aggregate, Pruner, PruneView, RoundView, Window
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.records.run import RunRecord
from autoflip_secure.secure_rows.secret_rows import LocalRows
from autoflip_secure.secure_rows.secure_sum import (
    Revealed,
    SecureSum,
    SecureSumConfig,
    SharedBatch,
    Traffic,
)
from autoflip_secure.seeds import Purpose

WHOLE = problem(network(["1.weight"], norm=True))
DENSE = problem(network())
HEAVY = {"server_lr": 0.7, "server_momentum": 0.9}


class Rounds(Watcher):
    """Every state and every row, cell by cell."""

    def __init__(self) -> None:
        self.states: dict[str, list[ServerState]] = {}
        self.rows: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.rows.setdefault(cell.key, []).append((clients, sent))

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.states.setdefault(cell.key, []).append(state)


def watched(of: Problem, *protocols: dict[str, Any], connect: Any = None) -> tuple[Rounds, list[RunRecord]]:
    seen = Rounds()
    return seen, run_cells(cells(of, *protocols), trainer_for(of), watch=seen, connect=connect)


def mean_of(of: Problem, clients: Tensor, sent: Tensor) -> Tensor:
    """The mean of what is trained, the median of running statistics."""
    samples = torch.tensor([float(len(of.clients[k])) for k in clients.tolist()], dtype=torch.float64)
    mean, buffers = (samples / samples.sum()) @ sent.double(), of.layout.sent & ~of.layout.trained
    ordered, n = sent.double().sort(dim=0).values, len(sent)
    return torch.where(buffers, (ordered[(n - 1) // 2] + ordered[n // 2]) / 2, mean)


@pytest.mark.parametrize(("lr", "beta"), [(1.0, 0.9), (0.5, 0.0), (2.0, 0.5)])
def test_momentum_is_damped_and_for_trained_weights_alone(lr: float, beta: float) -> None:
    """A model with frozen weights and running statistics: these are medians, those stay."""
    seen, (record,) = watched(WHOLE, {"server_lr": lr, "server_momentum": beta, "rounds": 5})
    layout, states = WHOLE.layout, seen.states["0"]
    weights, v = WHOLE.initial.double(), torch.zeros(layout.size, dtype=torch.float64)
    for number, (clients, sent) in enumerate(seen.rows["0"]):
        step = mean_of(WHOLE, clients, sent)
        v = beta * v + (1 - beta) * step
        move = torch.where(layout.trained, lr * v, step)
        weights = weights + move
        torch.testing.assert_close(states[number + 1].weights.double(), weights, rtol=1e-4, atol=1e-6)
        assert torch.equal(states[number + 1].weights[layout.frozen], WHOLE.initial[layout.frozen])
        assert record.rounds[number].step_norm == pytest.approx(float(move[layout.trained].norm()), rel=1e-4)
    buffers = layout.sent & ~layout.trained
    assert bool((states[-1].weights[buffers] != WHOLE.initial[buffers]).any())
    assert (states[-1].momentum is None) == (beta == 0)
    assert "the step times the server's learning rate, with its momentum" in record.pipeline


def test_fedavgm_of_hsu_et_al_is_this_with_a_larger_learning_rate() -> None:
    """v <- beta v + Delta, w <- w + v."""
    seen, _ = watched(DENSE, {"server_lr": 1 / (1 - 0.6), "server_momentum": 0.6, "rounds": 4})
    weights, v = DENSE.initial.double(), torch.zeros(DENSE.layout.size, dtype=torch.float64)
    for state, (clients, sent) in zip(seen.states["0"][1:], seen.rows["0"], strict=True):
        v = 0.6 * v + mean_of(DENSE, clients, sent)
        weights = weights + v
        torch.testing.assert_close(state.weights.double(), weights, rtol=1e-4, atol=1e-5)


class Alternating(Pruner):
    """Prunes another half in every round, so that weights come back."""

    kind: Any = "alternating"

    def mask(self, view: PruneView) -> Tensor:
        return torch.arange(len(view.mask)) % 3 != view.round % 3


@pytest.mark.parametrize("pruner", [Alternating(), ThresholdMask(refine_every=1, refine_factor=1.0)])
def test_a_pruned_weight_loses_its_momentum(pruner: Pruner) -> None:
    seen, _ = watched(DENSE, {"pruner": pruner, "server_momentum": 0.9, "rounds": 6})
    states = seen.states["0"]
    for before, after, (clients, sent) in zip(states, states[1:], seen.rows["0"], strict=False):
        assert before.momentum is not None
        assert after.momentum is not None
        step = mean_of(DENSE, clients, sent) * before.mask
        torch.testing.assert_close(
            after.momentum.double(), (0.9 * before.momentum + 0.1 * step) * after.mask, rtol=1e-4, atol=1e-7
        )
        assert not after.weights[~after.mask].any()
    assert any(not torch.equal(a.mask, b.mask) for a, b in pairwise(states))


class Moody(Mean):
    """In round 2 it trusts nobody, in round 3 its step is absurd."""

    kind: Any = "moody"

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        found = super().aggregate(state, view)
        if view.round == 2:
            return replace(found, delta=torch.zeros_like(found.delta), trust=torch.zeros_like(found.trust))
        return replace(found, delta=found.delta + 1e25) if view.round == 3 else found


@pytest.mark.parametrize("odd", ["nobody is trusted, then the step is absurd", "nobody sends what is finite"])
def test_without_a_step_model_and_momentum_stay(odd: str) -> None:
    attack = GaussianNoise(sigma=1e30, scope=1.0, explorers=False, window=Window(first=2, last=3))
    how: dict[str, Any] = {"aggregator": Moody()} if odd.startswith("nobody is") else {"attack": attack}
    seen, (record,) = watched(DENSE, {**HEAVY, **how, "rounds": 4})
    _, one, two, three, four = seen.states["0"]
    for state in (two, three):
        assert torch.equal(state.weights, one.weights)
        assert state.momentum is not None
        assert one.momentum is not None
        assert torch.equal(state.momentum, one.momentum)
    assert [entry.step_norm > 0 for entry in record.rounds] == [True, False, False, True]
    assert one.momentum is not None
    step = mean_of(DENSE, *seen.rows["0"][-1])
    moved = 0.7 * (0.9 * one.momentum + 0.1 * step)
    torch.testing.assert_close((four.weights - three.weights).double(), moved, rtol=1e-3, atol=1e-6)


def test_a_trusted_server_accelerates_what_it_published_and_guidance_learns_from_that() -> None:
    """Post-processing: noise first, then learning rate and momentum. Guidance is of steps, whatever is made of them."""
    privacy = ClientLevel(clip=0.3, noise_multiplier=0.2)
    usual: dict[str, Any] = {"privacy": privacy, "pruner": ThresholdMask(threshold=0.0)}
    seen = Rounds()
    one, two = (replace(c, key="same", noise_multipliers=(0.2,) * 6) for c in cells(DENSE, usual, {**usual, **HEAVY}))
    runs = []
    for cell in (one, two):
        seen.states.clear(), seen.rows.clear()
        run_cells([cell], trainer_for(DENSE), watch=seen)
        runs.append((seen.states["same"], seen.rows["same"]))
    (plain, _), (states, rows) = runs
    v = torch.zeros(DENSE.layout.size, dtype=torch.float64)
    for number, (before, after, (_, sent)) in enumerate(zip(states, states[1:], rows, strict=False), 1):
        noise = torch.from_numpy(two.draws.generator(Purpose.SERVER_NOISE, number).standard_normal(sent.shape[1]))
        published = (sent.double().sum(0) + 0.2 * 0.3 * noise) / 3
        v = 0.9 * v + 0.1 * published
        torch.testing.assert_close((after.weights - before.weights).double(), 0.7 * v, rtol=1e-3, atol=1e-6)
    assert plain[1].guidance is not None
    assert states[1].guidance is not None
    assert torch.equal(plain[1].guidance.energy, states[1].guidance.energy)  # the first step is the same


class _Batch(LocalRows, SharedBatch):
    events, revealed = (), Revealed()

    def forget(self) -> None:
        """Nothing is kept elsewhere."""


class _Parties(SecureSum):
    parties = 2

    def share(self, rows: Tensor, clients: tuple[int, ...]) -> _Batch:
        return _Batch(rows, clients)

    @property
    def traffic(self) -> Traffic:
        return Traffic(0, 0, 0, 0)


def test_through_parties_it_is_the_same_run() -> None:
    secure = {"secure_sum": SecureSumConfig(parties=2, updates=True)}
    seen, _ = watched(DENSE, HEAVY, HEAVY | secure, connect=lambda config: _Parties())
    open_, shared = (seen.states[name][-1] for name in "01")
    torch.testing.assert_close(shared.weights, open_.weights, rtol=1e-4, atol=1e-6)


vectors = st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4)


@given(vectors, vectors, st.floats(0.01, 100), st.floats(0, 0.95))
def test_who_sees_models_works_the_step_out(step: list[float], momentum: list[float], lr: float, beta: float) -> None:
    delta, v = torch.tensor(step, dtype=torch.float64), torch.tensor(momentum, dtype=torch.float64)
    trained = torch.ones(4, dtype=torch.bool)
    before = None if beta == 0 else v
    moved, after = server_step(delta, before, trained, lr=lr, beta=beta)
    assert (after is None) == (beta == 0)
    if moved.any():
        torch.testing.assert_close(published_step(moved, before, lr=lr, beta=beta), delta, rtol=1e-6, atol=1e-6)
    assert not published_step(torch.zeros(4), before, lr=lr, beta=beta).any(), "a round without a step"
