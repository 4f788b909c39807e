r"""Which jobs are stacked together, and how much of the stack is waste.

A job with :math:`n` samples, batch size :math:`B`, :math:`E` epochs takes :math:`E \lceil n / W \rceil` steps of width

.. math:: W = B \text{ if } n \ge B, \text{ else } \min(B, \max(16, 2^{\lceil \log_2 n \rceil}))

The width depends on the job alone, never on its neighbours, so the numbers of a job do not depend on them either. Jobs
of one width are sorted by their number of steps; a bucket is a run of them. A job that is done leaves the stack, so the
only waste is the padding of partial batches, and a few ghosts (:func:`height`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from autoflip_secure.interfaces import TrainingSchedule

FEWEST = 2
"""Rows of a stack at least: a product of one pair of matrices may go to another kernel than a batch of them."""

LANES = 32
"""Numbers that elementwise kernels take at a time: twice the widest register of float32 (AVX-512)."""

NARROWEST = 16
"""Width of the batches of very small clients, where the batch size allows it: saves ghosts, and buckets."""


@dataclass(frozen=True)
class Bucket:
    """Jobs of one width, most steps first."""

    jobs: tuple[int, ...]  # positions in the list of jobs
    steps: tuple[int, ...]  # of each job, not increasing
    width: int  # samples of a batch, padding included

    @property
    def rows(self) -> int:
        """Rows of the stack at its start."""
        return height(len(self.jobs), self.width)

    def stretches(self) -> Iterator[tuple[int, int, int, int]]:
        """(first step, stop step, active jobs in it, active jobs after it), in order of time."""
        first, active = 0, len(self.jobs)
        while active:
            stop = self.steps[active - 1]
            after = active
            while after and self.steps[after - 1] == stop:
                after -= 1
            yield first, stop, active, after
            first, active = stop, after

    @property
    def slots(self) -> int:
        """Samples that are computed, padding included."""
        return sum(
            (stop - first) * height(active, self.width) * self.width for first, stop, active, _ in self.stretches()
        )


def width(size: int, batch_size: int) -> int:
    """Width of the batches of a job with ``size`` samples.

    >>> [width(n, 64) for n in (1, 9, 16, 17, 40, 64, 100)]
    [16, 16, 16, 32, 64, 64, 64]
    >>> [width(n, 10) for n in (1, 9, 40)]
    [10, 10, 10]
    """
    return batch_size if size >= batch_size else min(batch_size, max(NARROWEST, 1 << (size - 1).bit_length()))


def height(jobs: int, width: int) -> int:
    """Rows of a stack of ``jobs`` models with ``width`` samples each: ghosts fill it up where they have to.

    An elementwise kernel computes what is left over at the end of a tensor, fewer numbers than :data:`LANES`, one by
    one, and by other instructions: the sigmoid of the last model would differ from that of the others. So nothing is
    left over, or the ghosts at the end are all of it, even of a tensor with one number a sample.

    >>> [height(jobs, 16) for jobs in (1, 2, 3, 20, 21)]
    [2, 2, 4, 20, 22]
    >>> [height(jobs, 10) for jobs in (1, 13, 16, 20)], height(4, 32), height(1, 350)
    ([5, 16, 16, 24], 4, 2)
    """
    rows = max(jobs, FEWEST)
    if rows * width % LANES == 0:
        return rows
    whole = LANES // gcd(width, LANES)
    return min(-(-rows // whole) * whole, jobs + -(-LANES // width))


def filled(rows: Tensor, count: int) -> Tensor:
    """``rows`` with copies of the first behind them, ``count`` in all; as they are when they are as many."""
    missing = count - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def plan(
    sizes: Sequence[int], schedule: TrainingSchedule, parameters: int, activations: int, budget: int
) -> list[Bucket]:
    """Buckets such that one step of a stack touches about ``budget`` floats: weights and activations.

    Args:
        sizes: samples of each job.
        schedule: batch size and epochs.
        parameters: P of one model.
        activations: floats that one sample's forward keeps for its backward.
        budget: floats per step; what fits the processor's caches is fastest.
    """
    widths = [width(size, schedule.batch_size) for size in sizes]
    steps = [schedule.epochs * -(-size // w) for size, w in zip(sizes, widths, strict=True)]
    order = sorted(range(len(sizes)), key=lambda job: (-widths[job], -steps[job], job))
    buckets: list[Bucket] = []
    while order:
        common = widths[order[0]]
        most = max(FEWEST, budget // (parameters + common * activations))
        taken = [job for job in order[:most] if widths[job] == common]
        order = order[len(taken) :]
        buckets.append(Bucket(tuple(taken), tuple(steps[job] for job in taken), common))
    return buckets


def padding_waste(sizes: Sequence[int], schedule: TrainingSchedule, buckets: Sequence[Bucket]) -> float:
    """Samples computed / samples used, at least 1."""
    return sum(bucket.slots for bucket in buckets) / (schedule.epochs * sum(sizes))
