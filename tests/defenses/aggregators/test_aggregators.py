"""Rival aggregators against byzfl, and the properties that all of them share."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from byzfl import GeometricMedian as ByzGeometricMedian
from byzfl import Krum as ByzKrum
from byzfl import Median as ByzMedian
from byzfl import MultiKrum as ByzMultiKrum
from byzfl import TrMean as ByzTrMean
from hypothesis import assume, given, settings
from torch import nn

from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.interfaces import Aggregator, RoundView
from autoflip_secure.models.layout import Layout

LAYOUT = Layout.of(nn.Linear(6, 3))
P = LAYOUT.size
ALL: list[Aggregator] = [
    Mean(),
    Median(),
    TrimmedMean(),
    Krum(),
    MultiKrum(),
    GeometricMedian(),
    CenteredClipping(),
]


def view(updates: torch.Tensor, samples: torch.Tensor | None = None) -> RoundView:
    n = len(updates)
    return RoundView(
        round=1,
        clients=torch.arange(n),
        samples=torch.ones(n) if samples is None else samples,
        updates=updates,
        weights=torch.zeros(P),
        mask=torch.ones(P, dtype=torch.bool),
        guidance=None,
        layout=LAYOUT,
        shrinkage=torch.zeros(n),
    )


def step(aggregator: Aggregator, updates: torch.Tensor, samples: torch.Tensor | None = None) -> torch.Tensor:
    return aggregator.aggregate(
        aggregator.start(LAYOUT, torch.zeros(P), len(updates), None), view(updates, samples)
    ).delta


@pytest.mark.parametrize("n", [5, 6, 11])
def test_equal_to_byzfl(n: int) -> None:
    updates = torch.randn(n, P, generator=torch.Generator().manual_seed(n))
    malicious = round(0.2 * n)
    for ours, theirs in [
        (Median(), ByzMedian()),
        (TrimmedMean(), ByzTrMean(f=malicious)),
        (Krum(), ByzKrum(f=malicious)),
        (MultiKrum(), ByzMultiKrum(f=malicious)),
    ]:
        expected = theirs(updates.clone())
        if isinstance(ours, Median) and n % 2 == 0:
            expected = torch.from_numpy(np.median(updates.numpy(), 0))  # torch's median takes the lower of two
        torch.testing.assert_close(step(ours, updates), expected, atol=1e-5, rtol=1e-4)


def test_geometric_median_equals_byzfl_when_both_converge() -> None:
    updates = torch.randn(7, P, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        step(GeometricMedian(steps=500), updates), ByzGeometricMedian(nu=1e-6, T=500)(updates), atol=1e-4, rtol=1e-3
    )


def test_centered_clipping_by_hand() -> None:
    updates = torch.zeros(3, P)
    updates[0, 0], updates[1, 0], updates[2, 0] = 1.0, 2.0, 100.0
    assert float(step(CenteredClipping(), updates)[0]) == pytest.approx((1 + 2 + 2) / 3)


def test_mean_weights_with_numbers_of_samples() -> None:
    updates = torch.stack([torch.zeros(P), torch.ones(P)])
    assert float(step(Mean(), updates, torch.tensor([1.0, 3.0]))[0]) == 0.75


@pytest.mark.parametrize("aggregator", ALL, ids=lambda a: a.kind)
@given(st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_shared_properties(aggregator: Aggregator, clients: int, seed: int) -> None:
    assume(clients >= 5 or not isinstance(aggregator, MultiKrum))  # below, mutual neighbours tie
    draw = torch.Generator().manual_seed(seed)
    updates = torch.randn(clients, P, generator=draw)
    result = aggregator.aggregate(aggregator.start(LAYOUT, torch.zeros(P), clients, None), view(updates))
    assert float(result.trust.sum()) == pytest.approx(1, abs=1e-5)
    assert (result.trust >= 0).all()
    order = torch.randperm(clients, generator=draw)
    torch.testing.assert_close(step(aggregator, updates[order]), result.delta, atol=1e-4, rtol=1e-3)
    same = updates[:1].expand(clients, -1).clone()
    expected = same[0]
    torch.testing.assert_close(step(aggregator, same), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("aggregator", ALL, ids=lambda a: a.kind)
def test_one_huge_client_moves_the_mean_and_nobody_else(aggregator: Aggregator) -> None:
    updates = torch.ones(5, P) + 0.01 * torch.randn(5, P, generator=torch.Generator().manual_seed(0))
    updates[3] = 1e4
    far = float((step(aggregator, updates) - 1).abs().max())
    assert far > 100 if isinstance(aggregator, Mean) else far < 2
