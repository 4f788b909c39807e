r"""Poisson batches and noise of DP-SGD by address, the same for every trainer.

With :math:`n` samples and batch size :math:`B` each sample joins each of the :math:`E \lceil n / B \rceil` batches by
itself with probability :math:`q = B / n` (Abadi et al. 2016, Section 3.1).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.seeds import Purpose


def private_steps(job: ClientJob, schedule: TrainingSchedule) -> int:
    """Number of steps of a job.

    Raises:
        InputError: a batch would be larger than all samples.
    """
    n = len(job.samples)
    if schedule.batch_size > n:
        raise InputError(
            f"batch_size = {schedule.batch_size}: the client at address {job.address} has {n} samples, so its batch "
            f"rate would be {schedule.batch_size / n:.2f}, over 1; lower batch_size to {n} or less"
        )
    return schedule.epochs * -(-n // schedule.batch_size)


def poisson_batches(job: ClientJob, schedule: TrainingSchedule) -> Bool[Tensor, "steps n"]:
    """Who is in which batch, drawn at (POISSON, *address) of the job's private draws."""
    n, steps = len(job.samples), private_steps(job, schedule)
    chances = job.private_draws.generator(Purpose.POISSON, *job.address).random((steps, n))
    return torch.from_numpy(chances < schedule.batch_size / n)


class NoiseStream:
    """Standard normal noise of one job, a vector per step, from one generator at (DP_NOISE, *address).

    Drawn in double: single-precision normals end at 5.8 standard deviations.
    """

    def __init__(self, job: ClientJob) -> None:
        self._source = job.private_draws.generator(Purpose.DP_NOISE, *job.address)

    def draw(self, out: Float[Tensor, "*steps params"]) -> Float[Tensor, "*steps params"]:
        """The next vector, or those of the next steps, written into ``out`` (on the CPU)."""
        return out.copy_(torch.from_numpy(self._source.standard_normal(tuple(out.shape))))
