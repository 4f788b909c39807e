"""What a job begins from, in which order it uses its samples, and which jobs no trainer can do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose, generator


def batch_order(job: ClientJob, epochs: int) -> Int[Tensor, "epochs n"]:
    """Order in which the job's samples are used: a permutation per epoch, from one generator at (BATCHES, *address)."""
    source = generator(job.seed, Purpose.BATCHES, *job.address)
    return torch.stack([torch.randperm(len(job.samples), generator=source) for _ in range(epochs)])


def batch_orders(jobs: Sequence[ClientJob], epochs: int) -> list[Int[Tensor, "epochs n"]]:
    """:func:`batch_order` of every job; those of one draw, as of algorithms that are compared at one seed, share it."""
    found: dict[tuple[object, ...], Tensor] = {}
    keys = [(job.seed, job.address, len(job.samples)) for job in jobs]
    for key, job in zip(keys, jobs, strict=True):
        if key not in found:
            found[key] = batch_order(job, epochs)
    return [found[key] for key in keys]


def masked_start(job: ClientJob) -> Float[Tensor, " params"]:
    """The job's start with zeros where its mask is False."""
    return job.start if job.mask is None else torch.where(job.mask, job.start, torch.zeros_like(job.start))


def masked_starts(jobs: Sequence[ClientJob]) -> Float[Tensor, "jobs params"]:
    """:func:`masked_start` of every job; those that begin alike, as a cell's participants do, are masked once."""
    found: dict[tuple[int, int], Tensor] = {}
    keys = [(id(job.start), id(job.mask)) for job in jobs]
    for key, job in zip(keys, jobs, strict=True):
        if key not in found:
            found[key] = masked_start(job)
    return torch.stack([found[key] for key in keys])


def check(job: ClientJob, layout: Layout) -> None:
    """Refuse what no trainer can do.

    Raises:
        InputError: no samples, a start of another model, or sums of gradients beside DP-SGD.
    """
    if job.private is not None and job.accumulate:
        raise InputError(
            f"the client at address {job.address} is to sum up gradients, and DP-SGD clips and noises live coordinates "
            "only, so there are none at masked ones; train without DP-SGD, or ask for nothing"
        )
    if len(job.samples) == 0:
        raise InputError(
            f"the client at address {job.address} has 0 samples; every client needs at least 1: change the partition"
        )
    if job.start.shape != (layout.size,):
        raise InputError(
            f"the start of the client at address {job.address} has shape {tuple(job.start.shape)}; "
            f"the model needs ({layout.size},): use a layout and a start of the same model"
        )
