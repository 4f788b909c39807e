"""Training of masks by hand: one flat vector, weights made of it in every step, the chain rule written out."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, TrainedMask, TrainingSchedule
from autoflip_secure.local_rules.one_shot import OneShot
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.fedpm import FedPM
from autoflip_secure.seeds import Purpose, generator


def roles(pruner: TrainedMask, layout: Layout) -> dict[str, str]:
    """The role of every tensor, from what the papers say and not from the code: FedPM masks weights and biases, FedMask
    all weights but the output layer's."""
    found = {}
    for segment in layout:
        if segment.kind == "buffer":
            found[segment.name] = "shared"
        elif segment.frozen:
            found[segment.name] = "fixed"
        elif isinstance(pruner, FedPM):
            found[segment.name] = "scored" if segment.kind in ("weight", "bias") else "fixed"
        else:
            found[segment.name] = "scored" if segment.kind == "weight" and not segment.output else "personal"
    return found


class MaskByHand:
    """One job; :meth:`run` gives where scores end, and the mask that is held then."""

    def __init__(
        self, module: nn.Module, layout: Layout, x: Tensor, job: ClientJob, schedule: TrainingSchedule
    ) -> None:
        assert job.scoring is not None
        self.net, self.layout, self.x, self.job, self.schedule = copy.deepcopy(module).train(), layout, x, job, schedule
        self.pruner, self.theta = job.scoring.pruner, job.scoring.theta
        self.roles = roles(self.pruner, layout)
        self.held = torch.ones(layout.size, dtype=torch.bool) if job.mask is None else job.mask.clone()
        self.values = torch.where(self.held, job.start, 0.0)
        self.moments = [torch.zeros(layout.size), torch.zeros(layout.size)]
        self.steps = 0

    def run(self) -> tuple[Tensor, Tensor]:
        """The slow way."""
        order = generator(self.job.seed, Purpose.BATCHES, *self.job.address)
        draws = generator(self.job.seed, Purpose.MASK_DRAWS, *self.job.address)
        for epoch in range(1, self.schedule.epochs + 1):
            rows = torch.randperm(len(self.job.samples), generator=order)
            for batch in rows.split(self.schedule.batch_size):
                self._step(self.job.samples[batch], self.job.labels[batch], draws)
            if epoch == 1 and self.job.rule is not None and isinstance(self.job.rule.rule, OneShot):
                self._cut(self.job.rule.rule)
        return self.values, self.held

    def _masks(self, draws: torch.Generator) -> Tensor:
        mask = torch.ones(self.layout.size)
        for segment in self.layout:
            if self.roles[segment.name] != "scored":
                continue
            own = self.values[segment.slice]
            if isinstance(self.pruner, FedPM):
                mask[segment.slice] = (torch.rand(len(own), generator=draws) < own.sigmoid()).float()
            else:
                mask[segment.slice] = (own.sigmoid() >= 0.5).float()
        return mask

    def _step(self, samples: Tensor, labels: Tensor, draws: torch.Generator) -> None:
        mask, weights = self._masks(draws), self.values.clone()
        for segment in self.layout:
            role, place = self.roles[segment.name], segment.slice
            if role == "scored":
                weights[place] = self.theta[place] * mask[place] * self.held[place]
            elif role == "fixed" and not segment.frozen:
                weights[place] = self.theta[place]
        self.layout.load(self.net, weights)
        self.net.zero_grad()
        F.cross_entropy(self.net(self.x[samples]), labels).backward()
        gradient, used = torch.zeros(self.layout.size), torch.zeros(self.layout.size, dtype=torch.bool)
        for name, parameter in self.net.named_parameters():
            place, role = self.layout[name].slice, self.roles[name]
            if parameter.grad is None:
                continue
            used[place] = True
            gradient[place] = parameter.grad.flatten()
            if role == "scored":
                chance = self.values[place].sigmoid()
                gradient[place] *= self.theta[place] * chance * (1 - chance)
            elif role == "fixed":
                gradient[place] = 0.0
        for name, buffer in self.net.named_buffers():
            if buffer.is_floating_point():
                self.values[self.layout[name].slice] = buffer.flatten()
        self._move((gradient + self._penalty(mask)) * self.held, used)

    def _penalty(self, mask: Tensor) -> Tensor:
        found, rule = torch.zeros(self.layout.size), None if self.job.rule is None else self.job.rule.rule
        if not isinstance(rule, OneShot):
            return found
        names = [segment for segment in self.layout if self.roles[segment.name] == "scored"]
        for segment in names:
            held, chance = self.held[segment.slice].float(), self.values[segment.slice].sigmoid()
            density = (mask[segment.slice] * held).sum() / held.sum()
            slope = 2 * (density - rule.target_density) / held.sum() / len(names)
            found[segment.slice] = rule.strength * slope * held * chance * (1 - chance)
        return found

    def _move(self, gradient: Tensor, used: Tensor) -> None:
        schedule, self.steps = self.schedule, self.steps + 1
        gradient = gradient + schedule.weight_decay * self.values * used
        first, second = self.moments
        if schedule.optimizer == "adam":
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.999).add_(0.001 * gradient**2)
            scale = (second / (1 - 0.999**self.steps)).sqrt() + 1e-8
            step = schedule.lr * first / (1 - 0.9**self.steps) / scale
        else:
            first.mul_(schedule.momentum).add_(gradient)
            step = schedule.lr * first
        self.values = torch.where(used, self.values - step, self.values)

    def _cut(self, rule: OneShot) -> None:
        for segment in self.layout:
            if self.roles[segment.name] != "scored" or not bool(self.held[segment.slice].all()):
                continue
            own = self.values[segment.slice]
            best = sorted(range(len(own)), key=lambda j, own=own: (-float(own[j]), j))  # type: ignore[misc]
            kept = torch.zeros(len(own), dtype=torch.bool)
            kept[best[: round((1 - rule.sparsity) * len(own))]] = True
            self.held[segment.slice] = kept
        self.values = torch.where(self.held, self.values, 0.0)
        for moment in self.moments:
            moment[~self.held] = 0.0
