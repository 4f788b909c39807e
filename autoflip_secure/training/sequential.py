"""One client at a time, with ``torch.optim``: the reference, and the way for models that cannot be stacked.

Running statistics (BatchNorm) are coordinates of the flat vector like any other: ``end - start`` carries their change.
What the forward draws at random (Dropout) is at the address (FORWARD, *address) of the job.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.memory_formats import channels_last
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose
from autoflip_secure.training.accumulating import Accumulator, wanted_by
from autoflip_secure.training.augmenting import Augmenter, drawn
from autoflip_secure.training.base import Done, LocalTrainer, Work, named_tensors
from autoflip_secure.training.gradients import one_at_a_time
from autoflip_secure.training.jobs import batch_order, masked_start
from autoflip_secure.training.precision import mixed
from autoflip_secure.training.ruled import RuledModule, refuse_moving_masks
from autoflip_secure.training.scored import ScoredModule, refuse_private_scores

PrivateFit = Callable[[nn.Module, Tensor, ClientJob, TrainingSchedule, list[Tensor] | None, RuledModule | None], Tensor]
"""Trains a module privately in place: (module in training mode, at the job's start; all inputs; the job; the schedule;
masks of the trained parameters, as float; its local rule) -> mean loss per epoch (epochs,)."""


class SequentialTrainer(LocalTrainer):
    """Clients one after the other on one reused module, with torch's own optimisers."""

    kind = "sequential"

    def __init__(
        self, reason: str = "asked for", device: torch.device | str = "cpu", private: PrivateFit | None = None
    ) -> None:
        """``private``: what trains jobs that ask for DP-SGD."""
        super().__init__(reason, device)
        self.private = private

    def _train(self, work: Work) -> Done:
        net, layout, x, schedule = work.net, work.layout, work.x, work.schedule
        named = named_tensors(net)
        tensors = [named[segment.name] for segment in layout]
        counters = [(b, b.clone()) for b in net.buffers() if not b.is_floating_point()]  # e.g. num_batches_tracked
        buffers = _buffers(net)
        trained = [p for p in net.parameters() if p.requires_grad]
        names = [name for name, p in net.named_parameters() if p.requires_grad]
        optimizer = torch_optimizer(trained, schedule)
        done, augmenter = work.room(), Augmenter.of(schedule, self.pixels, x)
        for row, job in enumerate(work.jobs):
            with torch.no_grad():
                starts = layout.tensors(masked_start(job))
                torch._foreach_copy_(tensors, [starts[segment.name].to(self.device) for segment in layout])
                for counter, initial in counters:
                    counter.copy_(initial)
            optimizer.state.clear()
            masks = None
            if job.mask is not None:
                views = layout.tensors(job.mask.to(self.device, torch.float32))
                masks = [views[name] for name in names]
            running = Accumulator.of(wanted_by([job]), [parameter.detach() for parameter in trained])
            scored, stepped = None, trained
            if job.scoring is not None:
                if masks is None and job.rule is not None and job.rule.rule.moves_masks:
                    masks = [torch.ones_like(parameter) for parameter in trained]
                scored = ScoredModule(job, layout, names, trained, masks)
                stepped = list(scored.values)
            with drawing_at(job.seed, Purpose.FORWARD, *job.address, device=self.device):
                rule = None if job.rule is None else RuledModule(job, layout, names, stepped, masks)
                noted: list[Tensor] = []
                if job.private is None:
                    stepper = optimizer if scored is None else torch_optimizer(stepped, schedule)
                    where = running, (tensors, noted), augmenter
                    losses = self._fit(net, stepper, stepped, masks, rule, scored, x, job, schedule, *where)
                elif self.private is None:
                    raise InputError(
                        f"the client at address {job.address} trains privately, and this trainer was given no way to: "
                        "pass private="
                    )
                else:
                    refuse_moving_masks(job.rule)
                    refuse_private_scores(job)
                    losses = self.private(net, x, job, schedule, masks, rule)
            with torch.no_grad():
                _put_back(buffers)
                if scored is not None:  # what was trained, not what was made of it
                    for parameter, value in zip(trained, stepped, strict=True):
                        parameter.copy_(value)
                end = torch.cat([tensor.reshape(-1) for tensor in tensors])
            last = None if rule is None else rule.last_mask(job.mask)
            sums = {name: end.new_zeros(1, layout.size) for name in running.totals}
            for name, totals in running.totals.items():
                for key, total in zip(names, totals, strict=True):
                    sums[name][0, layout[key].slice] = total.reshape(-1)
            last = None if last is None else last[None].to(self.device)
            done.put([row], Done(end[None], losses[None], last, sums, noted[0][None] if noted else None))
        return done

    def _gradients(self, work: Work) -> Tensor:
        return one_at_a_time(work)

    def _fit(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        trained: list[nn.Parameter],
        masks: list[Tensor] | None,
        rule: RuledModule | None,
        scored: ScoredModule | None,
        x: Tensor,
        job: ClientJob,
        schedule: TrainingSchedule,
        sums: Accumulator,
        notes: tuple[list[Tensor], list[Tensor]],
        augmenter: Augmenter | None,
    ) -> Tensor:
        """``notes``: all tensors of the model, and where their flat vector goes after the job's noted epoch."""
        samples, labels = job.samples.to(self.device), job.labels.to(self.device)
        size, epochs = schedule.batch_size, []
        numbers = None if augmenter is None else drawn(job, schedule.epochs).to(self.device)
        for epoch, order in enumerate(batch_order(job, schedule.epochs).to(self.device), 1):
            total = torch.zeros((), device=self.device)
            inputs, targets = x[samples[order]], labels[order]
            if augmenter is not None and numbers is not None:
                inputs = augmenter(inputs, numbers[epoch - 1, order])
            inputs = _laid_for(net, inputs)
            for xs, ys in zip(torch.split(inputs, size), torch.split(targets, size), strict=True):
                _forget_gradients(trained)
                if scored is not None:
                    scored.load()
                with mixed(self.device, schedule.precision):
                    scores = _scores(net, xs, job, schedule)
                loss = F.cross_entropy(scores.float() if scores.dtype == torch.bfloat16 else scores, ys)
                loss.backward()  # type: ignore[no-untyped-call]
                if sums:
                    sums.add([parameter.grad for parameter in trained])
                if scored is not None:
                    scored.collect()
                if rule is not None:
                    rule.step(optimizer)
                else:
                    if masks is not None:
                        pairs = [(p.grad, mask) for p, mask in zip(trained, masks, strict=True) if p.grad is not None]
                        torch._foreach_mul_([g for g, _ in pairs], [m for _, m in pairs])
                    optimizer.step()
                total += loss.detach() * len(ys)
            if rule is not None:
                rule.end_epoch(optimizer, epoch, schedule.epochs)
            if epoch == job.snapshot:
                notes[1].append(torch.cat([tensor.detach().reshape(-1) for tensor in notes[0]]))
            epochs.append(total / len(order))
        return torch.stack(epochs)


