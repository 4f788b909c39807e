r"""The mean gradient of the loss over all of a client's samples, at given weights: what channels are measured with.

.. math:: g_k = \frac{1}{n_k} \sum_{i=1}^{n_k} \nabla_w \ell(x_{ki}, y_{ki}; w), \quad w \text{ masked}

In evaluation mode: without Dropout, and with the running statistics of BatchNorm instead of a batch's, so that the sum
does not depend on how the samples are cut into batches, nor on a draw. Dense: also where the mask is False, the
gradient that a weight of zero would have. Zero for what is not trained (frozen parameters, running statistics).

Stacked, a client's numbers do not depend on its neighbours, for the reasons given in :mod:`.stacked`.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from autoflip_secure.interfaces import ClientJob
from autoflip_secure.runtime.memory import out_of_memory
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose
from autoflip_secure.training.base import Work, named_tensors
from autoflip_secure.training.buckets import Bucket, height, plan
from autoflip_secure.training.chain import ChainProgram, chain_program
from autoflip_secure.training.jobs import masked_start, masked_starts
from autoflip_secure.training.program import (
    SLOW,
    Differentiate,
    StackedForward,
    cross_entropy,
    gradient_orders,
    kept_floats,
    lay,
    stacked_forward,
)


def one_at_a_time(work: Work) -> Float[Tensor, "jobs params"]:
    """Client by client; ``work.net`` is in evaluation mode, and changes its weights."""
    net, layout, device = work.net, work.layout, work.x.device
    named = named_tensors(net)
    segments = [segment for segment in layout if segment.trained]
    found = torch.zeros(len(work.jobs), layout.size, device=device)
    for row, job in zip(found, work.jobs, strict=True):
        layout.load(net, masked_start(job).to(device))
        samples, labels = job.samples.to(device), job.labels.to(device)
        with drawing_at(job.seed, Purpose.EVALUATION, *job.address, device=device):
            for rows, ys in zip(
                *(torch.split(part, work.schedule.batch_size) for part in (samples, labels)), strict=True
            ):
                loss = F.cross_entropy(net(work.x[rows]), ys, reduction="sum") / len(samples)
                grads = torch.autograd.grad(loss, [named[s.name] for s in segments], allow_unused=True)
                for segment, grad in zip(segments, grads, strict=True):
                    if grad is not None:
                        row[segment.slice] += grad.reshape(-1)
    return found


def in_stacks(work: Work, budget: int) -> Float[Tensor, "jobs params"]:
    """Many clients as one program where the module allows it in evaluation mode, which is tried once."""
    key = "gradients stack in evaluation mode"
    if key not in work.notes:
        work.notes[key] = _agree(_trial(work), budget)
    return _stacked(work, budget) if work.notes[key] else one_at_a_time(work)


def _trial(work: Work) -> Work:
    """Its own weights, whole and halved, on two samples; not a run's, which an attack may have made very large."""
    own, rows = work.layout.vector(work.net), torch.arange(min(2, len(work.x)))
    jobs = [ClientJob(scale * own, rows, torch.zeros_like(rows), 0, (number,)) for number, scale in enumerate((1, 0.5))]
    return replace(work, jobs=jobs)


def _agree(trial: Work, budget: int) -> bool:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stacked = _stacked(trial, budget)
    except Exception as error:  # it is the user's module: it can fail in any way, and one at a time it was made for
        if out_of_memory(error):
            raise
        return False
    plain = one_at_a_time(trial)
    close = torch.allclose(stacked, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))
    return close and not any(SLOW in str(warning.message) for warning in caught)


def _stacked(work: Work, budget: int) -> Float[Tensor, "jobs params"]:
    names, sample = [segment.name for segment in work.layout], work.x[:1]
    forward = stacked_forward(work.net, names)
    program = chain_program(work.template, names, work.x, training=False)
    orders = program.orders(work.layout) if program else gradient_orders(forward, work.net, names, sample)
    sizes, once = [len(job.samples) for job in work.jobs], work.schedule.model_copy(update={"epochs": 1})
    found = torch.zeros(len(work.jobs), work.layout.size, device=work.x.device)
    for bucket in plan(sizes, once, work.layout.size, kept_floats(work.net, sample), budget):
        found[list(bucket.jobs)] = _of_bucket(work, bucket, program or forward, orders)
    return found


def _of_bucket(
    work: Work, bucket: Bucket, forward: StackedForward | ChainProgram, orders: list[list[int] | None]
) -> Float[Tensor, "jobs params"]:
    x, layout = work.x, work.layout
    jobs = [work.jobs[place] for place in bucket.jobs]
    padded = jobs + [jobs[0]] * (bucket.rows - len(jobs))  # ghosts: see buckets.height
    starts = layout.tensors(masked_starts(padded).to(x.device))
    tensors = [lay(starts[s.name], order) for s, order in zip(layout, orders, strict=True)]
    trained = [number for number, order in enumerate(orders) if order is not None]
    sums = [torch.zeros_like(tensor) for tensor in tensors]
    index, labels, weights = _tables(bucket, padded, x.device)
    for first, stop, active, _ in bucket.stretches():
        rows = height(active, bucket.width)
        here = [tensor[:rows].detach() for tensor in tensors]
        differentiate = _way(forward, here, trained)
        totals = [sums[number][:rows] for number in trained]
        for step in range(first, stop):
            inputs = x.index_select(0, index[step, :rows].reshape(-1)).view(rows, -1, *x.shape[1:])
            _, grads = differentiate(inputs, labels[step, :rows], weights[step, :rows])
            torch._foreach_add_(totals, grads)
    return torch.cat([total[: len(jobs)].reshape(len(jobs), -1) for total in sums], dim=1)


def _way(forward: StackedForward | ChainProgram, tensors: list[Tensor], trained: list[int]) -> Differentiate:
    """What finds the gradients of the tensors at ``trained``."""
    if isinstance(forward, ChainProgram):
        return partial(forward.gradients, forward.bind(tensors))
    leaves = [tensors[number].requires_grad_() for number in trained]

    def differentiate(inputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
        losses = cross_entropy(forward(tensors, inputs), labels)
        return losses.detach(), list(torch.autograd.grad(losses, leaves, weights))

    return differentiate


def _tables(bucket: Bucket, jobs: list[ClientJob], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of x, labels and weights 1/n, each (steps, jobs, width); padding repeats the first sample, with weight 0."""
    shape = (len(jobs), bucket.steps[0], bucket.width)
    sizes = torch.tensor([len(job.samples) for job in jobs]).unsqueeze(1)
    place = torch.arange(shape[1] * shape[2]).expand(len(jobs), -1)
    columns = ([job.samples.cpu() for job in jobs], [job.labels.cpu() for job in jobs])
    index, labels = (
        pad_sequence(column, batch_first=True).gather(1, torch.where(place < sizes, place, 0)) for column in columns
    )
    tables = (table.view(shape).transpose(0, 1).contiguous() for table in (index, labels, (place < sizes) / sizes))
    rows, ys, weights = (table.to(device) for table in tables)
    return rows, ys, weights
