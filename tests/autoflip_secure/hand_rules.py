"""A rule for every hook, and the slow loop that obeys them on one flat vector, without anything of the trainers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, LocalRule, LocalView, TrainingSchedule
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose, generator

DECAY, KEPT, MOVED, MU = 0.3, 0.2, 0.25, 0.4


def rows(tensor: Tensor) -> Tensor:
    """(models, numbers), of a scalar parameter too."""
    return tensor.reshape(len(tensor), -1)


class Shrinks(LocalRule):
    """Penalty: sum of c/2 w² over all tensors, in the first round's name twice as much."""

    kind: Literal["shrinks"] = "shrinks"

    def penalty(self, view: LocalView) -> Tensor:
        return sum(DECAY / 2 / view.round * rows(w.square()).sum(1) for w in view.weights)  # type: ignore[return-value]


class LargestProducts(LocalRule):
    """Gradient (GSM): only the largest |w g| of the whole model keep theirs."""

    kind: Literal["largest_products"] = "largest_products"

    def gradient(self, view: LocalView, gradients: list[Tensor]) -> list[Tensor]:
        products = [rows((w * g).abs()) for w, g in zip(view.weights, gradients, strict=True)]
        every = torch.cat(products, 1)
        least = every.topk(round(KEPT * every.shape[1]), 1).values[:, -1:]
        return [g * (p >= least).view_as(g) for g, p in zip(gradients, products, strict=True)]


class LargestSteps(LocalRule):
    """Step: in each tensor only the largest move, twice as far, and all drift back a little."""

    kind: Literal["largest_steps"] = "largest_steps"

    def step(self, view: LocalView, steps: list[Tensor]) -> list[Tensor]:
        moved = []
        for step, weight, start in zip(steps, view.weights, view.starts, strict=True):
            size = rows(step.abs())
            least = size.topk(max(1, round(KEPT * size.shape[1])), 1).values[:, -1:]
            moved.append(2 * step * (size >= least).view_as(step) - 0.1 * (weight - start))
        return moved


class PulledProducts(LargestProducts):
    """A proximal term beside another hook, which sees it as part of the gradient."""

    kind: Literal["pulled_products"] = "pulled_products"  # type: ignore[assignment]

    @property
    def proximal(self) -> float:
        return MU


class DropsAndGrows(LocalRule):
    """Mask (FedDST): between epochs the smallest live weights go, and as many dead ones with the largest |g| come."""

    kind: Literal["drops_and_grows"] = "drops_and_grows"

    def mask(self, view: LocalView, gradients: list[Tensor], epoch: Tensor, epochs: int) -> list[Tensor]:
        assert view.masks is not None
        masks = [mask > 0 for mask in view.masks]
        for row in range(len(epoch)):
            for mask, w, g in zip(masks, view.weights, gradients, strict=True):
                live, flat = mask[row].flatten(), w[row].flatten().abs()
                count = min(int(MOVED * live.sum()), int((~live).sum())) if epoch[row] < epochs else 0
                drop = torch.where(live, flat, torch.inf).topk(count, largest=False).indices
                grow = torch.where(live, -torch.inf, g[row].flatten().abs()).topk(count).indices
                fresh = live.clone()
                fresh[drop], fresh[grow] = False, True
                mask[row] = fresh.view_as(mask[row])
        return masks


RULES: dict[str, LocalRule] = {
    rule.kind: rule  # type: ignore[attr-defined]
    for rule in (Proximal(mu=MU), Shrinks(), PulledProducts(), LargestSteps(), DropsAndGrows())
}


@dataclass
class ByHand:
    """One job, one flat vector, SGD written out. ``used``: coordinates that get a gradient."""

    module: nn.Module
    layout: Layout
    x: Tensor
    job: ClientJob
    schedule: TrainingSchedule

    def __post_init__(self) -> None:
        self.mask = torch.ones(self.layout.size, dtype=torch.bool) if self.job.mask is None else self.job.mask.clone()
        self.start = torch.where(self.mask, self.job.start, 0.0)
        self.w, self.v = self.start.clone(), torch.zeros(self.layout.size)
        self.net = copy.deepcopy(self.module).train()
        self.parts: list[slice] = []

    def gradient(self, batch: list[int]) -> Tensor:
        """Dense."""
        self.layout.load(self.net, self.w)
        rows = torch.stack([self.x[self.job.samples[i]] for i in batch])
        chances = self.net(rows).softmax(1)
        loss = -sum(chances[k, self.job.labels[i]].log() for k, i in enumerate(batch)) / len(batch)
        assert isinstance(loss, Tensor)
        named = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        flat, self.parts = torch.zeros(self.layout.size), []
        for name, grad in zip(named, found, strict=True):
            if grad is not None:
                flat[self.layout[name].slice] = grad.reshape(-1)
                self.parts.append(self.layout[name].slice)
        return flat

    def run(self, rule: str) -> tuple[Tensor, Tensor]:
        """Update and mask at the end."""
        order, plan = generator(self.job.seed, Purpose.BATCHES, *self.job.address), self.schedule
        for epoch in range(1, plan.epochs + 1):
            places = torch.randperm(len(self.job.samples), generator=order).tolist()
            for first in range(0, len(places), plan.batch_size):
                dense = self.gradient(places[first : first + plan.batch_size])
                self._step(rule, torch.where(self.mask, dense, 0.0))
            if rule == "drops_and_grows" and epoch < plan.epochs:
                self._move(dense)
        return self.w - self.start, self.mask

    def _used(self) -> Tensor:
        chosen = torch.zeros(self.layout.size, dtype=torch.bool)
        for part in self.parts:
            chosen[part] = True
        return chosen

    def _step(self, rule: str, g: Tensor) -> None:
        used = self._used()
        if rule == "shrinks":
            g = g + torch.where(used, DECAY / 4 * self.w, 0.0)  # round 4 of the jobs' rule
        if rule in ("proximal", "pulled_products"):
            g = g + torch.where(used & self.mask, MU * (self.w - self.start), 0.0)
        if rule == "pulled_products":
            count = round(KEPT * int(used.sum()))
            kept = torch.where(used, (self.w * g).abs(), -1.0).sort(descending=True).indices[:count]
            g = torch.zeros_like(g).index_put((kept,), g[kept])
        g = g + torch.where(used, self.schedule.weight_decay * self.w, 0.0)
        self.v = self.schedule.momentum * self.v + g
        step = -self.schedule.lr * self.v
        if rule == "largest_steps":
            filtered = torch.zeros_like(step)
            for part in self.parts:
                own = step[part]
                kept = own.abs().sort(descending=True).indices[: max(1, round(KEPT * len(own)))]
                filtered[part] = (-0.1 * (self.w - self.start)[part]).index_add(0, kept, 2 * own[kept])
            step = torch.where(self.mask, filtered, 0.0)
        self.w = self.w + step

    def _move(self, dense: Tensor) -> None:
        for part in self.parts:
            live = self.mask[part]
            count = min(int(MOVED * live.sum()), int((~live).sum()))
            alive, dead = live.nonzero().squeeze(1), (~live).nonzero().squeeze(1)
            self.mask[part.start + alive[self.w[part][alive].abs().argsort()[:count]]] = False
            self.mask[part.start + dead[dense[part][dead].abs().argsort(descending=True)[:count]]] = True
        self.w = torch.where(self.mask, self.w, 0.0)
        self.v = torch.where(self.mask, self.v, 0.0)
