"""DP-SGD by Opacus: the reference for the stacked trainer, and what runs for models that cannot be stacked.

Batches and noise come from the job's addresses, as in the stacked trainer, so that both give the same numbers within
float rounding; Opacus makes the per-sample gradients, clips, adds and divides. Before it clips, a sample whose gradient
or its squared norm is not finite is given a gradient of zeros.

Opacus's per-sample gradients come from hooks on layers, and miss what a forward does with weights outside the layers'
own calls. They are tried on two samples against ordinary gradients; where they differ, or Opacus cannot take the
module, every sample's gradient is computed by itself instead: slower, and right.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Shaped
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.module_checks import check, check_separate, quiet
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose
from autoflip_secure.training.per_sample import zeroed
from autoflip_secure.training.poisson import NoiseStream, poisson_batches
from autoflip_secure.training.ruled import RuledModule
from autoflip_secure.training.sequential import torch_optimizer

TOLERANCE = 1e-5
"""Largest difference of Opacus's gradients from ordinary ones in the trial, relative to the largest coordinate."""

_TRIED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()

_Backward = Callable[[Tensor, Tensor], Tensor]
"""Inputs and labels of a batch -> summed loss; leaves ``grad_sample`` at every trained parameter, None where unused."""


def fit(
    net: nn.Module,
    x: Tensor,
    job: ClientJob,
    schedule: TrainingSchedule,
    masks: list[Tensor] | None,
    rule: RuledModule | None = None,
) -> Tensor:
    """Train ``net`` in place on the job's data; a :data:`~autoflip_secure.training.sequential.PrivateFit`.

    A local ``rule`` gets gradients that are clipped, noised and divided already.

    Raises:
        UnsupportedModelError: a layer mixes samples, keeps statistics of them, or gives no per-sample gradients.
    """
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    private = job.private
    assert private is not None
    if net not in _TRIED:
        check(net)
        check_separate(net, x[:3])
        _TRIED[net] = opacus_is_right(net, x[:2])
    trained = [p for p in net.parameters() if p.requires_grad]
    clip, multiplier = private.clip, private.noise_multiplier
    stream, sizes = NoiseStream(job), [p.numel() for p in trained]

    class Addressed(DPOptimizer):  # type: ignore[misc]
        """Noise from the job's address; everything else is Opacus's."""

        def add_noise(self) -> None:
            noise = stream.draw(torch.empty(sum(sizes))) if multiplier else torch.zeros(sum(sizes))
            for number, (parameter, part) in enumerate(zip(trained, torch.split(noise, sizes), strict=True)):
                own = part.view_as(parameter).to(parameter.device)
                own = own if masks is None else own * masks[number]
                parameter.grad = parameter.summed_grad + clip * multiplier * own  # type: ignore[attr-defined]

    with quiet():
        module = GradSampleModule(net, loss_reduction="sum") if _TRIED[net] else None
        backward = _one_by_one(net, trained) if module is None else _by_opacus(module)
        optimizer = Addressed(
            torch_optimizer(trained, schedule),
            noise_multiplier=multiplier,
            max_grad_norm=clip,
            expected_batch_size=schedule.batch_size,
        )
        samples, labels = job.samples.to(x.device), job.labels.to(x.device)
        batches = poisson_batches(job, schedule)
        totals = torch.zeros(len(batches), device=x.device)
        try:
            for step, chosen in enumerate(batches):
                rows = chosen.nonzero().squeeze(1).to(x.device)
                optimizer.zero_grad(set_to_none=True)
                if len(rows):
                    totals[step] = backward(x[samples[rows]], labels[rows])
                found = []
                for number, parameter in enumerate(trained):
                    made = getattr(parameter, "grad_sample", None)
                    if made is None:  # an empty batch, or a parameter that the forward does not use
                        made = torch.zeros(len(rows), *parameter.shape, device=x.device)
                    found.append(made if masks is None else made * masks[number])
                for parameter, gradients in zip(trained, _finite(found), strict=True):
                    parameter.grad_sample = gradients  # type: ignore[attr-defined]
                if rule is None:
                    optimizer.step()
                elif optimizer.pre_step():
                    rule.step(optimizer.original_optimizer)
        finally:
            if module is not None:
                module.to_standard_module()
    drawn = batches.sum(1).reshape(schedule.epochs, -1).sum(1).clamp_min(1).to(x.device)
    return totals.reshape(schedule.epochs, -1).sum(1) / drawn


def opacus_is_right(net: nn.Module, inputs: Shaped[Tensor, "rows ..."]) -> bool:
    """Whether Opacus's per-sample gradients are the gradients, by trial on a copy near the module's own weights.

    The loss of one sample of two is taken backward: its row has to be the ordinary gradient, the other row zero.
    """
    from opacus import GradSampleModule

    trial = copy.deepcopy(net).train()
    trained = [p for p in trial.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:  # no weight is zero, so that whatever a weight is used for shows
            waves = torch.arange(parameter.numel(), device=parameter.device, dtype=parameter.dtype)
            parameter.add_(0.1 * torch.cos(waves).view_as(parameter))
    pair = torch.cat([inputs[:1], inputs[-1:]])
    labels = torch.zeros(2, dtype=torch.long, device=pair.device)
    with quiet(), drawing_at(0, Purpose.FORWARD):  # nobody's draws are shifted
        try:
            module = GradSampleModule(trial, loss_reduction="sum")
            for row in range(2):
                module.zero_grad(set_to_none=True)
                loss = F.cross_entropy(module(pair), labels, reduction="none")[row]
                loss.backward()  # type: ignore[no-untyped-call]
                if not all(torch.stack([_right(p, row) for p in trained])):
                    return False
        except Exception:  # Opacus refuses in many ways what its hooks do not fit
            return False
    return True


def _right(parameter: nn.Parameter, row: int) -> Tensor:
    ordinary = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    rows = getattr(parameter, "grad_sample", None)
    rows = ordinary.new_zeros(2, *ordinary.shape) if rows is None else rows
    if not isinstance(rows, Tensor) or rows.shape != (2, *ordinary.shape):
        return torch.tensor(False)
    expected = torch.zeros_like(rows)
    expected[row] = ordinary
    return (rows - expected).abs().amax() <= TOLERANCE * ordinary.abs().amax()


def _by_opacus(module: nn.Module) -> _Backward:
    def backward(inputs: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(module(inputs), labels, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return backward


def _one_by_one(net: nn.Module, trained: list[nn.Parameter]) -> _Backward:
    def backward(inputs: Tensor, labels: Tensor) -> Tensor:
        gradients, total = [], torch.zeros((), device=inputs.device)
        for one, label in zip(inputs, labels, strict=True):
            loss = F.cross_entropy(net(one[None]), label[None])
            gradients.append(torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True))
            total += loss.detach()
        for parameter, rows in zip(trained, zip(*gradients, strict=True), strict=True):
            parameter.grad_sample = torch.stack(rows)  # type: ignore[attr-defined]
        return total

    return backward


def _finite(gradients: list[Tensor]) -> list[Tensor]:
    """Zeros for samples whose gradient or its squared norm is not finite; Opacus's factors would not remove them."""
    squared = torch.stack([rows.square().reshape(len(rows), rows.shape[1:].numel()).sum(1) for rows in gradients]).sum(
        0
    )
    return gradients if squared.isfinite().all() else [zeroed(rows, squared) for rows in gradients]
