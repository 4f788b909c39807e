"""DP-SGD by Opacus: the reference for the stacked trainer, and what runs for models that cannot be stacked.

Batches and noise come from the job's addresses, as in the stacked trainer, so that both give the same numbers within
float rounding; Opacus makes the per-sample gradients, clips, adds and divides.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import ClientJob, Schedule
from autoflip_secure.training.poisson import NoiseStream, poisson_batches
from autoflip_secure.training.sequential import torch_optimizer


def fit(net: nn.Module, x: Tensor, job: ClientJob, schedule: Schedule, masks: list[Tensor] | None) -> Tensor:
    """Train ``net`` in place on the job's data; a :data:`~autoflip_secure.training.sequential.PrivateFit`.

    Raises:
        UnsupportedModelError: a layer mixes samples, or Opacus knows no per-sample gradients for it.
    """
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    private = job.private
    assert private is not None
    check(net)
    trained = [p for p in net.parameters() if p.requires_grad]
    clip, multiplier = private.clip, private.noise_multiplier
    stream, size = NoiseStream(job), sum(p.numel() for p in net.parameters())
    offsets = _offsets(net)

    class Addressed(DPOptimizer):  # type: ignore[misc]
        """Noise from the job's address; everything else is Opacus's."""

        def add_noise(self) -> None:
            noise = stream.draw(torch.empty(size)) if multiplier else torch.zeros(size)
            for number, (parameter, where) in enumerate(zip(trained, offsets, strict=True)):
                own = noise[where].view_as(parameter).to(parameter.device)
                own = own if masks is None else own * masks[number]
                parameter.grad = parameter.summed_grad + clip * multiplier * own  # type: ignore[attr-defined]

    with _quiet():
        module = GradSampleModule(net, loss_reduction="sum")
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
                    loss = F.cross_entropy(module(x[samples[rows]]), labels[rows], reduction="sum")
                    loss.backward()  # type: ignore[no-untyped-call]
                    totals[step] = loss.detach()
                for number, parameter in enumerate(trained):
                    made = getattr(parameter, "grad_sample", None)
                    if made is None:  # an empty batch, or a parameter that the forward does not use
                        made = torch.zeros(len(rows), *parameter.shape, device=x.device)
                    parameter.grad_sample = made if masks is None else made * masks[number]  # type: ignore[attr-defined]
                optimizer.step()
        finally:
            module.to_standard_module()
    drawn = batches.sum(1).reshape(schedule.epochs, -1).sum(1).clamp_min(1).to(x.device)
    return totals.reshape(schedule.epochs, -1).sum(1) / drawn


def _offsets(net: nn.Module) -> list[slice]:
    """Where each trained parameter lies in the flat vector of all parameters."""
    found, start = [], 0
    for parameter in net.parameters():
        if parameter.requires_grad:
            found.append(slice(start, start + parameter.numel()))
        start += parameter.numel()
    return found


def check(module: nn.Module) -> None:
    """Refuse modules whose samples mix.

    Raises:
        UnsupportedModelError: names the first layer, and offers the fix.
    """
    from opacus.validators import ModuleValidator

    problems = ModuleValidator.validate(module, strict=False)
    if problems:
        raise UnsupportedModelError(
            f"privacy: the model {type(module).__name__} has a layer that DP-SGD cannot take: "
            f"{str(problems[0]).rstrip('.')}; set privacy.fix_modules: true to have such layers replaced (BatchNorm by "
            "GroupNorm), or choose another model"
        )


def fixed(module: nn.Module) -> nn.Module:
    """A copy in which layers that mix samples are replaced by ones that do not, weights of the others unchanged.

    Raises:
        UnsupportedModelError: there is a layer without a replacement.
    """
    from opacus.validators import ModuleValidator

    with torch.random.fork_rng(devices=[]), _quiet():
        repaired = ModuleValidator.fix(module)
    check(repaired)
    return repaired  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Opacus's hooks meet inputs that need no gradient, which torch notes on every step and means nothing here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients are computed")
        warnings.filterwarnings("ignore", message="Using a non-full backward hook")
        warnings.filterwarnings("ignore", category=FutureWarning, module="opacus")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="opacus")
        yield
