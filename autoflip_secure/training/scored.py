"""Weights that are made of trained scores, in every step: once for all trainers.

What the optimiser steps are the scores; the forward pass sees the weights that :class:`.TrainedMask` makes of them, and
autograd takes the gradient back through its straight-through mask. Everything is elementwise, or a mean over one unit
of one model, so a model's numbers do not depend on those beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, Scoring, trained_thresholds
from autoflip_secure.interfaces.trained_mask import coordinates, role_of
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training.base import sent
from autoflip_secure.training.buckets import LANES


class MaskDraws:
    """A job's uniform numbers: one for each scored coordinate, in the order of the layout, in every step."""

    def __init__(self, job: ClientJob, layout: Layout) -> None:
        assert job.scoring is not None
        self._scored = coordinates(job.scoring.pruner, layout, "scored")
        self._count, self._size = int(self._scored.sum()), layout.size
        self._source = generator(job.seed, Purpose.MASK_DRAWS, *job.address)

    def next(self) -> Tensor:
        """Those of the next step (params,), on the CPU; 0 where nothing is scored."""
        drawn = torch.rand(self._count, generator=self._source)
        if self._count == self._size:
            return drawn
        row = torch.zeros(self._size)
        row[self._scored] = drawn
        return row


def refuse_private_scores(job: ClientJob) -> None:
    """Refuse what DP-SGD cannot do.

    Raises:
        InputError: the job trains scores.
    """
    if job.scoring is not None:
        raise InputError(
            f"the pruner {type(job.scoring.pruner).__name__} trains masks, and DP-SGD clips gradients of weights; "
            "train without DP-SGD, or use another pruner"
        )


class Scored:
    """Scores of models side by side, and the weights that they make.

    Args:
        scoring: of all of them; theta apart, which may differ from cell to cell.
        segments: of the tensors.
        theta: one tensor (models, *shape) a segment.
    """

    def __init__(self, scoring: Scoring, segments: Sequence[Segment], theta: list[Tensor]) -> None:
        self._pruner, self._theta, self._segments = scoring.pruner, theta, tuple(segments)
        self._roles = [role_of(scoring.pruner, segment) for segment in segments]

    def weights(
        self, trained: Sequence[Tensor], masks: Sequence[Tensor] | None, uniform: Sequence[Tensor] | None
    ) -> list[Tensor]:
        """What the forward pass uses, differentiable in ``trained``; of the first models, as many as there are in it.

        ``masks``: of the client, as float; ``uniform``: of this step, where the pruner draws.
        """
        if (whole := trained_thresholds(self._pruner)) is not None:
            return whole.made(self._segments, trained)
        places = [number for number, role in enumerate(self._roles) if role == "scored"]
        like = [trained[number] for number in places]
        drawn = None if uniform is None else _joined([uniform[number] for number in places])
        found = iter(_parted(self._pruner.mask_of(_joined(like), drawn), like)) if places else iter(())
        made = []
        for number, (values, role) in enumerate(zip(trained, self._roles, strict=True)):
            theta = self._theta[number][: len(values)]
            if role == "scored":
                weights = theta * next(found)
                made.append(weights if masks is None else weights * masks[number])
            else:
                made.append(theta if role == "fixed" else values)
        return made


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """All their numbers, each tensor's as they lie in memory, filled up with zeros: where a kernel takes so many at a
    time, those that are left over may have other last bits."""
    flat = torch.cat([tensor.permute(_order(tensor)).reshape(-1) for tensor in tensors])
    return F.pad(flat, (0, -len(flat) % LANES))


