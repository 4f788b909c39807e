"""DP-SGD of samples whose gradients overflow: they add nothing, and no sample adds more than the clip norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from odd_models import BatchFolded, DependsOnData, FloatBuffer, Recurrent, Scalar, Tied, Two
from private_jobs import IMAGES, SCHEDULE, built, by_hand, job_of
from sizes import crossed
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer, layer_sums, per_sample
from autoflip_secure.training.analytic import Analytic, clipped_sums
from autoflip_secure.training.chain import chain_program
from autoflip_secure.training.chain.sums import ChainSums
from autoflip_secure.training.per_sample import ClippedSums, Plain

BAD = {"next to infinity": 3e38, "large": 1e25, "not a number": float("nan"), "infinite": float("inf")}
MODELS: list[Callable[[], nn.Module]] = [
    *(Two, BatchFolded, Tied, Scalar, FloatBuffer),  # products, whole gradients, vmap, scalars and buffers
    lambda: Cnn().build(torch.zeros(2, 1, 8, 8), 10, 0),
]
TRAINERS = {"stacked": StackedTrainer(), "Opacus": SequentialTrainer(private=fit)}


def spoilt(job: ClientJob, value: float, count: int = 3) -> Tensor:
    """Images of which the job's first ones (the first is what batches are padded with) overflow."""
    x = IMAGES.clone()
    x[job.samples[:count]] = value
    return x


def update(trainer: Trainer, module: nn.Module, x: Tensor, job: ClientJob) -> Tensor:
    return trainer.train(module, Layout.of(module), x, [job], SCHEDULE).updates[0]


@pytest.mark.parametrize(
    ("make", "trainer", "value"), crossed(4, {f"model {n}": make for n, make in enumerate(MODELS)}, TRAINERS, BAD)
)
def test_what_overflows_adds_nothing(make: Callable[[], nn.Module], trainer: Trainer, value: float) -> None:
    module = built(make)
    job = job_of(module, 0.5)
    x = spoilt(job, value)
    expected = by_hand(module, x, job)
    assert expected.isfinite().all()
    assert expected.abs().max() > 1e-3
    assert torch.allclose(update(trainer, module, x, job), expected, atol=2e-6)


@pytest.mark.parametrize("make", [Recurrent, DependsOnData])
def test_nor_where_every_gradient_is_computed_by_itself(make: Callable[[], nn.Module]) -> None:
    module = built(make)
    job = job_of(module, 0.5)
    x = spoilt(job, float("nan"))
    assert torch.allclose(update(TRAINERS["Opacus"], module, x, job), by_hand(module, x, job), atol=2e-6)


