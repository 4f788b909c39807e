"""Convolutions of a stack against torch's own, one model at a time: values, gradients, every way to ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_training import data, jobs_of, made
from torch import Tensor, nn
from torch.func import vmap

from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.training import SequentialTrainer, StackedTrainer, choose_trainer
from autoflip_secure.training.convolutions import LARGE, Convolving, same_calls, unfolded

CONV: dict[int, Callable[..., Tensor]] = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


@st.composite
def asked(draw: st.DrawFn) -> tuple[int, dict[str, Any], tuple[int, ...]]:
    """Dimensions; how it is asked for; (models, batch, channels and filters of a group, kernel)."""
    dimensions = draw(st.integers(1, 3))
    word = draw(st.sampled_from(["same", "valid", None]))
    side = st.integers(1, 2)
    options: dict[str, Any] = {"dilation": draw(st.one_of(side, st.tuples(*[side] * dimensions)))}
    if word != "same":
        options["stride"] = draw(st.one_of(side, st.tuples(*[side] * dimensions)))
    options["padding"] = draw(st.integers(0, 2)) if word is None else word
    options["groups"] = draw(st.integers(1, 3))
    sizes = (draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(side), draw(side), draw(st.integers(1, 3)))
    return dimensions, options, sizes


def tensors(dimensions: int, options: dict[str, Any], sizes: tuple[int, ...], side: int) -> tuple[Tensor, ...]:
    models, batch, channels, filters, kernel = sizes
    groups = options["groups"]
    source = torch.Generator().manual_seed(sum(sizes))
    x = torch.randn(models, batch, channels * groups, *[side] * dimensions, generator=source, dtype=torch.float64)
    weight = torch.randn(models, filters * groups, channels, *[kernel] * dimensions, generator=source).double()
    bias = torch.randn(models, filters * groups, generator=source, dtype=torch.float64)
    return tuple(tensor.requires_grad_() for tensor in (x, weight, bias))


def apart(dimensions: int, options: dict[str, Any], given_: tuple[Tensor, ...], mode: Convolving) -> float:
    """The largest difference to torch's own, of values and of gradients."""
    convolve = CONV[dimensions]
    expected = torch.stack([convolve(*one, **options) for one in zip(*given_, strict=True)])
    with mode:
        found = vmap(lambda x, weight, bias: convolve(x, weight, bias, **options))(*given_)
    assert mode.found
    assert found.is_contiguous() or mode._convolve is unfolded
    direction = torch.cos(torch.arange(found.numel(), dtype=torch.float64)).view_as(found)
    ours, theirs = ([out, *torch.autograd.grad(out, given_, direction)] for out in (found, expected))
    return max(float((one - other).detach().abs().max()) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@given(asked())
def test_calls_of_one_shape_are_torchs_convolutions(asked: tuple[int, dict[str, Any], tuple[int, ...]]) -> None:
    dimensions, options, _ = asked
    assert apart(dimensions, options, tensors(*asked, side=7), Convolving(same_calls, (1, 2, 3))) < 1e-9
    if dimensions < 3:
        assert apart(dimensions, options, tensors(*asked, side=7), Convolving(unfolded, (1, 2))) < 1e-9


def test_large_images_go_one_by_one_and_are_the_same() -> None:
    options, sizes = {"padding": 1, "groups": 1}, (5, 2, 2, 8, 3)
    given_ = tensors(2, options, sizes, side=56)
    assert given_[0][0].numel() * 5 > LARGE
    assert apart(2, options, given_, Convolving(same_calls, (2,))) < 1e-9


def test_one_sample_without_a_batch_frozen_weights_and_what_is_left_to_torch() -> None:
    x, weight, bias = tensors(2, {"groups": 1}, (3, 1, 2, 2, 3), side=6)
    with Convolving(same_calls, (2,)):
        found = vmap(lambda x, w: torch.conv2d(x[0], w))(x, weight.detach())
        alone = torch.conv2d(x[0], weight[0], bias[0])
    assert torch.allclose(found[1], torch.conv2d(x[1], weight[1])[0])
    assert torch.allclose(alone, torch.conv2d(x[0], weight[0], bias[0]))
    assert torch.autograd.grad(found.sum(), x)[0].shape == x.shape
    with Convolving(same_calls, (2,)) as mode:
        torch.conv1d(x[0, :, :, 0], weight[0, :, :, 0])
    assert not mode.found


@pytest.mark.parametrize("groups", [1, 2], ids=["chain", "through autograd"])
@pytest.mark.parametrize("many", [1, 5])
def test_what_follows_may_work_in_place(groups: int, many: int) -> None:
    """``nn.ReLU(inplace=True)`` behind a convolution, as most networks have it: stacked, and as one model alone."""
    module, layout = made(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, groups=groups, bias=False),
            nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 10),
        )
    )  # fmt: skip
    x, y = data()
    assert isinstance(choose_trainer(module, layout, x[:1]), StackedTrainer)
    jobs = jobs_of(layout, module, y, [20] * many)
    schedule = TrainingSchedule(lr=0.1, batch_size=16, epochs=2)
    found = StackedTrainer().train(module, layout, x, jobs, schedule).updates
    wanted = SequentialTrainer().train(module, layout, x, jobs, schedule).updates
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
