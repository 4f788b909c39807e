"""Models as users write them: what a sweep cannot do with them, and odd ones that it can."""

import random

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

OWN = np.random.default_rng(0)  # of the file: nobody puts it anywhere


class Two(nn.Module):
    """Two layers on rows of 64 numbers."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, num_classes)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.first(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.hidden(x))


# ------------------------------------------------------------------------------------------------- refused


class DropsInEvaluation(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(self.hidden(x), 0.5))


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(np.random.default_rng().normal(size=x.shape)).float()


def noise_of_the_system() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Noise(), nn.Linear(8, 10))


class Trains(Two):
    """Something happens in training alone."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x)
        return self.last(self.changed(hidden) if self.training else hidden)

    def changed(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError


class NoiseOfTheFile(Trains):
    def changed(self, hidden: Tensor) -> Tensor:
        return hidden + float(OWN.normal())


class Remembers(Trains):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def changed(self, hidden: Tensor) -> Tensor:
        self.steps += 1
        return hidden / self.steps


class OwnGenerator(Trains):
    def __init__(self) -> None:
        super().__init__()
        self.source = np.random.default_rng(3)

    def changed(self, hidden: Tensor) -> Tensor:
        return hidden + float(self.source.normal())


class CarriesItsState(Two):
    """As recurrent models are sometimes written: the state of the last batch begins the next."""

    def __init__(self) -> None:
        super().__init__()
        self.state = torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.hidden(x) + self.state
        self.state = hidden.mean(0).detach()
        return self.last(hidden)


def weights_of_the_file() -> nn.Module:
    net = Two()
    with torch.no_grad():
        net.last.bias.copy_(torch.from_numpy(OWN.normal(size=10)).float())
    return net


class Projection(Two):
    """Random numbers that belong to the model and are nowhere listed."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = torch.randn(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1) @ self.projection)


class Shuffle(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(64))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)[:, self.order])


class ListOfLayers(Two):
    def __init__(self) -> None:
        super().__init__()
        self.more = [nn.Linear(8, 8)]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.more[0](self.hidden(x)))


class PlainTensor(Two):
    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.ones(8, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.gain * self.hidden(x))


class Squeezes(Two):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.hidden(x))).squeeze()


class Detached(Two):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class Half(Two):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).half()


class Pair(Two):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


class OnlyInEvaluation(Trains):
    def changed(self, hidden: Tensor) -> Tensor:
        return self.last(hidden)


class OpenFile(Two):
    def __init__(self) -> None:
        super().__init__()
        self.log = (line for line in ["not to be copied"])


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        raise RuntimeError("no way back")


class NoWayBack(Two):
    def forward(self, x: Tensor) -> Tensor:
        return Backwards.apply(super().forward(x))


class SharesAWeight(Two):
    """Its weights are used as they were when it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = [self.first.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(F.linear(x.flatten(1), self.kept[0], self.first.bias)))


def normed_by_hand() -> nn.Module:
    class Normed(Two):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.hidden(x)
            return self.last((hidden - hidden.mean(0)) / (hidden.std(0) + 1e-3) if self.training else hidden)

    return Normed()


# ------------------------------------------------------------------------------------------------- taken


def lazy(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(num_classes))


def weight_norm() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        torch.nn.utils.weight_norm(nn.Linear(64, 8)),
        nn.ReLU(),
        torch.nn.utils.weight_norm(nn.Linear(8, 10)),
    )


def spectral_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), torch.nn.utils.spectral_norm(nn.Linear(64, 8)), nn.ReLU(), nn.Linear(8, 10))


def parametrised() -> nn.Module:
    net = Two()
    torch.nn.utils.parametrizations.weight_norm(net.first)
    torch.nn.utils.parametrizations.orthogonal(net.last)
    return net


def pruned_by_torch() -> nn.Module:
    from torch.nn.utils import prune

    net = Two()
    prune.l1_unstructured(net.first, "weight", amount=0.5)
    return net


def hooked() -> nn.Module:
    """Hooks that move units about: what torch.fx sees is not what is computed."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    net[1].register_forward_hook(lambda layer, inputs, output: output.flip(1).cumsum(1))
    return net


def scripted() -> nn.Module:
    return torch.jit.script(Two())


class PythonDraws(Trains):
    """Stochastic depth as many write it."""

    def changed(self, hidden: Tensor) -> Tensor:
        return hidden * (random.random() < 0.8) + np.random.rand() * 0.1


class Looks(Two):
    """Keeps what it saw last, for somebody to look at."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.hidden(x)
        return self.last(self.seen)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 10)
        self.third = self.second

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.third(torch.relu(self.second(torch.relu(self.first(x.flatten(1)))))))


def frozen_backbone() -> nn.Module:
    net = Two()
    net.first.requires_grad_(False)
    return net


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


class Checkpointed(Two):
    def forward(self, x: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        return self.last(checkpoint(self.hidden, x, use_reentrant=False))


def from_numpy() -> nn.Module:
    net = Two()
    with torch.no_grad():
        net.last.bias.copy_(torch.from_numpy(np.random.normal(size=10)).float())
        net.first.bias.fill_(random.random())
    return net