@pytest.mark.parametrize(("make", "value"), crossed(2, {make.__name__: make for make in (Two, BatchFolded, Tied)}, BAD))
def test_under_a_mask_both_trainers_agree(make: Callable[[], nn.Module], value: float) -> None:
    module = built(make)
    job, layout = job_of(module, 0.5), Layout.of(module)
    free = torch.rand(layout.size, generator=torch.Generator().manual_seed(2)) < 0.5
    job = replace(job, mask=free | ~layout.prunable)
    x = spoilt(job, value)
    stacked, opacus = (trainer.train(module, layout, x, [job], SCHEDULE) for trainer in TRAINERS.values())
    assert opacus.updates.isfinite().all()
    assert torch.allclose(stacked.updates, opacus.updates, atol=1e-6)
    assert torch.allclose(stacked.losses, opacus.losses, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_where_all_samples_overflow_noise_is_left(trainer: Trainer) -> None:
    module = built(Two)
    job = job_of(module, 0.5)
    noise, other = (update(trainer, module, torch.full_like(IMAGES, value), job) for value in (float("nan"), 1e30))
    assert torch.equal(noise, other)
    assert torch.allclose(noise, by_hand(module, torch.full_like(IMAGES, 1e30), job), atol=2e-6)
    assert noise.std() == pytest.approx(0.2 * 0.5 * 0.2 / 8 * 6**0.5, rel=0.1)  # lr σ C / B, six steps


def test_neighbours_in_the_stack_do_not_notice() -> None:
    module = built(Two)
    mine = job_of(module, 0.5)
    other = replace(mine, samples=torch.arange(60, 80), address=(1, 3))
    layout, x = Layout.of(module), spoilt(other, float("nan"))
    alone = update(StackedTrainer(), module, x, mine)
    both = StackedTrainer().train(module, layout, x, [mine, other], SCHEDULE).updates
    assert torch.equal(both[0], alone)


CLIP = 1e-6


def sums_of(way: type[ClippedSums], size: float, weight: float, masked: bool) -> tuple[Tensor, Tensor]:
    """Clipped sums of the first layer's gradients, of each of four samples alone and of all: (4, params), (params,).

    Every second image is ``size`` times as large, the weights after the layer are ``weight`` times as large.
    """
    module = built(Two).train()
    with torch.no_grad():
        module.last.weight.mul_(weight)
    layout, trained = Layout.of(module), [0, 1]
    module.last.requires_grad_(False)
    names = [segment.name for segment in layout]
    program = chain_program(module, names, IMAGES[:2]) if way is ChainSums else None
    sums = clipped_sums(module, names, trained, IMAGES[:2], {}, program)
    assert isinstance(sums, Analytic if way is Plain else way)
    if isinstance(sums, Analytic) and way is Plain:
        sums.close()
        sums = Plain(module, names, trained)
    tensors = list(layout.tensors(layout.vector(module).expand(5, -1)).values())
    free = (torch.rand(layout.size, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    masks = list(layout.tensors(free.expand(5, -1)).values())[:2] if masked else None
    real = torch.cat([torch.eye(4), torch.ones(1, 4)])
    inputs = (IMAGES[:4] * torch.tensor([1.0, size, 1.0, size])[:, None, None, None]).expand(5, -1, -1, -1, -1)
    found, _ = sums(tensors, masks, inputs, torch.arange(4).expand(5, -1), real, torch.full((5,), CLIP))
    flat = torch.cat([part.reshape(5, -1) for part in found], 1).detach()
    return flat[:4], flat[4]


EXTREMES = given(st.floats(0, 38).map(lambda e: 10**e), st.floats(-38, 38).map(lambda e: 10**e), st.booleans())


@EXTREMES
@example(1e18, 1e-22, False)  # squares of outer gradients vanish in float32, those of gradients do not
@example(1e25, 1e-25, False)  # squares of inputs overflow, those of gradients do not
@example(1e36, 1e-18, False)  # the clip factor times the outer gradient is below what float32 holds
@example(1e25, 1e13, True)
def test_no_sample_adds_more_than_the_clip_norm(size: float, weight: float, masked: bool) -> None:
    quick, plain, chain = (sums_of(way, size, weight, masked) for way in (Analytic, Plain, ChainSums))
    for alone, together in (quick, plain, chain):
        assert (alone.double().norm(dim=1) <= CLIP * (1 + 1e-5)).all()
        assert torch.allclose(together, alone.sum(0), atol=1e-12)
    assert torch.allclose(quick[0], plain[0], atol=1e-10)
    assert torch.equal(chain[0], quick[0])


def test_the_checks_see_what_is_not_zeroed_or_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(layer_sums, "LARGE", float("inf"))
        for way in (Analytic, ChainSums):
            alone, _ = sums_of(way, 1e18, 1e-22, masked=False)
            assert alone.double().norm(dim=1).max() > 1.01 * CLIP
    module = built(Two)
    job = job_of(module, 0.5)
    for place in (layer_sums, per_sample):
        monkeypatch.setattr(place, "zeroed", lambda rows, squared: rows)
    monkeypatch.setattr("autoflip_secure.defenses.privacy.opacus_training.zeroed", lambda rows, squared: rows)
    for trainer in TRAINERS.values():
        assert not update(trainer, module, spoilt(job, 1e38 * 3), job).isfinite().all()
