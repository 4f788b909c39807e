"""How a local rule is obeyed: once for all trainers, which hand over gradients and a way to step.

The order of a step is that of :mod:`autoflip_secure.interfaces.local_rule`. Nothing here reduces over the models of a
stack, so a model's numbers depend on those beside it only if the rule makes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, LocalView, RoundRule
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.training.outside_rules import given, penalties
from autoflip_secure.training.steps import StackedOptimizer, without_masked

T = TypeVar("T")


class Stepper(ABC):
    """An optimiser and what it steps, as a rule needs them. Gradients are one tensor (models, *shape) a segment."""

    @abstractmethod
    def take(self, gradients: list[Tensor]) -> None:
        """Step in place."""

    @abstractmethod
    def propose(self, gradients: list[Tensor]) -> list[Tensor]:
        """What :meth:`take` would add, as new tensors; the optimiser counts it as made."""

    def take_pulled(self, gradients: list[Tensor], weights: list[Tensor], starts: list[Tensor], mu: float) -> None:
        """:meth:`take` with the gradient of mu/2 ||weights - starts||^2 in it."""
        self.take(pulled(gradients, weights, starts, mu))


def pulled(gradients: list[Tensor], weights: list[Tensor], starts: list[Tensor], mu: float) -> list[Tensor]:
    """``gradients`` + mu (weights - starts), in place."""
    torch._foreach_add_(gradients, weights, alpha=mu)
    torch._foreach_add_(gradients, starts, alpha=-mu)
    return gradients


@dataclass(frozen=True)
class StackedStepper(Stepper):
    """Stacked leaves and their optimiser."""

    optimizer: StackedOptimizer
    leaves: list[Tensor]

    def take(self, gradients: list[Tensor]) -> None:
        """Step in place."""
        self.optimizer.step(self.leaves, gradients)

    def propose(self, gradients: list[Tensor]) -> list[Tensor]:
        """What that would add."""
        return self.optimizer.propose(self.leaves, gradients)

    def take_pulled(self, gradients: list[Tensor], weights: list[Tensor], starts: list[Tensor], mu: float) -> None:
        """Without momentum a pull is a move towards the starts, in one pass over the weights instead of two."""
        if not self.optimizer.step_towards(self.leaves, gradients, starts, mu):
            super().take_pulled(gradients, weights, starts, mu)


def alike(jobs: Sequence[ClientJob]) -> list[list[int]]:
    """Places of jobs that train by the same rule and the same masks, privately or not: they stack together."""
    groups: dict[object, list[int]] = {}
    for place, job in enumerate(jobs):
        rule = job.rule
        kind = None if rule is None else (rule.rule, rule.round, rule.rounds, rule.broadcast is None)
        scoring = None if job.scoring is None else job.scoring.pruner
        groups.setdefault((job.private is not None, kind, scoring), []).append(place)
    return list(groups.values())


def refuse_moving_masks(rule: RoundRule | None) -> None:
    """Refuse what DP-SGD cannot do.

    Raises:
        InputError: the rule moves masks.
    """
    if rule is not None and rule.moves:
        raise InputError(
            f"the local rule {type(rule.rule).__name__} moves masks between epochs, and DP-SGD clips and noises live "
            "coordinates only, so there are no gradients to grow by; use another rule, or train without DP-SGD"
        )


class Ruled:
    """Models that train by one rule, all at the same step.

    Args:
        rule: of all of them.
        segments: of the tensors.
        weights: one tensor (models, *shape) a segment, changed in place by whoever steps.
        starts: the same before the first step.
        masks: as float, changed in place when the rule moves them; None: everything is live.
        broadcast: what the rule sent, if it did.
    """

    def __init__(
        self,
        rule: RoundRule,
        segments: Sequence[Segment],
        weights: list[Tensor],
        starts: list[Tensor],
        masks: list[Tensor] | None,
        broadcast: list[Tensor] | None,
    ) -> None:
        self._rule, self._masks = rule.rule, masks
        self._hooks = rule.rule.hooks if rule.moves else rule.rule.hooks - {"mask"}
        self._weights = [weight.detach() for weight in weights]
        self._view = LocalView(tuple(segments), self._weights, starts, masks, broadcast, rule.round, rule.rounds)

    def step(self, gradients: list[Tensor], stepper: Stepper) -> None:
        """One step with mini-batch gradients that are not masked yet; unless masks move they are changed in place."""
        hooks, mu = self._hooks, self._rule.proximal
        if "penalty" in hooks:
            gradients = list(torch._foreach_add(gradients, self._penalty_gradients()))
        with torch.no_grad():
            if "mask" in hooks:  # asks for them once more, as they are
                gradients = [gradient.clone() for gradient in gradients]
            simply = hooks.isdisjoint({"gradient", "step"})
            if mu and not simply:
                pulled(gradients, self._weights, self._view.starts, mu)
            if "gradient" in hooks:
                gradients = given(self._rule, "gradient", self._view, self._rule.gradient(self._view, gradients))
            if self._masks is not None:
                gradients = without_masked(gradients, self._masks, own=False)
            if mu and simply:
                stepper.take_pulled(gradients, self._weights, self._view.starts, mu)
            elif "step" not in hooks:
                stepper.take(gradients)
            else:
                steps = given(self._rule, "step", self._view, self._rule.step(self._view, stepper.propose(gradients)))
                if self._masks is not None:
                    torch._foreach_mul_(steps, self._masks)
                torch._foreach_add_(self._weights, steps)

    def _penalty_gradients(self) -> list[Tensor]:
        with torch.enable_grad():
            weights = [weight.detach().requires_grad_() for weight in self._weights]
            total = penalties(self._rule, replace(self._view, weights=weights)).sum()
            found = torch.autograd.grad(total, weights, allow_unused=True)
        return [torch.zeros_like(w) if grad is None else grad for w, grad in zip(weights, found, strict=True)]

    def end_epoch(self, gradients: list[Tensor], epoch: Tensor, epochs: int, moved: Tensor) -> None:
        """Move the masks of some models at the end of an epoch; their weights follow.

        Args:
            gradients: of the last mini-batch, without masks.
            epoch: (models,) finished epochs.
            epochs: of local training.
            moved: (models,) whether this step was the last of an epoch after which the rule moves the mask.
        """
        assert self._masks is not None
        with torch.no_grad():
            found = given(self._rule, "mask", self._view, self._rule.mask(self._view, gradients, epoch, epochs))
            for mask, fresh, weight in zip(self._masks, found, self._weights, strict=True):
                mask.copy_(torch.where(moved.view(-1, *[1] * (mask.dim() - 1)), fresh.to(mask.dtype), mask))
                weight.masked_fill_(mask == 0, 0)


def broadcasts(
    jobs: Sequence[ClientJob], layout: Layout, segments: Sequence[Segment], device: torch.device
) -> list[Tensor]:
    """What the rules of these jobs sent, of which each did: one tensor (jobs, *shape) a segment."""
    sent = [job.rule.broadcast for job in jobs if job.rule is not None and job.rule.broadcast is not None]
    tensors = layout.tensors(torch.stack(sent).to(device))
    return [tensors[segment.name] for segment in segments]


class RuledModule:
    """One module that trains by the rule of a job: ``torch.optim`` steps it, and the rule is around that.

    Made before the first step. The rule sees the parameters that got a gradient.
    """

    def __init__(
        self,
        job: ClientJob,
        layout: Layout,
        names: Sequence[str],
        parameters: Sequence[nn.Parameter],
        masks: list[Tensor] | None,
    ) -> None:
        """``masks``: as float, one a parameter, changed in place when the rule moves them."""
        rule = job.rule
        assert rule is not None
        self._rule, self._layout, self._parameters = rule, layout, parameters
        self._segments = [layout[name] for name in names]
        self._starts = [parameter.detach().clone()[None] for parameter in parameters]
        if masks is None and rule.moves:
            masks = [torch.ones_like(parameter) for parameter in parameters]
        self._masks = None if masks is None else [mask[None] for mask in masks]
        self._broadcast = None
        if rule.broadcast is not None:
            self._broadcast = broadcasts([job], layout, self._segments, self._starts[0].device)
        self._used: list[int] = []
        self._dense: list[Tensor] = []

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """One step with the gradients that the parameters hold, masked here."""
        used = [number for number, parameter in enumerate(self._parameters) if parameter.grad is not None]
        if used != self._used:
            self._use(used)
        self._dense = [grad[None] for number in used if (grad := self._parameters[number].grad) is not None]
        self._ruled.step(self._dense, _ModuleStepper(optimizer, [self._parameters[number] for number in used]))

    def _use(self, used: list[int]) -> None:
        self._used = used
        masks, broadcast = (None if each is None else self._of(each) for each in (self._masks, self._broadcast))
        weights = [self._parameters[number].detach()[None] for number in used]
        self._ruled = Ruled(self._rule, self._of(self._segments), weights, self._of(self._starts), masks, broadcast)

    def _of(self, each: list[T]) -> list[T]:
        return [each[number] for number in self._used]

    def end_epoch(self, optimizer: torch.optim.Optimizer, epoch: int, epochs: int) -> None:
        """Move the masks, if the rule does, after ``epoch`` of ``epochs``."""
        if not self._rule.moves or self._masks is None:
            return
        if self._rule.rule.moves_after(epoch, epochs):
            at = torch.full((1,), epoch, device=self._starts[0].device)
            self._ruled.end_epoch(self._dense, at, epochs, torch.ones_like(at, dtype=torch.bool))
        for number in self._used:
            for name, value in optimizer.state[self._parameters[number]].items():
                if isinstance(value, Tensor) and name != "step":
                    value.mul_(self._masks[number][0])

    def last_mask(self, mask: Tensor | None) -> Tensor | None:
        """The mask at the end (params,), of a job that began with ``mask``; None: the rule does not move it."""
        if not self._rule.moves or self._masks is None:
            return None
        end = torch.ones(self._layout.size, dtype=torch.bool) if mask is None else mask.clone()
        for segment, own in zip(self._segments, self._masks, strict=True):
            end[segment.slice] = own.reshape(-1).to(end.device) > 0
        return end


@dataclass(frozen=True)
class _ModuleStepper(Stepper):
    """Parameters of one module and their optimiser."""

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]

    def take(self, gradients: list[Tensor]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient[0]
        self.optimizer.step()

    def propose(self, gradients: list[Tensor]) -> list[Tensor]:
        parameters = [parameter.detach() for parameter in self.parameters]
        before = [parameter.clone() for parameter in parameters]
        self.take(gradients)
        steps = torch._foreach_sub(parameters, before)
        torch._foreach_copy_(parameters, before)
        return [step[None] for step in steps]
