r"""DP-SGD of many clients as one program (Abadi et al. 2016, Algorithm 1).

.. math::
    \tilde g = \frac{1}{q n} \Big( \sum_{i \in \text{batch}} g_i \min(1, C / \|g_i\|) + \sigma C z \Big), \quad
    z \sim N(0, I)

and then an ordinary step of the optimiser. Batches have no fixed size: those of a job are padded to four standard
deviations above the expected size, or to its largest one, so that a job's numbers do not depend on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import torch
from torch import Tensor

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training.analytic import clipped_sums
from autoflip_secure.training.base import Done, Work, named_tensors, sent
from autoflip_secure.training.buckets import FEWEST, height
from autoflip_secure.training.chain import chain_program
from autoflip_secure.training.jobs import masked_starts
from autoflip_secure.training.per_sample import ClippedSums
from autoflip_secure.training.poisson import NoiseStream, poisson_batches
from autoflip_secure.training.program import kept_floats
from autoflip_secure.training.ruled import Ruled, StackedStepper, broadcasts, refuse_moving_masks
from autoflip_secure.training.scored import refuse_private_scores
from autoflip_secure.training.steps import stacked_optimizer

AHEAD = 2_000_000
"""Numbers of noise that a stack draws at once, if a step takes fewer."""

WIDTHS = 4
"""Padded batches have a multiple of so many samples."""


@dataclass(frozen=True)
class _Planned:
    """A job, its place in the list, and its batches."""

    place: int
    job: ClientJob
    order: Tensor  # (steps, width): positions in the job's samples, padding repeats the first
    real: Tensor  # (steps, width): 0 for padding

    @property
    def shape(self) -> tuple[int, int, bool]:
        """(width, steps, whether there is a mask): jobs of one shape stack together."""
        return self.order.shape[1], self.order.shape[0], self.job.mask is not None


def train_privately(work: Work, budget: int) -> Done:
    """Train jobs that are all private, and all have the same local rule, which gets gradients that are noised already.

    The loss of an epoch is the mean over the samples that were drawn in it, each at its moment; 0 if none was.

    Raises:
        InputError: the rule moves masks, or masks are trained.
    """
    refuse_moving_masks(work.jobs[0].rule)
    refuse_private_scores(work.jobs[0])
    net, layout, x, schedule = work.net, work.layout, work.x, work.schedule
    named = named_tensors(net)
    trained = [n for n, segment in enumerate(layout) if named[segment.name].requires_grad]
    activations = kept_floats(net, x[:1])  # before the layers get hooks
    names = [segment.name for segment in layout]
    program = chain_program(work.template, names, x)
    sums = clipped_sums(net, names, trained, x, work.notes, program)
    planned = sorted((_plan(place, job, schedule) for place, job in enumerate(work.jobs)), key=_shape_and_place)
    done = work.room()
    while planned:
        width = planned[0].shape[0]
        most = max(FEWEST, budget // (3 * layout.size + width * activations))
        taken = [one for one in planned[:most] if one.shape == planned[0].shape]
        planned = planned[len(taken) :]
        ends, losses = _run(sums, layout, trained, x, taken, schedule)
        done.put([one.place for one in taken], Done(ends, losses))
    return done


def _shape_and_place(planned: _Planned) -> tuple[int, int, bool, int]:
    width, steps, masked = planned.shape
    return -width, -steps, masked, planned.place


def _plan(place: int, job: ClientJob, schedule: TrainingSchedule) -> _Planned:
    batches = poisson_batches(job, schedule)
    counts = batches.sum(1)
    size, share = schedule.batch_size, schedule.batch_size / len(job.samples)
    usual = min(ceil(size + 4 * sqrt(size * (1 - share))), len(job.samples))  # so that jobs of a size stack together
    width = -(-max(1, usual, int(counts.max())) // WIDTHS) * WIDTHS
    order = batches.int().argsort(dim=1, descending=True, stable=True)
    if order.shape[1] < width:
        order = torch.cat([order, order[:, :1].expand(-1, width - order.shape[1])], 1)
    real = torch.arange(width) < counts[:, None]
    return _Planned(place, job, torch.where(real, order[:, :width], order[:, :1]), real.float())


def _run(
    sums: ClippedSums, layout: Layout, trained: list[int], x: Tensor, taken: list[_Planned], schedule: TrainingSchedule
) -> tuple[Tensor, Tensor]:
    """Train one stack; all jobs in it take the same number of steps."""
    device = x.device
    rows = taken + [taken[0]] * (height(len(taken), taken[0].shape[0]) - len(taken))  # ghosts
    tensors = list(layout.tensors(masked_starts([one.job for one in rows]).to(device)).values())
    tensors = [tensor.clone(memory_format=torch.contiguous_format) for tensor in tensors]
    leaves = [tensors[number] for number in trained]
    free = torch.ones(layout.size, dtype=torch.bool)
    live = torch.stack([free if one.job.mask is None else one.job.mask.cpu() for one in rows]).to(device, torch.float32)
    views = list(layout.tensors(live).values())
    masks = None if all(one.job.mask is None for one in rows) else [views[number] for number in trained]
    clip = torch.tensor([p.clip for one in rows if (p := one.job.private) is not None], device=device)
    noise = _Noise(rows, len(taken), layout, None if masks is None else live, device)
    index = torch.stack([one.job.samples.cpu()[one.order] for one in rows], 1).to(device)
    labels = torch.stack([one.job.labels.cpu()[one.order] for one in rows], 1).to(device)
    real = torch.stack([one.real for one in rows], 1).to(device)
    optimizer = stacked_optimizer(schedule, leaves)
    ruled = _ruled([one.job for one in rows], layout, trained, leaves, masks)
    trace = torch.zeros(len(index), len(rows), device=device)
    for step in range(len(index)):
        inputs = x.index_select(0, index[step].reshape(-1)).view(len(rows), -1, *x.shape[1:])
        grads, losses = sums(tensors, masks, inputs, labels[step], real[step], clip)
        with torch.no_grad():
            if noise:
                added = noise.at(step)
                grads = list(torch._foreach_add(grads, [added[number] for number in trained]))
            torch._foreach_div_(grads, float(schedule.batch_size))
            if ruled is None:
                optimizer.step(leaves, grads)
            else:
                ruled.step(grads, StackedStepper(optimizer, leaves))
            trace[step] = torch.where(real[step] > 0, losses, 0.0).sum(1)  # padding may repeat what overflows
    ends = torch.cat([tensor.reshape(len(rows), -1) for tensor in tensors], 1)[: len(taken)]
    counts, losses = (  # (rows, epochs): of each row by itself, whatever stands beside it
        each.T.contiguous().reshape(len(rows), schedule.epochs, -1).sum(2) for each in (real.sum(2), trace)
    )
    return ends, (losses / counts.clamp_min(1))[: len(taken)]


class _Noise:
    """What is added to the sums of a stack: sigma C z in its trained, unmasked coordinates, drawn for steps ahead."""

    def __init__(
        self, rows: list[_Planned], taken: int, layout: Layout, live: Tensor | None, device: torch.device
    ) -> None:
        """``rows``: with ghosts behind the ``taken`` ones, which get none; ``live``: (rows, params), 0 where masked."""
        private = [one.job.private for one in rows[:taken]]
        self._streams = {
            row: NoiseStream(rows[row].job) for row, p in enumerate(private) if p is not None and p.noise_multiplier
        }
        self._scale = torch.zeros(len(rows), 1)
        for row in self._streams:
            steps = rows[row].job.private
            assert steps is not None
            self._scale[row] = steps.clip * steps.noise_multiplier
        self._layout, self._live, self._device = layout, live, device
        self._left = len(rows[0].order)
        params = int(layout.trained.sum())
        ahead = max(1, min(self._left, AHEAD // (len(rows) * params))) if self._streams else 0
        self._drawn = torch.zeros(ahead, len(rows), params)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._streams)

    def at(self, step: int) -> list[Tensor]:
        """Of the next step, a tensor (rows, *shape) for each of the layout."""
        place = step % len(self._drawn)
        if place == 0:
            block = self._drawn[: self._left]
            for row, stream in self._streams.items():
                stream.draw(block[:, row])
            self._left -= len(block)
            block.mul_(self._scale)
        noise = sent(self._layout.spread(self._drawn[place], self._layout.trained), self._device)
        if self._live is not None:
            noise = noise * self._live
        return list(self._layout.tensors(noise).values())


def _ruled(
    jobs: list[ClientJob], layout: Layout, trained: list[int], leaves: list[Tensor], masks: list[Tensor] | None
) -> Ruled | None:
    """The local rule of a stack."""
    rule, segments = jobs[0].rule, [layout.segments[number] for number in trained]
    if rule is None:
        return None
    starts, sent = [leaf.clone() for leaf in leaves], None
    if rule.broadcast is not None:
        sent = broadcasts(jobs, layout, segments, leaves[0].device)
    return Ruled(rule, segments, leaves, starts, masks, sent)
