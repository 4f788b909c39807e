"""Whether a model's last bits depend on the other models of its stack: tried before a block runs, and written down.

The trainers are made so that they do not (:mod:`~autoflip_secure.training.stacked`), as far as the operations are known
whose results for one model cannot depend on its neighbours. A model of somebody's own may use others, and another
processor has other kernels. A trial cannot prove equality, but it finds what was ever seen to break it: the height of
the stack, and the place in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, PrivateSteps, RoundRule, Scoring, TrainingSchedule
from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.models.layout import Layout
from autoflip_secure.training.base import Trainer, working_copy
from autoflip_secure.training.evaluation import SAMPLES, evaluate
from autoflip_secure.training.program import kept_floats
from autoflip_secure.training.stacked import BUDGET, StackedTrainer

Bits = Literal["stack", "block"]
"""``stack``: a job's numbers are the same in any stack. ``block``: they repeat when the same jobs run together."""

MOST = 256
"""Models in the trial at most."""


def promised_bits(
    trainer: Trainer,
    module: nn.Module,
    layout: Layout,
    x: Shaped[Tensor, "rows ..."],
    start: Float[Tensor, " params"],
    schedule: TrainingSchedule,
    models: int,
    private: PrivateSteps | None = None,
    recipe: str = "",
    rule: RoundRule | None = None,
    *,
    gradients: bool = False,
    accumulate: frozenset[Accumulated] = frozenset(),
    scoring: Scoring | None = None,
) -> Bits:
    """What can be promised for a model on this machine.

    Args:
        start: weights around which the trial's models lie.
        schedule: of the local training; one epoch of it is tried.
        models: how many stand side by side in the block.
        private: DP-SGD, if the block trains with it.
        recipe: names what ``module`` is made from, so that its equals need no trial of their own; "": not known.
        rule: the local rule, if the block trains by one.
        gradients: whether clients are asked for those too.
        accumulate: what clients sum up while they train.
        scoring: how weights are made of what is trained, where that is not the weights.
    """
    count = max(4, min(models, MOST, _tallest(trainer, module, layout, x, schedule) + 1))
    tried = _tried_recipes.setdefault(recipe, {}) if recipe else _tried.setdefault(module, {})
    shape = (str(trainer.device), x.shape, schedule.batch_size, count, schedule.augment, schedule.precision)
    masks = None if scoring is None else scoring.pruner
    key = (type(trainer), *shape, private is None, None if rule is None else rule.rule, gradients, accumulate, masks)
    if key not in tried:
        tried[key] = _try(
            trainer,
            module,
            layout,
            x,
            start,
            schedule,
            count,
            private,
            rule,
            gradients=gradients,
            accumulate=accumulate,
            scoring=scoring,
        )
    return tried[key]


_tried: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], Bits]] = WeakKeyDictionary()
_tried_recipes: dict[str, dict[tuple[object, ...], Bits]] = {}


def _tallest(trainer: Trainer, module: nn.Module, layout: Layout, x: Tensor, schedule: TrainingSchedule) -> int:
    """Models of the tallest stack."""
    activations = kept_floats(working_copy(module, x.device).eval(), x[:1])
    budget = trainer.budget if isinstance(trainer, StackedTrainer) else BUDGET[x.device.type]
    return budget // (layout.size + schedule.batch_size * activations)


def _try(
    trainer: Trainer,
    module: nn.Module,
    layout: Layout,
    x: Tensor,
    start: Tensor,
    schedule: TrainingSchedule,
    count: int,
    private: PrivateSteps | None,
    rule: RoundRule | None,
    *,
    gradients: bool,
    accumulate: frozenset[Accumulated],
    scoring: Scoring | None,
) -> Bits:
    source = torch.Generator().manual_seed(0)
    home = start.cpu()
    moved = torch.where(layout.trained.cpu(), 1 + 0.1 * torch.randn(count, layout.size, generator=source), 1.0)
    starts = home * moved
    everybody = list(range(count))
    others = ([count // 2], [count - 1, 1, 0], everybody[::-1])  # alone, a few, in another order

    def same(run: Callable[[list[int]], Tensor]) -> bool:
        together = run(everybody)
        return all(same_bits(run(some), together[some]) for some in others)

    def measure(some: list[int]) -> Tensor:
        rows = x[: SAMPLES + 2]
        return torch.stack(evaluate(module, layout, starts[some].to(start.device), rows, labels[: len(rows)]), 1)

    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    if isinstance(trainer, StackedTrainer):
        step = schedule.model_copy(update={"epochs": 1})
        full = step.batch_size  # private batches are drawn at the rate full / size, at most 1
        wanted = (full, 5, full + 3, 1) if private is None else (full, full + 3, full + 5, 2 * full)
        sizes = [min(len(x), size) for size in wanted]
        jobs = [
            ClientJob(
                row,
                torch.arange(sizes[k % 4]),
                labels[: sizes[k % 4]],
                0,
                (k,),
                None,
                private,
                rule=rule,
                accumulate=accumulate,
                scoring=scoring,
            )
            for k, row in enumerate(starts.to(start.device))
        ]

        def train(some: list[int]) -> Tensor:
            trained = trainer.train(module, layout, x, [jobs[k] for k in some], step)
            return torch.cat([trained.updates, *trained.sums.values()], dim=1)

        if not same(train):
            return "block"
        if gradients and not same(lambda some: trainer.gradients(module, layout, x, [jobs[k] for k in some], step)):
            return "block"
    return "stack" if same(measure) else "block"


def same_bits(one: Shaped[Tensor, "*one"], other: Shaped[Tensor, "*other"]) -> bool:
    """Whether two tensors of any kind are equal bit for bit, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)
