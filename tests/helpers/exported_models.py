"""Models of a user's own, which tests train and export."""

import torch
from torch import Tensor, nn


class Convolutions(nn.Module):
    """Convolution, normalisation, and a dense layer whose width follows from the flattened shape."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Linear(6 * 16, 16)
        self.last = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        return self.last(torch.relu(self.second(x.flatten(1))))


class Residual(nn.Module):
    """Two tied layers around a skip: its units are not known, and safetensors stores no shared tensors."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.again, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, num_classes)
        self.again.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.last(x + torch.relu(self.again(torch.relu(self.first(x)))))


class Branching(nn.Module):
    """Its forward pass asks the data which way to go: no graph for ONNX."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.last(x) if bool(x.sum() > 0) else self.last(-x)
