"""Models whose costs are counted by hand."""

import torch
from torch import Tensor, nn

from autoflip_secure.models.layout import Layout


def mlp() -> nn.Sequential:
    """4-3-3-2: 12 + 9 prunable weights, 6 output weights, 8 biases: 35 coordinates."""
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


def dense(layout: Layout) -> Tensor:
    return torch.ones(layout.size, dtype=torch.bool)