_Buffers = list[tuple[nn.Module, str, Tensor]]


def _buffers(net: nn.Module) -> _Buffers:
    """All buffers: the submodule that has it, its name there, and its tensor."""
    return [(part, key, own) for part in net.modules() for key, own in part._buffers.items() if own is not None]


def _put_back(buffers: _Buffers) -> None:
    """Where the forward gave a buffer another tensor (``self.mean = 0.9 * self.mean + …``): its values into the one
    that every client starts from, and that one back into its place."""
    for part, key, own in buffers:
        now = part._buffers.get(key)
        if now is not None and now is not own:
            part._buffers[key] = own.copy_(now)


def _forget_gradients(parameters: list[nn.Parameter]) -> None:
    """``optimizer.zero_grad``, without its bookkeeping."""
    for parameter in parameters:
        parameter.grad = None


def _laid_for(net: nn.Module, inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if channels_last(net) else inputs


def torch_optimizer(parameters: list[nn.Parameter], schedule: TrainingSchedule) -> torch.optim.Optimizer:
    """The schedule's optimiser."""
    if schedule.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=schedule.lr, weight_decay=schedule.weight_decay, foreach=True)
    return torch.optim.SGD(
        parameters, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay, foreach=True
    )


def _scores(net: nn.Module, xs: Tensor, job: ClientJob, schedule: TrainingSchedule) -> Tensor:
    try:
        scores: Tensor = net(xs)
    except ValueError as error:
        if len(xs) > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise UnsupportedModelError(
            f"BatchNorm cannot train on one sample, and the client at address {job.address} with {len(job.samples)} "
            f"samples gets such a batch at batch_size = {schedule.batch_size}; choose another batch size, "
            "or a model with GroupNorm"
        ) from error
    return scores
