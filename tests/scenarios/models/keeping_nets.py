"""Models that keep numbers from batch to batch, or write into what they are given."""

import torch
from torch import Tensor, nn


class Centred(nn.Module):
    """Centres what its first layer gives: by the batch's mean in training, by the one that it kept when tested."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 10)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1))
        if self.training:
            mean = hidden.mean(0)
            self.keep(mean.detach())
            hidden = hidden - mean
        else:
            hidden = hidden - self.mean
        return self.last(torch.relu(hidden))

    def keep(self, mean: Tensor) -> None:
        self.mean.mul_(0.5).add_(0.5 * mean)


class Assigned(Centred):
    def keep(self, mean: Tensor) -> None:
        self.mean = 0.5 * self.mean + 0.5 * mean


class Unsaved(Centred):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8), persistent=False)


class Plain(Centred):
    def __init__(self) -> None:
        super().__init__()
        del self.mean
        self.mean = torch.zeros(8)


class Counts(Centred):
    """Divides by the number of batches that it has seen, which is a whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.ones((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += self.training
        return super().forward(x) / (1 if self.training else self.seen)


class Attached(Centred):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * self.first(x.flatten(1)).mean(0)
        return self.last(torch.relu(self.first(x.flatten(1)) - self.mean))


class WritesInputs(Centred):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clamp_(max=0.5))


def first_in_place() -> nn.Module:
    return nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 10))


class Empty(Centred):
    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.empty(0, 8))
