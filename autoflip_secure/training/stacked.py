r"""Many small models as one program: ``vmap`` over the forward, ordinary autograd, one optimiser step for all.

Leaf :math:`b` of the stack has shape (models, \*shape of tensor b). The loss of a step is
:math:`\sum_m \sum_i \omega_{mi} \ell_{mi}` with :math:`\omega_{mi} = 1/c_m` for the :math:`c_m` real samples of
model m's batch and 0 for padding, so its gradient with respect to a model's leaf is that model's mini-batch gradient.

On the CPU a job's numbers are equal to the last bit whatever else is in the stack and wherever it stands in it: the
width of its batches is its own, every reduction is inside one model, and stacks of one model do not occur
(:mod:`buckets`). Tested for fully connected and convolutional models; on a GPU equality is within float tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.utils.rnn import pad_sequence

from autoflip_secure.interfaces import ClientJob, Schedule
from autoflip_secure.parameters import Layout
from autoflip_secure.training.base import Trainer, batch_order, masked_start, named_tensors
from autoflip_secure.training.buckets import FEWEST, Bucket, plan
from autoflip_secure.training.steps import stacked_optimizer

BUDGET = {"cpu": 2_000_000, "cuda": 100_000_000}
"""Floats that one step of a stack may touch; on the CPU about what its caches hold, on a GPU what keeps it busy."""

StackedForward = Callable[[list[Tensor], Tensor], Tensor]


class StackedTrainer(Trainer):
    """Clients (and cells) on a leading dimension, in stacks of a size that suits the processor."""

    kind = "stacked"

    def __init__(
        self, reason: str = "asked for", device: torch.device | str = "cpu", budget: int | None = None
    ) -> None:
        """``budget``: floats that one step of a stack may touch, by default what suits the device."""
        super().__init__(reason, device)
        self.budget = BUDGET[self.device.type] if budget is None else budget

    def _train(
        self, net: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], schedule: Schedule
    ) -> tuple[Tensor, Tensor]:
        activations, trained = probe(net, x[jobs[0].samples[:1].to(x.device)])
        sizes = [len(job.samples) for job in jobs]
        forward = stacked_forward(net, [segment.name for segment in layout])
        ends = torch.empty(len(jobs), layout.size, device=self.device)
        losses = torch.empty(len(jobs), schedule.epochs, device=self.device)
        for bucket in plan(sizes, schedule, layout.size, activations, self.budget):
            stack = _Stack(bucket, [jobs[job] for job in bucket.jobs], layout, trained, schedule, self.device)
            stack.run(forward, x)
            where = torch.tensor(bucket.jobs, device=self.device)
            ends[where], losses[where] = stack.ends, stack.losses()
        return ends, losses


class _Stack:
    """The jobs of one bucket while they train."""

    def __init__(
        self,
        bucket: Bucket,
        jobs: list[ClientJob],
        layout: Layout,
        trained: frozenset[str],
        schedule: Schedule,
        device: torch.device,
    ) -> None:
        self.bucket, self.schedule = bucket, schedule
        self.sizes = [len(job.samples) for job in jobs]
        ghosts = [jobs[0]] * (
            bucket.rows - len(jobs)
        )  # without work; they only keep the stack from being one model high
        starts = layout.tensors(torch.stack([masked_start(job) for job in jobs + ghosts]).to(device))
        self.tensors = [starts[s.name].clone(memory_format=torch.contiguous_format) for s in layout]
        self.trained = [i for i, s in enumerate(layout) if s.name in trained]
        self.masks: list[Tensor] = []
        if any(job.mask is not None for job in jobs):
            free = torch.ones(layout.size, dtype=torch.bool)
            rows = torch.stack([free if job.mask is None else job.mask.to("cpu") for job in jobs + ghosts])
            masks = layout.tensors(rows.to(device, torch.float32))
            self.masks = [masks[s.name].contiguous() for s in layout if s.name in trained]
        self.ends = torch.empty(len(jobs), layout.size, device=device)
        self.index, self.labels, self.weights = _tables(bucket, jobs, schedule, device)
        self.trace = torch.zeros(*self.index.shape, device=device)

    def run(self, forward: StackedForward, x: Tensor) -> None:
        """Train all jobs to their own end; each one's last weights go to ``ends``."""
        optimizer = stacked_optimizer(self.schedule, [self.tensors[i] for i in self.trained])
        for first, stop, active, after in self.bucket.stretches():
            rows = max(active, FEWEST)
            tensors = [tensor[:rows].detach() for tensor in self.tensors]
            leaves = [tensors[i].requires_grad_() for i in self.trained]
            masks = [mask[:rows] for mask in self.masks]
            optimizer.narrow(rows)
            for step in range(first, stop):
                inputs = x.index_select(0, self.index[step, :rows].reshape(-1)).view(rows, -1, *x.shape[1:])
                scores = forward(tensors, inputs)
                losses = cross_entropy(scores, self.labels[step, :rows])
                grads = list(torch.autograd.grad(losses, leaves, self.weights[step, :rows]))
                with torch.no_grad():
                    if masks:
                        grads = list(torch._foreach_mul(grads, masks))
                    optimizer.step(leaves, grads)
                    self.trace[step, :rows] = losses.detach()
            self.ends[after:active] = torch.cat(
                [tensor[after:active].reshape(active - after, -1) for tensor in self.tensors], dim=1
            )

    def losses(self) -> Tensor:
        """Mean training loss per job and epoch."""
        epochs = self.schedule.epochs
        rows = [
            self.trace[:steps, row].reshape(epochs, -1)[:, :size].mean(1)
            for row, (steps, size) in enumerate(zip(self.bucket.steps, self.sizes, strict=True))
        ]
        return torch.stack(rows)


