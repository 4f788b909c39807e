"""Guidance: every normalisation by hand, the evolution by hand, and what both promise."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sklearn.preprocessing import MinMaxScaler, RobustScaler, quantile_transform
from torch import nn

from autoflip_secure.algorithm.guidance import NORMALISATIONS, evolve, normalise
from autoflip_secure.interfaces import Guidance
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.threshold import threshold_mask

LAYOUT = Layout.of(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))


def energy(seed: int = 0) -> torch.Tensor:
    return torch.rand(LAYOUT.size, generator=torch.Generator().manual_seed(seed)) ** 6


def oracle(kind: str, d: np.ndarray) -> np.ndarray:
    column = d[:, None]
    if kind == "sqrt_q99":
        s = np.sqrt(d)
        return np.clip((s - s.min()) / (np.quantile(s, 0.99) - s.min()), 0, 1)
    if kind == "minmax":
        return MinMaxScaler().fit_transform(column)[:, 0]
    if kind == "robust_scaler":
        return np.clip(RobustScaler().fit_transform(column)[:, 0], 0, 1)
    if kind == "log":
        return MinMaxScaler().fit_transform(np.log1p(column / d.mean()))[:, 0]
    if kind == "rank":
        return quantile_transform(column, n_quantiles=len(d), copy=True)[:, 0]
    return d / (d + d.mean())


@pytest.mark.parametrize("kind", NORMALISATIONS)
def test_normalisation_equals_its_oracle_per_tensor(kind: str) -> None:
    d = energy()
    guidance = normalise(d, LAYOUT, kind)
    for segment in LAYOUT.hidden:
        expected = oracle(kind, d[segment.slice].double().numpy())
        np.testing.assert_allclose(guidance[segment.slice].numpy(), expected, atol=2e-5)
    assert (guidance[~LAYOUT.prunable] == 1).all()


@pytest.mark.parametrize("kind", NORMALISATIONS)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), a=st.floats(0, 1), b=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_guidance_is_in_the_unit_interval_scale_free_and_masks_are_monotone(
    kind: str, seed: int, scale: float, a: float, b: float
) -> None:
    guidance = normalise(energy(seed), LAYOUT, kind)
    assert ((guidance >= 0) & (guidance <= 1)).all()
    torch.testing.assert_close(normalise(energy(seed) * scale, LAYOUT, kind), guidance, atol=1e-4, rtol=1e-4)
    loose, strict = (threshold_mask(guidance, LAYOUT, t) for t in sorted((a, b)))
    assert (strict <= loose).all()


@pytest.mark.parametrize("kind", NORMALISATIONS)
def test_a_tensor_that_nobody_moved_or_all_moved_alike_is_not_pruned(kind: str) -> None:
    flat = torch.full((LAYOUT.size,), 0.25)
    if kind in ("rank", "relative"):
        assert normalise(flat, LAYOUT, kind).isfinite().all()
    else:
        assert (normalise(flat, LAYOUT, kind) == 1).all()


def test_evolution_is_the_equation() -> None:
    draw = torch.Generator().manual_seed(3)
    updates = torch.randn(3, LAYOUT.size, generator=draw)
    updates[:, 4] = 0
    trust = torch.tensor([0.5, 0.5, 0.0])
    before = Guidance(energy(), torch.full((LAYOUT.size,), 0.8))
    after = evolve(before, updates, trust, 0.1)
    for j in range(LAYOUT.size):
        u = [float(x) for x in updates[:, j]]
        norms = [float(row.double().norm()) for row in updates]
        fresh_energy = sum(float(t) * x * x / n**2 for t, x, n in zip(trust, u, norms, strict=True))
        assert float(after.energy[j]) == pytest.approx(
            0.9 * float(before.energy[j]) + 0.1 * fresh_energy, rel=1e-4, abs=1e-9
        )
        moved = sum(float(t) * abs(x) for t, x in zip(trust, u, strict=True))
        fresh = abs(sum(float(t) * x for t, x in zip(trust, u, strict=True))) / moved if moved else math.nan
        expected = 0.8 if math.isnan(fresh) else 0.9 * 0.8 + 0.1 * fresh
        assert float(after.parameter_agreement[j]) == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_parameter_agreement_stays_in_the_unit_interval_and_is_one_for_equal_updates(seed: int, clients: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    guidance = Guidance(energy(seed), torch.ones(LAYOUT.size))
    trust = torch.full((clients,), 1 / clients)
    after = evolve(guidance, torch.randn(clients, LAYOUT.size, generator=draw), trust, 1.0)
    assert ((after.parameter_agreement >= 0) & (after.parameter_agreement <= 1 + 1e-6)).all()
    same = evolve(guidance, torch.randn(1, LAYOUT.size, generator=draw).expand(clients, -1), trust, 1.0)
    torch.testing.assert_close(same.parameter_agreement, torch.ones(LAYOUT.size))


def test_nobody_trusted_or_beta_zero_changes_nothing() -> None:
    guidance = Guidance(energy(), torch.ones(LAYOUT.size))
    updates = torch.ones(2, LAYOUT.size)
    assert evolve(guidance, updates, torch.zeros(2), 0.1) is guidance
    assert evolve(guidance, updates, torch.full((2,), 0.5), 0.0) is guidance
