"""What is taken for a chain of layers, and what is left to autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from chain_programs import SCHEDULES, ByAutograd, names_of, program_of
from slow_training import data, jobs_of, made, mlp
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, McMahanCnn
from autoflip_secure.training import SequentialTrainer, StackedTrainer, evaluate
from autoflip_secure.training.chain import chain_program
from autoflip_secure.training.chain.layers import Activation
from autoflip_secure.training.chain.reading import NoChainError, read


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


def test_evaluation_mode_is_looked_at_by_itself() -> None:
    module, layout = made(OtherInTraining)
    x, y = data()
    names = names_of(module)
    assert chain_program(module, names, x[[0, -1]]) is None
    assert chain_program(module, names, x[[0, -1]], training=False) is not None
    row = layout.vector(module)[None]
    _, loss = evaluate(module, layout, row, x, y)
    assert abs(float(loss) - F.cross_entropy(module.eval()(x), y).item()) < 1e-5