def _parted(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Inverse of :func:`_joined`, for tensors of the shapes of ``like`` that lie in memory as these do."""
    found, first = [], 0
    for tensor in like:
        order = _order(tensor)
        part = flat[first : (first := first + tensor.numel())].view([tensor.shape[dim] for dim in order])
        found.append(part.permute([order.index(dim) for dim in range(tensor.dim())]))
    return found


def _order(tensor: Tensor) -> list[int]:
    """Its dimensions as they lie in memory, outermost first."""
    strides = tensor.stride()
    return sorted(range(tensor.dim()), key=lambda dim: (-strides[dim], dim))


class ScoredStack:
    """The same of a stack of jobs, with their draws.

    Args:
        jobs: in the order of the stack, ghosts included.
        layout: of the model.
        segments: of the tensors that are trained.
        like: those tensors (models, *shape), whose place in memory the others take.
    """

    def __init__(
        self, jobs: Sequence[ClientJob], layout: Layout, segments: Sequence[Segment], like: Sequence[Tensor]
    ) -> None:
        scoring = jobs[0].scoring
        assert scoring is not None
        self._layout, self._segments = layout, segments
        rows = torch.stack([job.scoring.theta for job in jobs if job.scoring is not None])
        self._scored = Scored(scoring, segments, self._laid(rows, [torch.empty_like(one) for one in like]))
        self._draws = [MaskDraws(job, layout) for job in jobs] if scoring.pruner.draws else []
        self._uniform = [torch.empty_like(one) for one in like] if self._draws else []

    def _laid(self, rows: Tensor, into: list[Tensor]) -> list[Tensor]:
        named = self._layout.tensors(rows.to(into[0].device) if into else rows)
        for tensor, segment in zip(into, self._segments, strict=True):
            tensor[: len(rows)] = named[segment.name]
        return into

    def weights(self, leaves: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
        """Of the next step of the first models, as many as ``leaves`` have; ``masks``: none where all is held."""
        uniform, count = None, len(leaves[0])
        if self._draws:
            drawn = sent(torch.stack([draws.next() for draws in self._draws[:count]]), leaves[0].device)
            uniform = [tensor[:count] for tensor in self._laid(drawn, self._uniform)]
        return self._scored.weights(leaves, masks or None, uniform)


class ScoredModule:
    """Scores of one module, of which ``torch.optim`` steps :attr:`values`; the module holds the weights they make."""

    def __init__(
        self,
        job: ClientJob,
        layout: Layout,
        names: Sequence[str],
        parameters: Sequence[nn.Parameter],
        masks: list[Tensor] | None,
    ) -> None:
        """``parameters`` lie where the job starts; ``masks``: as float, one a parameter, read in every step."""
        scoring = job.scoring
        assert scoring is not None
        self._layout, self._parameters = layout, parameters
        self._segments = [layout[name] for name in names]
        self.values = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
        device = self.values[0].device
        self._scored = Scored(scoring, self._segments, self._of(scoring.theta.to(device)))
        self._masks = None if masks is None else [mask[None] for mask in masks]
        self._draws = MaskDraws(job, layout) if scoring.pruner.draws else None
        self._made: list[Tensor] = []

    def _of(self, row: Tensor) -> list[Tensor]:
        named = self._layout.tensors(row[None])
        return [named[segment.name] for segment in self._segments]

    def load(self) -> None:
        """Before a step: make the weights, and put them into the module."""
        uniform = None if self._draws is None else self._of(self._draws.next().to(self.values[0].device))
        self._made = self._scored.weights([value[None] for value in self.values], self._masks, uniform)
        with torch.no_grad():
            for parameter, made in zip(self._parameters, self._made, strict=True):
                parameter.grad = None
                parameter.copy_(made[0])

    def collect(self) -> None:
        """After the backward pass: gradients of the scores, from those of the weights; none where a weight has none."""
        used = [number for number, parameter in enumerate(self._parameters) if parameter.grad is not None]
        moved = [number for number in used if self._made[number].requires_grad]
        found = torch.autograd.grad(
            [self._made[number] for number in moved],
            [self.values[number] for number in used],
            [grad[None] for number in moved if (grad := self._parameters[number].grad) is not None],
            allow_unused=True,
            materialize_grads=True,  # what stays as it is has a gradient of zero, as in a stack
        )
        for value in self.values:
            value.grad = None
        for number, gradient in zip(used, found, strict=True):
            self.values[number].grad = gradient
