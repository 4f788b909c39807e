"""Chains of layers by hand: autograd says what their gradients are."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from chain_programs import SCHEDULES, ByAutograd, program_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from slow_training import assert_same, cnn, data, jobs_of, made, mlp
from torch import Tensor, nn

from autoflip_secure.interfaces import RoundRule, TrainingSchedule
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn, Mlp
from autoflip_secure.training import StackedTrainer, evaluate_by_class
from autoflip_secure.training.chain.images import Pool
from autoflip_secure.training.own_evaluation import evaluate_own


@st.composite
def chains(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A chain of convolutions, pools, activations and fully connected layers, and the shape of its inputs."""

    def activation() -> list[nn.Module]:
        return draw(st.sampled_from([[], [nn.ReLU()], [nn.ReLU(inplace=True)], [nn.Tanh()], [nn.Sigmoid()]]))

    layers: list[nn.Module] = []
    shape: tuple[int, ...] = (draw(st.integers(1, 3)), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    inputs = shape
    for _ in range(draw(st.integers(0, 2))):
        side, filters = st.integers(1, 3), draw(st.integers(1, 9))
        options = {
            "stride": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
            "padding": (draw(st.integers(0, 3)), draw(st.integers(0, 2))),
            "dilation": (draw(st.integers(1, 2)), 1),
            "bias": draw(st.booleans()),
        }
        layer = nn.Conv2d(shape[0], filters, (draw(side), draw(side)), **options)
        if min(shape[1] + 2 * options["padding"][0], shape[2] + 2 * options["padding"][1]) < 6:
            break
        shape = tuple(layer(torch.zeros(1, *shape)).shape[1:])
        layers += [layer, *activation()]
        window = tuple(draw(st.sampled_from([n for n in (1, 2, 3) if side % n == 0])) for side in shape[1:])
        if draw(st.booleans()):
            layers += [nn.MaxPool2d(window), *activation()]
            shape = (shape[0], shape[1] // window[0], shape[2] // window[1])
    layers.append(nn.Flatten())
    width = shape[0] * shape[1] * shape[2]
    for _ in range(draw(st.integers(0, 2))):
        hidden = draw(st.integers(1, 12))
        layers += [nn.Linear(width, hidden, bias=draw(st.booleans())), *activation()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, draw(st.integers(1, 5)))), inputs


@settings(max_examples=sized(25, 400), deadline=None)
@given(chains(), st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_gradients_are_those_of_autograd(
    chain: tuple[nn.Module, tuple[int, ...]], models: int, batch: int, seed: int
) -> None:
    module, shape = chain
    source = torch.Generator().manual_seed(seed)
    layout = Layout.of(module)
    x = torch.randn(models, batch, *shape, generator=source)
    program = program_of(module, x[0])
    assert program is not None
    rows = 0.5 * torch.randn(models, layout.size, generator=source)
    classes = module(x[0]).shape[1]
    labels = torch.randint(0, classes, (models, batch), generator=source)
    weights = torch.rand(models, batch, generator=source)
    stack = list(layout.tensors(rows).values())
    losses, found = program.gradients(program.bind(stack), x, labels, weights)
    flat = torch.cat([gradient.reshape(models, -1) for gradient in found], 1)
    double = module.double()
    for row in range(models):
        layout.load(double, rows[row].double())
        each = F.cross_entropy(double(x[row].double()), labels[row], reduction="none")
        wanted = torch.autograd.grad((each * weights[row]).sum(), list(double.parameters()))
        torch.testing.assert_close(losses[row], each.detach().float(), atol=1e-5, rtol=1e-5)
        together = torch.cat([gradient.reshape(-1) for gradient in wanted])
        scale = max(1.0, float(together.abs().max()))
        torch.testing.assert_close(flat[row], together.float(), atol=2e-5 * scale, rtol=0)


DENSE: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "built-in": lambda: Mlp(hidden=(33, 512)).make((1, 8, 8), 10),
    "tanh, sigmoid, no bias": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(64, 17), nn.Tanh(), nn.Linear(17, 9, bias=False), nn.Sigmoid(), nn.Linear(9, 10)
    ),
    "one unit": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.ReLU(), nn.Linear(1, 10)),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
def test_fully_connected_chains_equal_autograds_training_to_the_last_bit(
    make: Callable[[], nn.Module], schedule: TrainingSchedule
) -> None:
    module, layout = made(make)
    x, y = data()
    jobs = jobs_of(layout, module, y, [1, 37, 3, 16, 50, 15, 32], masks=True)
    jobs = [replace(job, accumulate=frozenset({"gradients", "squares"}), snapshot=1) for job in jobs]
    assert program_of(module, x) is not None
    one, other = (each.train(module, layout, x, jobs, schedule) for each in (StackedTrainer(), ByAutograd()))
    assert torch.equal(one.updates, other.updates)
    assert torch.equal(one.losses, other.losses)
    assert one.snapshots is not None
    assert other.snapshots is not None
    assert torch.equal(one.snapshots, other.snapshots)
    assert all(torch.equal(one.sums[name], other.sums[name]) for name in ("gradients", "squares"))


