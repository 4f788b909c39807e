"""Models that are no chain: residual sums, norms, depthwise and grouped filters, gates, concatenations, recurrence."""

from functools import partial

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: He et al. 2016, with a projection where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.short = nn.Sequential()
        if stride > 1 or inputs != width:
            self.short = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.short(x)).relu()


class ResNet20(nn.Module):
    """Three stages of three blocks: ``width`` (16), twice and four times as many channels."""

    def __init__(self, channels: int = 3, num_classes: int = 10, width: int = 16, blocks: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        stages, inputs = [], width
        for stage in range(3):
            for number in range(blocks):
                stages.append(Block(inputs, width << stage, 2 if stage and not number else 1))
                inputs = width << stage
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stages(self.stem(x)).mean((2, 3)))


def resnet20(input_shape: tuple[int, ...], num_classes: int, width: int = 4, blocks: int = 3) -> nn.Module:
    return ResNet20(input_shape[0], num_classes, width, blocks)


def mobilenet() -> nn.Module:
    from torchvision.models import mobilenet_v2

    return mobilenet_v2(width_mult=0.25, num_classes=10)


def efficientnet() -> nn.Module:
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    config = partial(MBConvConfig, width_mult=1.0, depth_mult=1.0)
    blocks = [
        config(1, 3, 1, 8, 8, num_layers=1),
        config(4, 3, 2, 8, 12, num_layers=2),
        config(4, 5, 2, 12, 16, num_layers=1),
    ]
    return EfficientNet(blocks, dropout=0.2, num_classes=10, last_channel=32)


class Normed(nn.Module):
    """A residual stream whose norms take statistics over groups of channels, and an activation that is 1/2 at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.inner, self.inner_norm = nn.Conv2d(8, 6, 3, padding=1), nn.GroupNorm(3, 6)
        self.back, self.fc = nn.Conv2d(6, 8, 1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).sigmoid()
        x = x + self.back(self.inner_norm(self.inner(x)).sigmoid())
        return self.fc(x.mean((2, 3)))


class Concatenating(nn.Module):
    """Every layer reads what all layers before it made (as DenseNet), through a normalisation of all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.norm, self.c = nn.BatchNorm2d(9), nn.Conv2d(9, 6, 1)
        self.fc = nn.Linear(15, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.cat([x, nn.functional.softplus(self.b(x))], 1)
        x = torch.cat([x, self.c(self.norm(x).relu())], 1)
        return self.fc(nn.functional.max_pool2d(x, 2).mean((2, 3)))


class Grouped(nn.Module):
    """A grouped convolution (ResNeXt) and one with two filters for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.grouped = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.b, self.twice = nn.Conv2d(12, 5, 1), nn.Conv2d(5, 10, 3, groups=5)
        self.fc = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.grouped(self.a(x).relu()).relu()).relu()
        return self.fc(self.twice(x).relu().mean((2, 3)))


class LstmClassifier(nn.Module):
    """Reads tokens; the class is read off the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(20, 6), nn.LSTM(6, 8, batch_first=True)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(self.embedding(x))[0][:, -1])


class RowReader(nn.Module):
    """An LSTM that reads an image row by row."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(input_shape[-1], 8, batch_first=True), nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x.flatten(1, 2))[0][:, -1])


class Small(nn.Module):
    """One residual block, small enough to follow by hand: a stream of 4 units, an inner layer of 5."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.b, self.c = nn.Linear(4, 5), nn.Linear(5, 4, bias=False)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        return self.fc(x + self.c(self.b(x).sigmoid()))


IMAGE = (3, 8, 8)
GRAPHS = {
    "resnet20": (partial(ResNet20, width=4), IMAGE),
    "mobilenet": (mobilenet, (3, 32, 32)),
    "efficientnet": (efficientnet, (3, 16, 16)),
    "groupnorm": (Normed, IMAGE),
    "concatenating": (Concatenating, IMAGE),
    "grouped": (Grouped, IMAGE),
    "small": (Small, (3,)),
}
