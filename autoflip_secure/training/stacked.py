r"""Many small models as one program: one forward, one backward and one optimiser step for all.

A module that is a chain of known layers has both passes written by hand (:mod:`.chain`); any other goes through
``vmap`` over its forward, and ordinary autograd behind it.

Leaf :math:`b` of the stack has shape (models, \*shape of tensor b). The loss of a step is
:math:`\sum_m \sum_i \omega_{mi} \ell_{mi}` with :math:`\omega_{mi} = 1/c_m` for the :math:`c_m` real samples of
model m's batch and 0 for padding, so its gradient with respect to a model's leaf is that model's mini-batch gradient.

On the CPU a job's numbers are equal to the last bit whatever else is in the stack and wherever it stands in it: the
width of its batches is its own, every reduction is inside one model, nothing is left over at the end of a tensor
(:mod:`buckets`), calls of convolutions have one shape (:mod:`convolutions`), and products come from kernels that give
the same bits again (:mod:`.runtime.kernels`). :mod:`bits` tries it on the model and the machine at hand. On a
GPU equality is within float tolerance.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training.accumulating import Accumulator, wanted_by
from autoflip_secure.training.augmenting import NUMBERS, Augmenter, drawn
from autoflip_secure.training.base import Done, LocalTrainer, Work, sent
from autoflip_secure.training.buckets import Bucket, height, plan
from autoflip_secure.training.chain import ChainProgram, chain_program
from autoflip_secure.training.gradients import in_stacks
from autoflip_secure.training.jobs import batch_orders, masked_starts
from autoflip_secure.training.private import train_privately
from autoflip_secure.training.program import (
    Differentiate,
    StackedForward,
    cross_entropy,
    gradient_orders,
    kept_floats,
    lay,
    stacked_forward,
)
from autoflip_secure.training.ruled import Ruled, StackedStepper, alike, broadcasts
from autoflip_secure.training.scored import ScoredStack
from autoflip_secure.training.steps import StackedOptimizer, stacked_optimizer, without_masked

BUDGET = {"cpu": 2_000_000, "cuda": 100_000_000}
"""Floats that one step of a stack may touch; on the CPU about what its caches hold, on a GPU what keeps it busy."""


class StackedTrainer(LocalTrainer):
    """Clients (and cells) on a leading dimension, in stacks of a size that suits the processor."""

    kind = "stacked"

    def __init__(
        self, reason: str = "asked for", device: torch.device | str = "cpu", budget: int | None = None
    ) -> None:
        """``budget``: floats that one step of a stack may touch, by default what suits the device."""
        super().__init__(reason, device)
        self.budget = BUDGET[self.device.type] if budget is None else budget

    def _train(self, work: Work) -> Done:
        layout, x, jobs, schedule = work.layout, work.x, work.jobs, work.schedule
        groups = alike(jobs)
        if len(groups) > 1:
            return self._apart(work, groups)
        if jobs[0].private is not None:
            return train_privately(work, self.budget)
        names, sample = [segment.name for segment in layout], x[:1]
        program = self._program(work, names)
        forward: StackedForward | ChainProgram
        if program is not None:
            forward, orders, activations = program, program.orders(layout), program.kept
        else:
            forward = stacked_forward(work.net, names)
            orders, activations = gradient_orders(forward, work.net, names, sample), kept_floats(work.net, sample)
        sizes = [len(job.samples) for job in jobs]
        done, augmenter = work.room(), Augmenter.of(schedule, self.pixels, x)
        for bucket in plan(sizes, schedule, layout.size, activations, self.budget):
            stack = _Stack(bucket, [jobs[job] for job in bucket.jobs], layout, orders, schedule, self.device)
            stack.run(forward, x, augmenter)
            done.put(bucket.jobs, Done(stack.ends, stack.losses(), stack.last_masks, stack.sums, stack.snapshots))
        return done

    def _program(self, work: Work, names: list[str]) -> ChainProgram | None:
        """A program by hand, where the module and the jobs allow one."""
        return None if work.jobs[0].scoring is not None else chain_program(work.template, names, work.x)

    def _gradients(self, work: Work) -> Tensor:
        return in_stacks(work, self.budget)

    def _apart(self, work: Work, groups: list[list[int]]) -> Done:
        """Private jobs and plain ones, and those of each rule, in stacks of their own.

        Each has a module of its own: DP-SGD leaves hooks in it.
        """
        done = work.room()
        for places in groups:
            done.put(places, self._train(work.part(places)))
        return done


class _Stack:
    """The jobs of one bucket while they train."""

    def __init__(
        self,
        bucket: Bucket,
        jobs: list[ClientJob],
        layout: Layout,
        orders: list[list[int] | None],
        schedule: TrainingSchedule,
        device: torch.device,
    ) -> None:
        self.bucket, self.schedule = bucket, schedule
        self.sizes = [len(job.samples) for job in jobs]
        padded = jobs + [jobs[0]] * (bucket.rows - len(jobs))  # ghosts: see height
        starts = layout.tensors(masked_starts(padded).to(device))
        self.tensors = [lay(starts[s.name], order) for s, order in zip(layout, orders, strict=True)]
        self.trained = [number for number, order in enumerate(orders) if order is not None]
        self.masks: list[Tensor] = []
        self.rule, self.moving = jobs[0].rule, jobs[0].rule is not None and jobs[0].rule.moves
        if self.moving or any(job.mask is not None for job in jobs):
            free = torch.ones(layout.size, dtype=torch.bool)
            rows = torch.stack([free if job.mask is None else job.mask.cpu() for job in padded])
            masks = list(layout.tensors(rows.to(device, torch.float32)).values())
            self.masks = [lay(masks[number], orders[number]) for number in self.trained]
        self.segments = [segment for segment, order in zip(layout, orders, strict=True) if order is not None]
        self.starts: list[Tensor] = []
        self.broadcast: list[Tensor] | None = None
        if self.rule is not None:
            self.starts = [self.tensors[number].clone() for number in self.trained]
            if self.rule.broadcast is not None:
                views = broadcasts(padded, layout, self.segments, device)
                self.broadcast = [lay(one, orders[number]) for one, number in zip(views, self.trained, strict=True)]
        self.scored: ScoredStack | None = None
        if jobs[0].scoring is not None:
            self.scored = ScoredStack(padded, layout, self.segments, [self.tensors[n] for n in self.trained])
        self.last_masks = rows[: len(jobs)].to(device) if self.moving else None
        self.ends = torch.empty(len(jobs), layout.size, device=device)
        self.running = Accumulator.of(wanted_by(jobs), [self.tensors[number].detach() for number in self.trained])
        self.sums = {name: torch.zeros_like(self.ends) for name in self.running.totals}
        self.noting: dict[int, list[int]] = {}  # steps done -> whose weights are noted then
        for row, (job, steps) in enumerate(zip(jobs, bucket.steps, strict=True)):
            if job.snapshot is not None:
                self.noting.setdefault(job.snapshot * (steps // schedule.epochs), []).append(row)
        self.snapshots = torch.zeros_like(self.ends) if self.noting else None
        self.index, self.labels, self.weights = _tables(bucket, padded, schedule, device)
        self.numbers = None if schedule.augment is None else _numbers(bucket, padded, schedule, device)
        self.trace = torch.zeros(*self.index.shape, device=device)
        epochs = schedule.epochs
        self.lengths = [steps // epochs for steps in (*bucket.steps, *[bucket.steps[0]] * (len(padded) - len(jobs)))]
        self.ends_of_epochs = {epoch * steps for steps in self.lengths for epoch in range(1, epochs + 1)}

    def run(self, forward: StackedForward | ChainProgram, x: Tensor, augmenter: Augmenter | None = None) -> None:
        """Train all jobs to their own end; each one's last weights go to ``ends``."""
        optimizer = stacked_optimizer(self.schedule, [self.tensors[i] for i in self.trained])
        fresh = isinstance(forward, ChainProgram)  # its gradients are nobody else's; those of autograd may be views
        for first, stop, active, after in self.bucket.stretches():
            rows = height(active, self.bucket.width)
            tensors = [tensor[:rows].detach() for tensor in self.tensors]
            masks = [mask[:rows] for mask in self.masks]
            leaves, differentiate = self._way(forward, tensors, masks)
            optimizer.narrow(rows)
            ruled, stepper, sums = (
                self._ruled(leaves, masks),
                StackedStepper(optimizer, leaves),
                self.running.first(rows),
            )
            for step in range(first, stop):
                inputs = x.index_select(0, self.index[step, :rows].reshape(-1))
                if augmenter is not None and self.numbers is not None:
                    inputs = augmenter(inputs, self.numbers[step, :rows].flatten(0, 1))
                inputs = inputs.view(rows, -1, *x.shape[1:])
                losses, dense = differentiate(inputs, self.labels[step, :rows], self.weights[step, :rows])
                with torch.no_grad():
                    if sums:
                        sums.add(dense)
                    if ruled is None:
                        optimizer.step(leaves, without_masked(dense, masks, own=fresh) if masks else dense)
                    else:
                        ruled.step(dense, stepper)
                    self.trace[step, :rows] = losses
                if ruled is not None and self.moving and step + 1 in self.ends_of_epochs:
                    self._end_epochs(ruled, dense, step + 1, masks, optimizer)
                if step + 1 in self.noting:
                    self._note(self.noting[step + 1])
            self.ends[after:active] = torch.cat(
                [tensor[after:active].reshape(active - after, -1) for tensor in self.tensors], dim=1
            )
            for name, totals in sums.totals.items():
                for segment, total in zip(self.segments, totals, strict=True):
                    self.sums[name][after:active, segment.slice] = total[after:active].reshape(active - after, -1)
        if self.last_masks is not None:
            for segment, mask in zip(self.segments, self.masks, strict=True):
                own = mask[: len(self.sizes)].reshape(len(self.sizes), -1)
                self.last_masks[:, segment.slice] = own > 0

    def _made(self, tensors: list[Tensor], leaves: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """The tensors of the forward pass, where what is trained are scores."""
        assert self.scored is not None
        made = list(tensors)
        for place, weights in zip(self.trained, self.scored.weights(leaves, masks), strict=True):
            made[place] = weights
        return made

    def _way(
        self, forward: StackedForward | ChainProgram, tensors: list[Tensor], masks: list[Tensor]
    ) -> tuple[list[Tensor], Differentiate]:
        """What is stepped, and what finds losses and gradients for inputs, labels and weights of the losses."""
        leaves = [tensors[number] for number in self.trained]
        if isinstance(forward, ChainProgram):
            return leaves, partial(forward.gradients, forward.bind(tensors))
        leaves = [leaf.requires_grad_() for leaf in leaves]

        def differentiate(inputs: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
            scores = forward(tensors if self.scored is None else self._made(tensors, leaves, masks), inputs)
            losses = cross_entropy(scores, labels)
            unused = self.scored is not None
            grads = torch.autograd.grad(losses, leaves, weights, allow_unused=unused, materialize_grads=unused)
            return losses.detach(), list(grads)

        return leaves, differentiate

    def _ruled(self, leaves: list[Tensor], masks: list[Tensor]) -> Ruled | None:
        """The rule, for the models that still train."""
        if self.rule is None:
            return None
        starts, broadcast = (
            None if tensors is None else [tensor[: len(leaves[0])] for tensor in tensors]
            for tensors in (self.starts, self.broadcast)
        )
        return Ruled(self.rule, self.segments, leaves, starts or [], masks or None, broadcast)

    def _end_epochs(
        self, ruled: Ruled, dense: list[Tensor], done: int, masks: list[Tensor], optimizer: StackedOptimizer
    ) -> None:
        """Ask the rule for new masks where models end an epoch, after ``done`` steps, after which it moves them."""
        assert self.rule is not None
        epochs, lengths = self.schedule.epochs, self.lengths[: len(dense[0])]
        at = [done // length for length in lengths]
        moved = [
            done % length == 0 and 1 <= epoch <= epochs and self.rule.rule.moves_after(epoch, epochs)
            for length, epoch in zip(lengths, at, strict=True)  # whose epochs are over may stay as a ghost
        ]
        if any(moved):
            device = self.ends.device
            ruled.end_epoch(dense, sent(torch.tensor(at), device), epochs, sent(torch.tensor(moved), device))
        optimizer.forget(masks)

    def _note(self, rows: list[int]) -> None:
        assert self.snapshots is not None
        for row in rows:
            self.snapshots[row] = torch.cat([tensor[row].detach().reshape(-1) for tensor in self.tensors])

    def losses(self) -> Tensor:
        """Mean training loss per job and epoch."""
        epochs, rows, found = self.schedule.epochs, 0, []
        for (steps, size), own in groupby(zip(self.bucket.steps, self.sizes, strict=True)):
            first, rows = rows, rows + len(list(own))
            trace = self.trace[:steps, first:rows].transpose(0, 1).reshape(rows - first, epochs, -1)
            found.append(trace[..., :size].mean(-1))
        return torch.cat(found)


def _tables(
    bucket: Bucket, jobs: list[ClientJob], schedule: TrainingSchedule, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of x, labels and sample weights, each (steps, models, width). Padding repeats a sample of the job's own."""
    epochs, width, last = schedule.epochs, bucket.width, bucket.steps[0]
    position, orders = torch.zeros(bucket.rows, last, width, dtype=torch.long), batch_orders(jobs, epochs)
    for row, (order, steps) in enumerate(zip(orders, bucket.steps, strict=False)):
        position[row, :steps].view(epochs, -1)[:, : order.shape[1]] = order
    tables = []
    for column in ([job.samples.cpu() for job in jobs], [job.labels.cpu() for job in jobs]):
        values = pad_sequence(column, batch_first=True).gather(1, position.flatten(1)).view_as(position)
        tables.append(sent(values.transpose(0, 1).contiguous(), device))
    sizes = torch.tensor([len(job.samples) for job in jobs])
    done = torch.arange(last).unsqueeze(1) % -(-sizes // width) * width  # samples used before, in the epoch
    counts = (sizes - done).clamp(max=width).unsqueeze(2)
    weights = (torch.arange(width) < counts) / counts
    return tables[0], tables[1], sent(weights, device)


def _numbers(bucket: Bucket, jobs: list[ClientJob], schedule: TrainingSchedule, device: torch.device) -> Tensor:
    """What augmentation draws for every place of the tables, (steps, models, width, numbers); 0 for padding."""
    epochs, width, last = schedule.epochs, bucket.width, bucket.steps[0]
    found = torch.zeros(bucket.rows, last, width, NUMBERS)
    orders = batch_orders(jobs, epochs)
    for row, (job, order, steps) in enumerate(zip(jobs, orders, bucket.steps, strict=False)):
        own = found[row, :steps].view(epochs, -1, NUMBERS)
        own[:, : len(job.samples)] = drawn(job, epochs).gather(1, order[:, :, None].expand(-1, -1, NUMBERS))
    return sent(found.transpose(0, 1).contiguous(), device)