def test_a_local_rule_obeys_alike() -> None:
    module, layout = made(mlp)
    x, y = data()
    rule = RoundRule(Proximal(mu=0.1), 1, 3)
    jobs = [replace(job, rule=rule) for job in jobs_of(layout, module, y, [20, 33, 7], masks=True)]
    one, other = (each.train(module, layout, x, jobs, SCHEDULES["sgd"]) for each in (StackedTrainer(), ByAutograd()))
    assert torch.equal(one.updates, other.updates)


CONVOLUTIONAL: dict[str, Callable[[], nn.Module]] = {
    "cnn": cnn,
    "built-in": lambda: Cnn(width=4).make((1, 8, 8), 10),
    "wide padding, stride": lambda: nn.Sequential(
        *(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(1, 9, 3, stride=2, padding=(1, 3)), nn.Sigmoid()),
        *(nn.Conv2d(9, 4, 2, dilation=(1, 2)), nn.Tanh(), nn.Flatten(), nn.Tanh(), nn.Linear(8, 10)),
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("make", CONVOLUTIONAL.values(), ids=CONVOLUTIONAL)
def test_convolutional_chains_equal_autograds_training_within_rounding(
    make: Callable[[], nn.Module], schedule: TrainingSchedule
) -> None:
    module, layout = made(make)
    x, y = data()
    jobs = jobs_of(layout, module, y, [1, 37, 3, 16, 50], masks=True)
    assert program_of(module, x) is not None
    one, other = (each.train(module, layout, x, jobs, schedule) for each in (StackedTrainer(), ByAutograd()))
    assert not torch.equal(one.updates, other.updates)  # it is another program
    assert_same(one.updates, other.updates, schedule)


def test_frozen_layers_get_no_gradient_and_stop_the_way_back() -> None:
    for frozen in itertools.product([True, False], repeat=3):
        module, layout = made(lambda: Mlp(hidden=(12, 11)).make((1, 8, 8), 10))
        layers = [layer for layer in module if isinstance(layer, nn.Linear)]
        for layer, still in zip(layers, frozen, strict=True):
            layer.requires_grad_(not still)
        if all(frozen):
            layers[1].bias.requires_grad_(True)
        layout = Layout.of(module)
        x, y = data()
        jobs = jobs_of(layout, module, y, [20, 33])
        assert program_of(module, x) is not None
        one, other = (
            each.train(module, layout, x, jobs, SCHEDULES["sgd"]) for each in (StackedTrainer(), ByAutograd())
        )
        assert torch.equal(one.updates, other.updates)


@pytest.mark.parametrize("scale", [0.0, 1.0], ids=["all", "some"])
def test_where_numbers_of_a_window_are_equal_the_first_gets_the_gradient(scale: float) -> None:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 3, (2, 3, 6, 4, 5), generator=source).float() * scale
    grad = torch.randn(2, 3, 3, 2, 5, generator=source)
    pool = Pool((2, 2), apart=False)
    best, kept = pool.forward(images)
    leaf = images.flatten(0, 1).permute(0, 3, 1, 2).clone().requires_grad_()
    wanted = F.max_pool2d(leaf, 2)
    assert torch.equal(best.flatten(0, 1).permute(0, 3, 1, 2), wanted)
    wanted.backward(grad.flatten(0, 1).permute(0, 3, 1, 2))
    assert torch.equal(pool.backward(grad, kept).flatten(0, 1).permute(0, 3, 1, 2), leaf.grad)


@pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
def test_fully_connected_chains_are_evaluated_to_the_last_bit_as_before(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, layout = made(make)
    x, y = data()
    jobs = jobs_of(layout, module, y, [20, 150, 3], masks=True)
    rows = torch.stack([job.start for job in jobs])

    def everything() -> list[Tensor]:
        own = [job.samples for job in jobs], [job.labels for job in jobs]
        return [
            *evaluate_by_class(module, layout, rows, x, y, 10),
            *evaluate_own(module, layout, lambda places: rows[list(places)], x, *own),
            StackedTrainer().gradients(module, layout, x, jobs, SCHEDULES["sgd"]),
        ]

    by_hand = everything()
    for place in ("evaluation", "gradients"):
        monkeypatch.setattr(f"autoflip_secure.training.{place}.chain_program", lambda *_, **__: None)
    assert all(torch.equal(one, other) for one, other in zip(by_hand, everything(), strict=True))
