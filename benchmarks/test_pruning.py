"""Exploration, guidance, masks and compaction: what happens once before training, and every few rounds in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parent))
from workloads import MODELS, shaped

from autoflip_secure.algorithm.guidance import evolve, initial_guidance
from autoflip_secure.models.compaction import compact
from autoflip_secure.pruning.budget import BudgetMask
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.scenarios.config.tables import PRUNERS

Ratios = Callable[..., None]
LATER = {
    "fedmask", "fedpm", "fedsparsify", "lottery", "own_erk", "prunefl", "snip", "spafl", "subfedavg", "taylor",
}  # fmt: skip
"""They prune once there are reports, or masks of the clients' own: the first shared mask is whole."""


@pytest.mark.parametrize("model", MODELS)
def test_exploration(model: str, benchmark: BenchmarkFixture) -> None:
    where = shaped(model)
    found = benchmark.pedantic(where.explore, rounds=4, warmup_rounds=1)
    assert float(found.energy.sum()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_evolution_of_guidance(model: str, benchmark: BenchmarkFixture) -> None:
    where, view = shaped(model), shaped(model).round_view(20)
    trust = view.samples / view.samples.sum()
    found = benchmark.pedantic(
        evolve, (initial_guidance(where.exploration), view.updates, trust, 0.1), rounds=5, iterations=2, warmup_rounds=1
    )
    assert found.energy.isfinite().all()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", sorted(set(PRUNERS) - {"none"}))
def test_first_mask(kind: str, model: str, benchmark: BenchmarkFixture) -> None:
    view = shaped(model).prune_view()
    mask = benchmark.pedantic(PRUNERS[kind]().mask, (view,), rounds=5, warmup_rounds=1)
    assert (int(mask.sum()) == len(mask)) is (kind in LATER)
    assert mask.any()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("pruner", [ThresholdMask(), BudgetMask()], ids=lambda pruner: pruner.kind)
def test_compaction(pruner: ThresholdMask | BudgetMask, model: str, benchmark: BenchmarkFixture) -> None:
    where, view = shaped(model), shaped(model).prune_view()
    mask = pruner.mask(view)
    vector = pruner.rescale(where.weights, view.mask, mask, view)
    arguments = (where.module, where.chain, where.layout, vector, mask)
    smaller = benchmark.pedantic(compact, arguments, rounds=5, warmup_rounds=1)
    assert sum(p.numel() for p in smaller.parameters()) <= where.layout.size
