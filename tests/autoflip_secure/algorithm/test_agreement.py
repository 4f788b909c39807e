"""Agreement scores against a slow server written with plain numbers, and against what they are for."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sizes import sized
from slow_servers import SlowAgreement
from torch import nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.agreement_statistics import STATISTICS
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.interfaces import Guidance, RoundView
from autoflip_secure.models.layout import Layout

LAYOUT = Layout.of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
P = LAYOUT.size
CLIENTS = 8


def view(updates: torch.Tensor, clients: list[int], round_: int = 1, energy: torch.Tensor | None = None) -> RoundView:
    energy = torch.linspace(0.01, 1, P) if energy is None else energy
    return RoundView(
        round=round_,
        clients=torch.tensor(clients),
        samples=torch.tensor([10.0 + k for k in clients]),
        updates=updates,
        weights=torch.ones(P),
        mask=torch.ones(P, dtype=torch.bool),
        guidance=Guidance(energy, torch.ones(P)),
        layout=LAYOUT,
        shrinkage=torch.zeros(len(clients)),
    )


@pytest.mark.parametrize("seed", range(6))
def test_composite_score_and_step_equal_the_slow_server_over_many_rounds(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    aggregator, slow = AgreementWeighted(), SlowAgreement(P)
    state = aggregator.start(LAYOUT, torch.ones(P), CLIENTS, None)
    energy = torch.rand(P, generator=draw)
    drift = torch.randn(P, generator=draw)
    for round_ in range(1, 9):
        clients = torch.randperm(CLIENTS, generator=draw)[:4].sort().values.tolist()
        updates = drift + 0.5 * torch.randn(4, P, generator=draw)
        updates[clients.index(max(clients))] *= 6  # one oversized client a round
        result = aggregator.aggregate(state, view(updates, clients, round_, energy))
        scores, step = slow.round(updates.double().tolist(), clients, energy.double().tolist())
        assert result.scores is not None
        assert result.scores.tolist() == pytest.approx(scores, abs=2e-4)
        assert result.delta.tolist() == pytest.approx(step, abs=2e-4)
        state = result.state


def test_nobody_filtered_and_nobody_clipped_is_fedavg_to_the_last_bit() -> None:
    updates = torch.randn(5, P, generator=torch.Generator().manual_seed(0)) * 0.01 + torch.ones(P)
    seen = view(updates, [0, 1, 2, 3, 4])
    aggregator = AgreementWeighted()
    ours = aggregator.aggregate(aggregator.start(LAYOUT, torch.ones(P), CLIENTS, None), seen)
    assert ours.scores is not None
    assert ours.scores.tolist() == [1] * 5
    assert torch.equal(ours.delta, Mean().aggregate(None, seen).delta)


@given(st.permutations(list(range(5))))
@settings(max_examples=20, deadline=None)
def test_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    updates = torch.randn(5, P, generator=torch.Generator().manual_seed(4))
    aggregator = AgreementWeighted()
    state = aggregator.start(LAYOUT, torch.ones(P), CLIENTS, None)
    straight = aggregator.aggregate(state, view(updates, list(range(5))))
    shuffled = aggregator.aggregate(state, view(updates[order], order))
    torch.testing.assert_close(shuffled.delta, straight.delta, atol=1e-5, rtol=1e-4)
    assert straight.scores is not None
    assert shuffled.scores is not None
    torch.testing.assert_close(shuffled.scores, straight.scores[order], atol=1e-4, rtol=1e-4)


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1e-20, 1e-3, 1.0, 1e6]))
@settings(max_examples=sized(13, 40), deadline=None)
def test_scores_are_in_the_unit_interval_and_trust_sums_to_one_or_zero(seed: int, clients: int, scale: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    aggregator = AgreementWeighted(statistics=tuple(STATISTICS))
    state = aggregator.start(LAYOUT, torch.ones(P), CLIENTS, None)
    for round_ in range(1, 4):
        updates = scale * torch.randn(clients, P, generator=draw)
        updates[0] *= torch.rand(1, generator=draw).round()  # sometimes a client that did not move
        result = aggregator.aggregate(state, view(updates, list(range(clients)), round_))
        assert result.scores is not None
        assert ((result.scores >= 0) & (result.scores <= 1)).all()
        total = float(result.trust.sum())
        assert total == pytest.approx(1, abs=1e-5) or (total == 0 and not result.delta.any())
        assert result.delta.isfinite().all()
        state = result.state


def test_a_noisy_client_is_filtered_and_without_the_defence_it_owns_the_step() -> None:
    draw = torch.Generator().manual_seed(0)
    energy = torch.rand(P, generator=draw) ** 4
    updates = energy.sqrt() * (1 + 0.1 * torch.randn(5, P, generator=draw))
    updates[2] += 20 * torch.randn(P, generator=draw)
    aggregator = AgreementWeighted()
    result = aggregator.aggregate(
        aggregator.start(LAYOUT, torch.ones(P), CLIENTS, None), view(updates, [0, 1, 2, 3, 4], energy=energy)
    )
    assert result.scores is not None
    assert float(result.scores[2]) == 0
    assert result.scores[[0, 1, 3, 4]].min() > 0.9
    honest = updates[[0, 1, 3, 4]].mean(0)
    assert (result.delta - honest).norm() < 0.1 * honest.norm()
    undefended = Mean().aggregate(None, view(updates, [0, 1, 2, 3, 4])).delta
    assert (undefended - honest).norm() > honest.norm()


PEERS = {
    "cosine_mean": lambda u, k: _cos(u[k], u.mean(0)),
    "cosine_others": lambda u, k: _cos(u[k], np.delete(u, k, 0).mean(0)),
    "cosine_median": lambda u, k: _cos(u[k], np.median(u, 0)),
    "cosine_pairwise": lambda u, k: np.mean([_cos(u[k], u[m]) for m in range(len(u)) if m != k]),
    "sign": lambda u, k: np.mean(np.sign(u[k]) == np.sign(np.sign(u).sum(0))),
    "landscape": lambda u, k: _cos(np.abs(u[k]), np.sqrt(np.linspace(0.01, 1, P))),
    "profile": lambda u, k: _profile(u[k], np.linspace(0.01, 1, P)),
    "size": lambda u, k: -math.log(np.linalg.norm(u[k])),
}


def _profile(u: np.ndarray, energy: np.ndarray) -> float:
    own, theirs = np.zeros(16), np.zeros(16)
    for place, j in enumerate(np.argsort(-energy)):
        own[place * 16 // P] += u[j] ** 2
        theirs[place * 16 // P] += energy[j]
    return float(np.sqrt(own / own.sum() * theirs / theirs.sum()).sum())


def _cos(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("length", [1.0, 1e3, 1e6, 1e12, 1e17], ids=lambda x: f"{x:g}")
@pytest.mark.parametrize("name", PEERS)
def test_single_statistics_equal_numpy(name: str, length: float) -> None:
    updates = torch.randn(5, P, generator=torch.Generator().manual_seed(9))
    updates[2] *= length
    aggregator = AgreementWeighted(statistics=(name,))
    result = aggregator.aggregate(
        aggregator.start(LAYOUT, torch.ones(P), CLIENTS, None), view(updates, [0, 1, 2, 3, 4])
    )
    expected = [PEERS[name](updates.double().numpy(), k) for k in range(5)]
    assert result.statistics[name].tolist() == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 10**6))
@settings(max_examples=sized(10, 25), deadline=None)
def test_profile_is_never_below_landscape(seed: int) -> None:
    """What a client can claim of its absolute values is therefore bounded by norms that it cannot choose freely."""
    draw = torch.Generator().manual_seed(seed)
    updates, energy = torch.randn(4, P, generator=draw), torch.rand(P, generator=draw) ** 5
    aggregator = AgreementWeighted(statistics=("profile", "landscape"))
    start = aggregator.start(LAYOUT, torch.ones(P), CLIENTS, None)
    seen = aggregator.aggregate(start, view(updates, [0, 1, 2, 3], energy=energy)).statistics
    assert bool((seen["profile"] >= seen["landscape"] - 1e-5).all())
    assert bool((seen["profile"] <= 1 + 1e-5).all())


def test_every_statistic_has_an_oracle() -> None:
    assert set(PEERS) | {"direction"} == set(STATISTICS)  # direction: by the slow server above
