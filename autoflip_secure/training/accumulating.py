r"""What clients sum up over the steps of their local training, for whoever asked before the round.

.. math:: \text{gradients: } \sum_s g_s, \qquad \text{squares: } \sum_s g_s^2, \qquad
          g_s = \frac{1}{|B_s|} \sum_{i \in B_s} \nabla_w \ell(x_i, y_i; w_s)

Dense: :math:`w_s` is masked, and a pruned weight has the gradient that it would have at zero. Of the loss alone: before
masks, local rules, weight decay and momentum. Elementwise, so a model's sums do not depend on the models beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoflip_secure.interfaces import ClientJob
from autoflip_secure.interfaces.accumulated import Accumulated


def wanted_by(jobs: Iterable[ClientJob]) -> tuple[Accumulated, ...]:
    """What at least one of ``jobs`` asks for, in a fixed order."""
    asked = frozenset[Accumulated]().union(*(job.accumulate for job in jobs))
    return tuple(sorted(asked))


@dataclass(frozen=True)
class Accumulator:
    """Running sums, one tensor for each of the tensors that get gradients."""

    totals: dict[Accumulated, list[Tensor]]

    @classmethod
    def of(cls, wanted: Iterable[Accumulated], like: Sequence[Tensor]) -> Accumulator:
        """Zeros, in memory as ``like`` lie."""
        return cls({name: [torch.zeros_like(tensor) for tensor in like] for name in wanted})

    def __bool__(self) -> bool:
        """Whether anything is wanted."""
        return bool(self.totals)

    def first(self, rows: int) -> Accumulator:
        """Of the first ``rows`` models of a stack: views."""
        return Accumulator({name: [total[:rows] for total in totals] for name, totals in self.totals.items()})

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Take in one step; None: that tensor got no gradient."""
        places = [place for place, gradient in enumerate(gradients) if gradient is not None]
        found = [gradient for gradient in gradients if gradient is not None]
        for name, totals in self.totals.items():
            chosen = [totals[place] for place in places]
            if name == "gradients":
                torch._foreach_add_(chosen, found)
            else:
                torch._foreach_addcmul_(chosen, found, found)
