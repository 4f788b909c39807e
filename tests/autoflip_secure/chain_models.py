"""Models that are chains."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(*widths: int) -> nn.Sequential:
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.PReLU(4),
        nn.Dropout2d(0.1),
        nn.Flatten(),
        nn.BatchNorm1d(4 * 9),
        nn.Linear(4 * 9, 5),
        nn.Sigmoid(),
        nn.Linear(5, 3),
        nn.LogSoftmax(1),
    )


class Functional(nn.Module):
    """Everything by functions and methods, sizes asked of the input, a reshape, an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.unused = nn.Linear(2, 2)
        self.mid = nn.Conv1d(3, 6, 2)
        self.register_buffer("mean", torch.ones(()))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = (x - self.mean) / 2
        x = functional.relu(self.norm(self.conv(x.view(x.size(0), 1, 8, 8))))
        x = functional.max_pool2d(x, 2).reshape(x.shape[0], 3, -1)
        x = torch.relu(self.mid(x)) * 0.5
        x = functional.dropout(x.mean(dim=(2,)), training=self.training)
        return functional.log_softmax(self.fc(x.tanh().view(x.shape[0], -1)), dim=1)
