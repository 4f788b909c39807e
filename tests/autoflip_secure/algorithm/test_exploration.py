"""Phase 1 against the equations written out slowly, and against what it is for: noisy explorers."""

import math
import statistics

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from autoflip_secure.algorithm.exploration import ExplorationConfig, explore, explorer_agreement
from autoflip_secure.algorithm.guidance import normalise
from autoflip_secure.algorithm.linear_exploration import normalised_energy
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.models.layout import Layout


def by_hand(rows: list[list[float]]) -> tuple[list[float], list[bool], list[float]]:
    """a_k, keep_k and D_0, one number at a time."""
    norms = [math.sqrt(sum(x * x for x in row)) for row in rows]
    roots = [[abs(x) / n for x in row] for row, n in zip(rows, norms, strict=True)]
    reference = [statistics.median(column) for column in zip(*roots, strict=True)]
    reference_norm = math.sqrt(sum(x * x for x in reference))
    agreement = [
        sum(a * b for a, b in zip(root, reference, strict=True)) / reference_norm * min(1, statistics.median(norms) / n)
        for root, n in zip(roots, norms, strict=True)
    ]
    centre = statistics.median(agreement)
    spread = 1.4826 * statistics.median(abs(a - centre) for a in agreement)
    kept = [a >= centre - 3 * max(spread, 0.05 * centre) for a in agreement]
    total = sum(a for a, k in zip(agreement, kept, strict=True) if k)
    energy = [
        sum(a / total * (row[j] / n) ** 2 for row, n, a, k in zip(rows, norms, agreement, kept, strict=True) if k)
        for j in range(len(rows[0]))
    ]
    return agreement, kept, energy


def landscape(deviations: torch.Tensor, method: str = "robust") -> torch.Tensor:
    n = len(deviations)
    return explore(torch.arange(n), torch.ones(n), deviations, method, [[0.0]] * n).energy


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.integers(2, 9), st.integers(0, 10**6))
def test_robust_landscape_is_the_equation(explorers: int, params: int, seed: int) -> None:
    deviations = torch.randn(explorers, params, generator=torch.Generator().manual_seed(seed))
    agreement, kept, energy = by_hand(deviations.double().tolist())
    measured, measured_kept = explorer_agreement(deviations)
    assert measured.tolist() == pytest.approx(agreement, rel=1e-4)
    assert measured_kept.tolist() == kept
    assert landscape(deviations).tolist() == pytest.approx(energy, rel=1e-3, abs=1e-7)


def test_plain_landscape_is_the_mean_of_squares_scaled_to_one() -> None:
    deviations = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert landscape(deviations, "plain").tolist() == pytest.approx([10 / 14, 4 / 14])


@given(st.permutations(list(range(5))), st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_order_of_explorers_and_common_scale_do_not_matter(order: list[int], scale: float) -> None:
    deviations = torch.randn(5, 30, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(landscape(deviations[order] * scale), landscape(deviations), rtol=1e-4, atol=1e-7)


def test_noisy_explorers_are_left_out_and_do_not_flatten_the_guidance() -> None:
    draw = torch.Generator().manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 2))
    layout = Layout.of(module)
    shape = torch.rand(layout.size, generator=draw) ** 4
    honest = shape * torch.randn(10, layout.size, generator=draw)
    honest[8:] += 2 * torch.randn(2, layout.size, generator=draw)
    _, kept = explorer_agreement(honest)
    assert kept.tolist() == [True] * 8 + [False] * 2
    sparsity = {
        m: (normalise(landscape(honest, m), layout) < 0.3)[layout.prunable].float().mean() for m in ("robust", "plain")
    }
    assert sparsity["robust"] > sparsity["plain"] + 0.2


def test_normalised_energy_sums_to_one_even_for_a_client_that_did_not_move() -> None:
    energy = normalised_energy(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert energy.tolist() == [pytest.approx([0.36, 0.64]), [0.0, 0.0]]


def test_explorers_use_plain_sgd_whatever_the_training_uses() -> None:
    assert ExplorationConfig().schedule(TrainingSchedule(optimizer="adam", lr=3e-4)).lr == 0.1
    assert ExplorationConfig().schedule(TrainingSchedule(lr=0.05, momentum=0.9)) == TrainingSchedule(
        lr=0.05, batch_size=16, epochs=5
    )
    assert ExplorationConfig(lr=0.2, epochs=3).schedule(TrainingSchedule()).lr == 0.2
