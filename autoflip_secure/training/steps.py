r"""One optimiser step of many models at once: the updates of ``torch.optim.SGD`` and ``Adam`` on stacked leaves.

.. math::
    \text{SGD:} \quad & v \leftarrow \mu v + (g + \lambda w), \quad w \leftarrow w - \eta v \\
    \text{Adam:} \quad & m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        w \leftarrow w - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

Every operation is elementwise, so a model's step does not depend on the other models of the stack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import sqrt

import torch
from torch import Tensor

from autoflip_secure.interfaces import TrainingSchedule


class StackedOptimizer(ABC):
    """Steps stacked leaves in place. ``narrow`` keeps the state of the first models only."""

    @property
    @abstractmethod
    def state(self) -> list[Tensor]:
        """What is remembered of each leaf."""

    def forget(self, masks: list[Tensor]) -> None:
        """From now on nothing is remembered where ``masks`` (one a leaf) are 0."""
        count = len(masks)
        for first in range(0, len(self.state), count):
            torch._foreach_mul_(self.state[first : first + count], masks)

    @abstractmethod
    def narrow(self, rows: int) -> None:
        """From now on only the first ``rows`` models are stepped."""

    @abstractmethod
    def step(self, leaves: list[Tensor], grads: list[Tensor]) -> None:
        """Change ``leaves`` in place. Call under ``torch.no_grad()``."""

    @abstractmethod
    def propose(self, leaves: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """What :meth:`step` would add to ``leaves``, as new tensors; remembered as if it had."""

    def step_towards(self, leaves: list[Tensor], grads: list[Tensor], anchors: list[Tensor], mu: float) -> bool:
        """:meth:`step` with mu (leaves - anchors) added to ``grads``, if there is a way cheaper than adding it."""
        return False


class StackedSgd(StackedOptimizer):
    """SGD with momentum and coupled weight decay, as in ``torch.optim.SGD``."""

    def __init__(self, schedule: TrainingSchedule, leaves: list[Tensor]) -> None:
        self.lr, self.momentum, self.decay = schedule.lr, schedule.momentum, schedule.weight_decay
        self.velocity = [torch.zeros_like(leaf) for leaf in leaves] if self.momentum else []

    @property
    def state(self) -> list[Tensor]:
        """Velocities."""
        return self.velocity

    def narrow(self, rows: int) -> None:
        """Keep the first ``rows`` models."""
        self.velocity = [v[:rows] for v in self.velocity]

    def step(self, leaves: list[Tensor], grads: list[Tensor]) -> None:
        """One step, in place."""
        torch._foreach_add_(leaves, self._direction(leaves, grads), alpha=-self.lr)

    def propose(self, leaves: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """-lr v."""
        return list(torch._foreach_mul(self._direction(leaves, grads), -self.lr))

    def step_towards(self, leaves: list[Tensor], grads: list[Tensor], anchors: list[Tensor], mu: float) -> bool:
        """Without momentum: w <- w + lr mu (anchor - w) - lr g."""
        if self.momentum:
            return False
        grads = self._direction(leaves, grads)
        torch._foreach_lerp_(leaves, anchors, self.lr * mu)
        torch._foreach_add_(leaves, grads, alpha=-self.lr)
        return True

    def _direction(self, leaves: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        if self.decay:
            grads = list(torch._foreach_add(grads, leaves, alpha=self.decay))
        if self.momentum:
            torch._foreach_mul_(self.velocity, self.momentum)
            torch._foreach_add_(self.velocity, grads)
            grads = self.velocity
        return grads


class StackedAdam(StackedOptimizer):
    """Adam with coupled weight decay, as in ``torch.optim.Adam`` with its default betas and epsilon."""

    betas = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(self, schedule: TrainingSchedule, leaves: list[Tensor]) -> None:
        self.lr, self.decay, self.steps = schedule.lr, schedule.weight_decay, 0
        self.first = [torch.zeros_like(leaf) for leaf in leaves]
        self.second = [torch.zeros_like(leaf) for leaf in leaves]

    @property
    def state(self) -> list[Tensor]:
        """First and second moments."""
        return self.first + self.second

    def narrow(self, rows: int) -> None:
        """Keep the first ``rows`` models."""
        self.first = [m[:rows] for m in self.first]
        self.second = [v[:rows] for v in self.second]

    def step(self, leaves: list[Tensor], grads: list[Tensor]) -> None:
        """One step, in place."""
        scale = self._scale(leaves, grads)
        torch._foreach_addcdiv_(leaves, self.first, scale, -self.lr / (1 - self.betas[0] ** self.steps))

    def propose(self, leaves: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """The first moment over the root of the second, times -lr."""
        steps = list(torch._foreach_div(self.first, self._scale(leaves, grads)))
        torch._foreach_mul_(steps, -self.lr / (1 - self.betas[0] ** self.steps))
        return steps

    def _scale(self, leaves: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """Take in one gradient; the root of the second moment."""
        self.steps += 1
        if self.decay:
            grads = list(torch._foreach_add(grads, leaves, alpha=self.decay))
        beta1, beta2 = self.betas
        torch._foreach_lerp_(self.first, grads, 1 - beta1)
        torch._foreach_mul_(self.second, beta2)
        torch._foreach_addcmul_(self.second, grads, grads, 1 - beta2)
        scale = list(torch._foreach_sqrt(self.second))
        torch._foreach_div_(scale, sqrt(1 - beta2**self.steps))
        torch._foreach_add_(scale, self.epsilon)
        return scale


def stacked_optimizer(schedule: TrainingSchedule, leaves: list[Tensor]) -> StackedOptimizer:
    """The stacked twin of the schedule's optimiser."""
    return StackedAdam(schedule, leaves) if schedule.optimizer == "adam" else StackedSgd(schedule, leaves)


def without_masked(gradients: list[Tensor], masks: list[Tensor], *, own: bool) -> list[Tensor]:
    """Gradients without what is masked.

    Args:
        gradients: (models, *shape) of each leaf.
        masks: the same, 0 where masked and 1 elsewhere.
        own: nobody else needs the gradients, and they are no views: they are changed in place, in half the time.
    """
    if not own:
        return list(torch._foreach_mul(gradients, masks))
    torch._foreach_mul_(gradients, masks)
    return gradients