def _tables(
    bucket: Bucket, jobs: list[ClientJob], schedule: Schedule, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of x, labels and sample weights, each (steps, models, width). Padding repeats a sample of the job's own."""
    epochs, width, last = schedule.epochs, bucket.width, bucket.steps[0]
    jobs = jobs + [jobs[0]] * (bucket.rows - len(jobs))
    position = torch.zeros(bucket.rows, last, width, dtype=torch.long)
    for row, (job, steps) in enumerate(zip(jobs, bucket.steps, strict=False)):
        position[row, :steps].view(epochs, -1)[:, : len(job.samples)] = batch_order(job, epochs)
    tables = []
    for column in ([job.samples.cpu() for job in jobs], [job.labels.cpu() for job in jobs]):
        values = pad_sequence(column, batch_first=True).gather(1, position.flatten(1)).view_as(position)
        tables.append(values.transpose(0, 1).contiguous().to(device))
    sizes = torch.tensor([len(job.samples) for job in jobs])
    done = torch.arange(last).unsqueeze(1) % -(-sizes // width) * width  # samples used before, in the epoch
    counts = (sizes - done).clamp(max=width).unsqueeze(2)
    weights = (torch.arange(width) < counts) / counts
    return tables[0], tables[1], weights.to(device)


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every sample: scores (..., classes), labels (...) -> (...).

    ``F.cross_entropy`` in parts. For rows as short as ten classes torch's fused softmax is 2.7 times slower than these.
    """
    shifted = scores - scores.detach().amax(-1, keepdim=True)
    return shifted.exp().sum(-1).log() - shifted.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def stacked_forward(net: nn.Module, names: list[str]) -> StackedForward:
    """``net`` for many models: (leaves (models, *shape) in the order of ``names``, x (models, batch, *features)).

    The tensors are put in place by hand, for all owners of a shared one, and taken out again: half the overhead of
    ``torch.func.functional_call``, which matters for small stacks. ``net`` must not be used by anybody else meanwhile.
    """
    named = named_tensors(net)
    places: list[list[tuple[dict[str, Any], str]]] = [[] for _ in names]
    which = {id(named[name]): number for number, name in enumerate(names)}
    for owner in net.modules():
        for slots in (owner._parameters, owner._buffers):
            for key, tensor in slots.items():
                if id(tensor) in which:
                    places[which[id(tensor)]].append((slots, key))
    originals = [named[name] for name in names]

    def put(tensors: list[Tensor]) -> None:
        for tensor, owners in zip(tensors, places, strict=True):
            for slots, key in owners:
                slots[key] = tensor

    def forward(tensors: list[Tensor], inputs: Tensor) -> Tensor:
        put(tensors)
        try:
            scores: Tensor = net(inputs)
        finally:
            put(originals)
        return scores

    return vmap(forward)


def probe(net: nn.Module, sample: Tensor) -> tuple[int, frozenset[str]]:
    """What one sample costs and which parameters it trains.

    Returns:
        Floats that the forward of one sample keeps for its backward (weights not counted), at least 1; names of the
        parameters that are neither frozen nor unused. As in ``torch.optim``, weight decay does not touch the others.
    """
    own = {tensor.data_ptr() for tensor in net.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    named = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        scores = net(sample)
        grads = torch.autograd.grad(scores.sum(), list(named.values()), allow_unused=True)
    trained = frozenset(name for name, grad in zip(named, grads, strict=True) if grad is not None)
    return max(1, sum(kept.values())), trained
