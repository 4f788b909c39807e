"""Training of thresholds by hand: one unit after the other, the chain rule written out."""

from __future__ import annotations

import copy
from math import exp, prod

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.local_rules.sparse_units import SparseUnits
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.spafl import SpaFL
from autoflip_secure.seeds import Purpose, generator


def layers(layout: Layout) -> list[tuple[slice, slice, int, int]]:
    """Of each layer with a weight and a bias: places of both, units, and what a moved threshold is divided by."""
    found = []
    for segment in layout:
        names = [one.name for one in layout]
        if segment.kind == "weight" and f"{segment.layer}.bias" in names:
            shape = segment.shape
            fan = shape[2] * shape[3] if len(shape) == 4 else shape[1]
            found.append((segment.slice, layout[f"{segment.layer}.bias"].slice, shape[0], fan))
    return found


def masks(values: Tensor, layout: Layout) -> list[list[bool]]:
    """Which units of each layer live."""
    found = []
    for weight, bias, units, _ in layers(layout):
        sizes = values[weight].view(units, -1).abs().mean(1)
        found.append([float(size) > float(tau) for size, tau in zip(sizes, values[bias], strict=True)])
    return found


def model(values: Tensor, layout: Layout) -> Tensor:
    """The weights that the forward pass uses."""
    weights = values.clone()
    for (weight, bias, units, _), alive in zip(layers(layout), masks(values, layout), strict=True):
        rows = weights[weight].view(units, -1)
        for unit, lives in enumerate(alive):
            rows[unit] *= float(lives)
        weights[weight], weights[bias] = rows.reshape(-1), 0.0
    return weights


def moved(values: Tensor, by: Tensor, layout: Layout) -> Tensor:
    """After the global thresholds moved."""
    found = values.clone()
    for weight, bias, units, fan in layers(layout):
        rows = found[weight].view(units, -1)
        for unit in range(units):
            total = float(rows[unit].double().sum())
            rows[unit] -= (total > 0) * by[bias][unit] / fan - (total < 0) * by[bias][unit] / fan
        found[weight] = rows.reshape(-1)
    return found


class ThresholdsByHand:
    """One job; :meth:`run` gives where weights and thresholds end."""

    def __init__(
        self, module: nn.Module, layout: Layout, x: Tensor, job: ClientJob, schedule: TrainingSchedule
    ) -> None:
        assert job.scoring is not None
        self.net, self.layout, self.x, self.job, self.schedule = copy.deepcopy(module).train(), layout, x, job, schedule
        pruner = job.scoring.pruner
        assert isinstance(pruner, SpaFL)
        self.estimator, self.values = pruner.estimator, job.start.clone()
        self.rule = None if job.rule is None else job.rule.rule
        self.momentum = torch.zeros(layout.size)

    def run(self) -> Tensor:
        """The slow way."""
        order = generator(self.job.seed, Purpose.BATCHES, *self.job.address)
        for _ in range(self.schedule.epochs):
            for batch in torch.randperm(len(self.job.samples), generator=order).split(self.schedule.batch_size):
                self._step(self.job.samples[batch], self.job.labels[batch])
        return self.values

    def _step(self, samples: Tensor, labels: Tensor) -> None:
        self.layout.load(self.net, model(self.values, self.layout))
        self.net.zero_grad()
        F.cross_entropy(self.net(self.x[samples]), labels).backward()
        dense = torch.zeros(self.layout.size)
        for name, parameter in self.net.named_parameters():
            assert parameter.grad is not None
            dense[self.layout[name].slice] = parameter.grad.flatten()
        gradient = dense.clone()
        for (weight, bias, units, _), alive in zip(layers(self.layout), masks(self.values, self.layout), strict=True):
            rows, g = self.values[weight].view(units, -1), dense[weight].view(units, -1)
            new = torch.zeros_like(rows)
            for unit in range(units):
                excess = float(rows[unit].abs().mean() - self.values[bias][unit])
                passes = 1.0 if self.estimator == "identity" or abs(excess) > 1 else 0.0
                slope = passes * float((g[unit] * rows[unit]).sum())
                new[unit] = g[unit] * alive[unit] + slope * rows[unit].sign() / prod(rows[unit].shape)
                gradient[bias.start + unit] = -slope
                if isinstance(self.rule, SparseUnits):
                    gradient[bias.start + unit] -= self.rule.strength * exp(-float(self.values[bias][unit]))
            gradient[weight] = new.reshape(-1)
        if isinstance(self.rule, SparseUnits) and self.rule.clip is not None:
            gradient *= min(1.0, self.rule.clip / float(gradient.norm()))
        self.momentum = self.schedule.momentum * self.momentum + gradient
        self.values = self.values - self.schedule.lr * self.momentum
        for (_, bias, units, _), alive in zip(layers(self.layout), masks(self.values, self.layout), strict=True):
            if isinstance(self.rule, SparseUnits) and sum(alive) <= 0.01 * units:
                self.values[bias] = 0.0
