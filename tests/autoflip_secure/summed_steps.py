"""Local training by hand: torch's own optimiser, a loop over epochs and batches, gradients noted before any mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training.jobs import batch_order


def summed_by_hand(
    module: nn.Module, layout: Layout, x: Tensor, job: ClientJob, schedule: TrainingSchedule
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights at the end, the sum of mini-batch gradients, and that of their squares; ``module`` is changed."""
    mask = torch.ones(layout.size, dtype=torch.bool) if job.mask is None else job.mask
    layout.load(module, job.start * mask)
    named = dict(module.named_parameters())
    live = {s.name: mask[s.slice].view(s.shape) for s in layout}
    trained, more = [p for p in named.values() if p.requires_grad], {"weight_decay": schedule.weight_decay}
    if schedule.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(trained, schedule.lr, **more)
    else:
        optimizer = torch.optim.SGD(trained, schedule.lr, momentum=schedule.momentum, **more)
    total, squares = torch.zeros(layout.size), torch.zeros(layout.size)
    for order in batch_order(job, schedule.epochs):
        for places in torch.split(order, schedule.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[job.samples[places]]), job.labels[places]).backward()
            for name, parameter in named.items():
                if parameter.grad is not None:
                    total[layout[name].slice] += parameter.grad.reshape(-1)
                    squares[layout[name].slice] += parameter.grad.reshape(-1) ** 2
                    parameter.grad *= live[name]
            optimizer.step()
    return layout.vector(module), total, squares
