"""Models to train, and the slow loop in plain torch that trainers are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose, generator

TOLERANCE = 1e-5


class Gain(nn.Module):
    """A scalar parameter, a frozen one, an unused one and a constant buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(64, 10)
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.frozen = nn.Parameter(torch.full((10,), 0.3), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("shift", torch.linspace(-1, 1, 10))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1)) * self.gain + self.frozen + self.shift
        return scores


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10))


def group_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn, "group norm": group_norm, "gain": Gain}


def made(make: Callable[[], nn.Module], seed: int = 0) -> tuple[nn.Module, Layout]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make()
    return module, Layout.of(module)


def data(rows: int = 240, shape: tuple[int, ...] = (1, 8, 8), classes: int = 10) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(rows, *shape, generator=source), torch.randint(0, classes, (rows,), generator=source)


def jobs_of(
    layout: Layout, module: nn.Module, labels: Tensor, sizes: list[int], *, masks: bool = False, seed: int = 3
) -> list[ClientJob]:
    """Own start, own rows, own order for each; with ``masks`` every second job has a mask of weights."""
    source = torch.Generator().manual_seed(seed)
    jobs = []
    for client, size in enumerate(sizes):
        start = layout.vector(module) + 0.05 * torch.randn(layout.size, generator=source)
        rows = torch.randperm(len(labels), generator=source)[:size]
        mask = None
        if masks and client % 2 == 0:
            mask = (torch.rand(layout.size, generator=source) < 0.6) | ~layout.trained
        jobs.append(ClientJob(start, rows, labels[rows], seed=seed + client % 3, address=(4, client), mask=mask))
    return jobs


def by_hand(
    module: nn.Module, layout: Layout, x: Tensor, job: ClientJob, schedule: TrainingSchedule
) -> tuple[Tensor, Tensor]:
    """The slow way: explicit batches, gradient and step of one model, written without anything of the trainers."""
    net = copy.deepcopy(module).train()
    start = job.start.clone()
    if job.mask is not None:
        start[~job.mask] = 0.0
    layout.load(net, start)
    if schedule.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(
            net.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay, foreach=False
        )
    else:
        optimizer = torch.optim.SGD(
            net.parameters(),
            lr=schedule.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            foreach=False,
        )
    order = generator(job.seed, Purpose.BATCHES, *job.address)
    curve = []
    for _ in range(schedule.epochs):
        permutation = torch.randperm(len(job.samples), generator=order).tolist()
        total = 0.0
        for first in range(0, len(permutation), schedule.batch_size):
            batch = permutation[first : first + schedule.batch_size]
            scores = net(torch.stack([x[job.samples[i]] for i in batch]))
            chances = scores.softmax(1)
            loss = -sum(chances[k, job.labels[i]].log() for k, i in enumerate(batch)) / len(batch)
            optimizer.zero_grad()
            loss.backward()
            for name, parameter in net.named_parameters():
                if job.mask is not None and parameter.grad is not None:
                    keep = job.mask[layout[name].slice].reshape(parameter.shape)
                    parameter.grad[~keep] = 0.0
            optimizer.step()
            total += loss.item() * len(batch)
        curve.append(total / len(permutation))
    return layout.vector(net) - start, torch.tensor(curve)


def assert_same(updates: Tensor, others: Tensor, schedule: TrainingSchedule) -> None:
    """Equal within float rounding. Adam divides by the gradient's own size, so a coordinate whose gradient is all
    rounding error may differ by a part of the learning rate: at most one in ten thousand."""
    far = (updates - others).abs() > TOLERANCE
    assert far.float().mean() <= (1e-4 if schedule.optimizer == "adam" else 0)
    torch.testing.assert_close(updates, others, atol=0.1 * schedule.lr if far.any() else TOLERANCE, rtol=0)
