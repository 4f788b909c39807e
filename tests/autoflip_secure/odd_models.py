"""Models that do odd things with their weights, for tests of DP-SGD."""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from private_jobs import IMAGES, WORDS, built
from torch import Tensor, nn


class Two(nn.Module):
    """Two layers; what happens between them is the subclass's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.flatten(1))))


class FloatBuffer(Two):
    """A buffer is a coordinate, but not a parameter: it gets no noise and shifts nobody else's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.scale.mean())


class BufferOfATrainedLayer(FloatBuffer):
    """Opacus refuses layers that own both."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(10))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class Scalar(Two):
    """A parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.temperature


class Tied(nn.Module):
    """One weight, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


class TiedWords(nn.Module):
    """An embedding that is the output layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(20, 12), nn.Linear(12, 20, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.embedding(x).mean(1))[:, :10]


class TiedByHand(nn.Module):
    """The layer, and its weight once more without the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32, bias=False), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.linear(torch.relu(self.first(x.flatten(1))), self.first.weight.T))


class WithoutTheLayer(Two):
    """Only the weights of the layer are used."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(F.linear(x.flatten(1), self.first.weight, self.first.bias)))


class ScaledByItsNorm(Two):
    """The use besides the layer's own is faint."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 1e-2 * self.last.weight.square().mean())


def doubled(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return 2 * output


def plus_weights(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * (1 + layer.weight.sum())


def halved(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (0.5 * inputs[0],)


class Hooked(Two):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_hook(doubled)


class HookedByWeights(Two):
    def __init__(self) -> None:
        super().__init__()
        self.last.register_forward_hook(plus_weights)


class HookedBefore(Two):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_pre_hook(halved)


class Keyword(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(input=torch.relu(self.first(x.flatten(1))))


class BatchSecond(nn.Module):
    """A layer that sees the batch in its second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.squeeze(1).transpose(0, 1))).transpose(0, 1).flatten(1))


class BatchFolded(BatchSecond):
    """A layer that sees rows of all samples in one dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.reshape(-1, 8))).reshape(-1, 48))


class Cut(Two):
    """No gradient reaches the first layer."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.flatten(1)).detach()))


class Unused(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)[:, :32])


class Frozen(Two):
    def __init__(self) -> None:
        super().__init__()
        self.first.bias.requires_grad_(False)


class Reparametrised(Two):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.first)


class Recurrent(nn.Module):
    """Opacus has no hook for it and no objection either."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.RNN(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(x.squeeze(1))[0][:, -1])


class DependsOnData(TiedByHand):
    """Cannot be stacked, and Opacus's gradients of it are wrong."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.sum()) < 1e9 else -x)


STACKABLE: list[Callable[[], nn.Module]] = [
    *(FloatBuffer, BufferOfATrainedLayer, Scalar, Tied, TiedWords, TiedByHand, WithoutTheLayer, ScaledByItsNorm),
    *(Hooked, HookedByWeights, HookedBefore, Keyword, BatchSecond, BatchFolded, Cut, Unused, Frozen),
]
OTHERS: list[Callable[[], nn.Module]] = [Reparametrised, Recurrent, DependsOnData]


def made(make: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    """A model and its inputs."""
    return built(make), WORDS if make is TiedWords else IMAGES
