"""DP-SGD of models that do odd things with their weights: both trainers against one sample at a time, slowly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from odd_models import (
    OTHERS,
    STACKABLE,
    BatchFolded,
    BatchSecond,
    Cut,
    Hooked,
    HookedByWeights,
    Recurrent,
    ScaledByItsNorm,
    TiedByHand,
    Two,
    WithoutTheLayer,
    made,
)
from private_jobs import SCHEDULE, by_hand, job_of
from sizes import crossed
from torch import nn

from autoflip_secure.defenses.privacy.opacus_training import fit, opacus_is_right
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn, McMahanCnn, Mlp
from autoflip_secure.training import SequentialTrainer, StackedTrainer
from autoflip_secure.training.analytic import Analytic, clipped_sums
from autoflip_secure.training.chain import chain_program
from autoflip_secure.training.chain.sums import ChainSums
from autoflip_secure.training.per_sample import Plain

NOISE = {"0.0": 0.0, "0.7": 0.7}


@pytest.mark.parametrize(("make", "noise"), crossed(2, {make.__name__: make for make in STACKABLE}, NOISE))
def test_stacked_is_the_algorithm(make: Callable[[], nn.Module], noise: float) -> None:
    module, x = made(make)
    job = job_of(module, noise)
    found = StackedTrainer().train(module, Layout.of(module), x, [job], SCHEDULE).updates[0]
    expected = by_hand(module, x, job)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(("make", "noise"), crossed(2, {make.__name__: make for make in STACKABLE + OTHERS}, NOISE))
def test_one_at_a_time_is_the_algorithm(make: Callable[[], nn.Module], noise: float) -> None:
    module, x = made(make)
    job = job_of(module, noise)
    found = SequentialTrainer(private=fit).train(module, Layout.of(module), x, [job], SCHEDULE).updates[0]
    expected = by_hand(module, x, job)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(found, expected, atol=2e-6)


ROWS = torch.zeros(2, 1, 8, 8)


@pytest.mark.parametrize("make", [lambda: Mlp().build(ROWS, 10, 0), lambda: Cnn().build(ROWS, 10, 0),
                                  lambda: McMahanCnn().build(ROWS, 10, 0), Two])  # fmt: skip
def test_the_quick_ways_are_taken_where_they_are_right(make: Callable[[], nn.Module]) -> None:
    module, x = made(make)
    names = [segment.name for segment in Layout.of(module)]
    assert isinstance(clipped_sums(module.train(), names, list(range(len(names))), x[:2], {}), Analytic)
    assert opacus_is_right(make(), x[:2])


@pytest.mark.parametrize("make", [TiedByHand, ScaledByItsNorm, Hooked, HookedByWeights, BatchSecond, BatchFolded, Cut])
def test_the_formulas_are_not_trusted_by_the_type_of_layers(make: Callable[[], nn.Module]) -> None:
    module, x = made(make)
    names = [segment.name for segment in Layout.of(module)]
    notes: dict[str, bool] = {}
    assert isinstance(clipped_sums(module.train(), names, list(range(len(names))), x[:2], notes), Plain)
    assert list(notes.values()) == [False]
    assert not any(layer._forward_hooks for layer in module.modules() if make not in (Hooked, HookedByWeights))


@pytest.mark.parametrize("make", [TiedByHand, WithoutTheLayer, Hooked, HookedByWeights, BatchSecond, Recurrent])
def test_opacus_is_not_trusted_either(make: Callable[[], nn.Module]) -> None:
    module, x = made(make)
    before = [p.clone() for p in module.parameters()]
    assert not opacus_is_right(module, x[:2])
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def smooth() -> nn.Module:
    """Has formulas, and is no chain."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Softplus(), nn.Linear(8, 10))


def test_a_trial_is_made_once_per_model() -> None:
    module, x = made(smooth)
    trainer, job = StackedTrainer(), job_of(module, 0.7)
    first = trainer.train(module, Layout.of(module), x, [job], SCHEDULE).updates
    (notes,) = trainer._notes.values()
    assert list(notes.values()) == [True]
    notes.update(dict.fromkeys(notes, False))  # what is noted is what is used
    assert torch.allclose(trainer.train(module, Layout.of(module), x, [job], SCHEDULE).updates, first, atol=1e-6)
    assert list(notes.values()) == [False]


def test_of_chains_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = made(Two)
    names = [segment.name for segment in Layout.of(module)]
    program = chain_program(module, names, x[[0, -1]])
    assert program is not None
    assert program.sums_hold is None
    trained = list(range(len(names)))
    assert isinstance(clipped_sums(module.train(), names, trained, x[:2], {}, program), ChainSums)
    assert program.sums_hold is True
    program.sums_hold = False  # what is noted is what is used
    assert isinstance(clipped_sums(module, names, trained, x[:2], {}, program), Analytic)
    program.sums_hold = None
    monkeypatch.setattr("autoflip_secure.training.chain.sums.factors_of", lambda parts, real, clip: real)
    assert isinstance(clipped_sums(module, names, trained, x[:2], {}, program), Analytic)
    assert program.sums_hold is False


def test_a_layer_trained_without_its_bias_is_left_to_the_plain_way() -> None:
    module, x = made(Two)
    module.first.bias.requires_grad_(False)  # type: ignore[union-attr]
    names = [segment.name for segment in Layout.of(module)]
    program = chain_program(module, names, x[[0, -1]])
    assert program is not None
    assert not program.whole_layers
    assert isinstance(clipped_sums(module.train(), names, list(program.trained), x[:2], {}, program), Plain)
