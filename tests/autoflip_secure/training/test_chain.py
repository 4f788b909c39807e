"""Chains of layers by hand: autograd says what their gradients are, and nothing else is taken for a chain."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from slow_training import assert_same, cnn, data, jobs_of, made, mlp
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, RoundRule, TrainingSchedule
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, McMahanCnn, Mlp
from autoflip_secure.training import SequentialTrainer, StackedTrainer, evaluate, evaluate_by_class
from autoflip_secure.training.base import Work
from autoflip_secure.training.chain import ChainProgram, chain_program
from autoflip_secure.training.chain.images import Pool
from autoflip_secure.training.chain.layers import Activation
from autoflip_secure.training.chain.reading import NoChainError, read
from autoflip_secure.training.own_evaluation import evaluate_own

SCHEDULES = {
    "sgd": TrainingSchedule(lr=0.1, batch_size=16, epochs=2),
    "momentum and decay": TrainingSchedule(lr=0.05, momentum=0.5, weight_decay=0.1, batch_size=10, epochs=2),
    "adam": TrainingSchedule(optimizer="adam", lr=1e-3, batch_size=16, epochs=1),
}


class ByAutograd(StackedTrainer):
    """As everything was trained before there were programs by hand, and as other modules still are."""

    def _program(self, work: Work, names: list[str]) -> None:
        return None


def names_of(module: nn.Module) -> list[str]:
    return [segment.name for segment in Layout.of(module)]


def program_of(module: nn.Module, x: Tensor) -> ChainProgram | None:
    return chain_program(module, names_of(module), x[[0, -1]])


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


class Twice(nn.Module):
    """A weight that a second operation reads."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1))
        return scores + self.dense.weight.sum(1)


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        scores: Tensor = self.last(x + self.first(x).relu())
        return scores


class OtherInTraining(nn.Module):
    """Tracing in evaluation mode would not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1))
        return scores.square() if self.training else scores


class Doubling(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def hooked() -> nn.Module:
    module = mlp()
    module[1].register_forward_hook(lambda layer, given, out: 2 * out)  # type: ignore[index]
    return module


def hooked_above() -> nn.Module:
    module = mlp()
    module.register_forward_hook(lambda layer, given, out: 2 * out)
    return module


def with_a_forward_of_its_own() -> nn.Module:
    module = mlp()
    module[1].forward = lambda x: F.linear(2 * x, module[1].weight, module[1].bias)  # type: ignore[index, method-assign, assignment]
    return module


def shared() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 10))
    module[3].weight = module[1].weight
    return module


def used_twice() -> nn.Module:
    layer = nn.Linear(64, 64)
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer, nn.Linear(64, 10))


def around(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))


OTHERS: dict[str, Callable[[], nn.Module]] = {
    "a weight read twice": Twice,
    "a skip connection": Skip,
    "another way in training": OtherInTraining,
    "a subclass": lambda: nn.Sequential(nn.Flatten(), Doubling(64, 10)),
    "a hook": hooked,
    "a hook on the whole": hooked_above,
    "a forward of its own": with_a_forward_of_its_own,
    "a shared weight": shared,
    "a layer twice": used_twice,
    "normalisation": around(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)),
    "another activation": around(nn.Conv2d(1, 4, 3), nn.GELU()),
    "groups": around(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2)),
    "padding by a word": around(nn.Conv2d(1, 4, 3, padding="same")),
    "padding by a mirror": around(nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")),
    "windows that overlap": around(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2, stride=1)),
    "windows that leave a rest": around(nn.Conv2d(1, 4, 2), nn.MaxPool2d(2)),
    "a mean over windows": around(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2)),
    "rows of a sequence": lambda: nn.Sequential(nn.Flatten(1, 2), nn.Linear(8, 3), nn.Flatten(), nn.Linear(24, 10)),
    "a transpose": around(nn.ConvTranspose2d(1, 2, 3)),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_anything_else_is_left_to_autograd(make: Callable[[], nn.Module]) -> None:
    x, y = data()

    def ready() -> nn.Module:
        module = make()
        module(x[:2])  # lazy layers take their shape
        return module

    module, layout = made(ready)
    assert program_of(module, x) is None
    jobs = jobs_of(layout, module, y, [5, 18])
    one, other = (each.train(module, layout, x, jobs, SCHEDULES["sgd"]) for each in (StackedTrainer(), ByAutograd()))
    assert torch.equal(one.updates, other.updates)
    if "hook" not in repr(make):  # vmap runs hooks as well
        torch.testing.assert_close(
            one.updates, SequentialTrainer().train(module, layout, x, jobs, SCHEDULES["sgd"]).updates, atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_reading_says_so_before_any_trial(make: Callable[[], nn.Module]) -> None:
    module, x = make().train(), data()[0]
    module(x[:2])
    with pytest.raises(NoChainError):
        read(module, names_of(module), x[[0, -1]])


@pytest.mark.parametrize("layer", [nn.Dropout(0.0), nn.BatchNorm1d(24), nn.Dropout(0.5)], ids=repr)
def test_what_cannot_be_stacked_is_no_chain_either(layer: nn.Module) -> None:
    module, _ = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 24), layer, nn.Linear(24, 10)))
    state = torch.get_rng_state()
    assert program_of(module, data()[0]) is None
    assert torch.equal(torch.get_rng_state(), state)


def test_images_of_many_patches_are_left_to_the_library() -> None:
    for model, shape, taken in (
        (Cnn(width=16), (1, 28, 28), True),
        (Cnn6(width=8), (3, 32, 32), False),
        (McMahanCnn(), (1, 28, 28), False),
    ):
        x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        assert (program_of(model.make(shape, 10), x) is not None) is taken


def test_token_ids_are_no_input_of_a_chain() -> None:
    assert program_of(mlp(), torch.zeros(2, 1, 8, 8, dtype=torch.long)) is None


def test_a_module_that_is_changed_is_looked_at_again() -> None:
    module, layout = made(mlp)
    x, y = data()
    jobs = jobs_of(layout, module, y, [20])
    assert program_of(module, x) is not None
    handle = module[1].register_forward_hook(lambda layer, given, out: 2 * out)  # type: ignore[index]
    assert program_of(module, x) is None
    hooked_updates = StackedTrainer().train(module, layout, x, jobs, SCHEDULES["sgd"]).updates
    handle.remove()
    plain = StackedTrainer().train(module, layout, x, jobs, SCHEDULES["sgd"]).updates
    assert not torch.equal(hooked_updates, plain)
    module[1].weight.requires_grad_(False)  # type: ignore[index, union-attr]
    program = program_of(module, x)
    assert program is not None
    assert len(program.trained) == 3


def test_a_program_that_is_wrong_does_not_pass_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Activation, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
        return grad

    x, y = data()
    module, layout = made(mlp)
    monkeypatch.setattr(Activation, "backward", forgetful)
    assert program_of(module, x) is None
    jobs: list[ClientJob] = jobs_of(layout, module, y, [20])
    one, other = (each.train(module, layout, x, jobs, SCHEDULES["sgd"]) for each in (StackedTrainer(), ByAutograd()))
    assert torch.equal(one.updates, other.updates)


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


def test_evaluation_mode_is_looked_at_by_itself() -> None:
    module, layout = made(OtherInTraining)
    x, y = data()
    names = names_of(module)
    assert chain_program(module, names, x[[0, -1]]) is None
    assert chain_program(module, names, x[[0, -1]], training=False) is not None
    row = layout.vector(module)[None]
    _, loss = evaluate(module, layout, row, x, y)
    assert abs(float(loss) - F.cross_entropy(module.eval()(x), y).item()) < 1e-5
