"""A model that cannot be stacked, with running statistics and a frozen layer."""

from torch import nn


def small(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes))
    net[1].bias.requires_grad_(False)
    return net
