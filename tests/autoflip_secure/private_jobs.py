"""Data, jobs and the oracle of the DP-SGD tests: the algorithm, one ordinary gradient at a time."""

import copy
from collections.abc import Callable
from math import isfinite

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose

IMAGES = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
WORDS = torch.randint(0, 20, (120, 7), generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 10, (120,), generator=torch.Generator().manual_seed(1))
SCHEDULE = TrainingSchedule(lr=0.2, batch_size=8, epochs=2)


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """The same weights every time; torch's generator stays where it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def job_of(module: nn.Module, noise: float) -> ClientJob:
    rows = torch.arange(20, 40)
    return ClientJob(Layout.of(module).vector(module), rows, LABELS[rows], 5, (1, 2), None, PrivateSteps(0.2, noise))


def by_hand(module: nn.Module, x: Tensor, job: ClientJob) -> Tensor:
    """Abadi et al. 2016, Algorithm 1, one ordinary gradient at a time; noise for trained parameters, in their order.

    Gradients without a finite norm are left out.
    """
    net, private = copy.deepcopy(module).train(), job.private
    assert private is not None
    trained = [p for p in net.parameters() if p.requires_grad]
    source = job.private_draws
    draws, noise = (source.generator(purpose, *job.address) for purpose in (Purpose.POISSON, Purpose.DP_NOISE))
    n = len(job.samples)
    steps = SCHEDULE.epochs * -(-n // SCHEDULE.batch_size)
    for batch in torch.from_numpy(draws.random((steps, n)) < SCHEDULE.batch_size / n):
        total = [torch.zeros_like(p) for p in trained]
        for i in batch.nonzero().squeeze(1).tolist():
            loss = F.cross_entropy(net(x[job.samples[i]][None]), job.labels[i][None])
            found = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
            norm = float(torch.cat([g.reshape(-1) for g in found]).square().sum().sqrt())
            if not isfinite(norm):  # what overflows adds nothing
                continue
            total = [t + g * min(1.0, private.clip / max(norm, 1e-30)) for t, g in zip(total, found, strict=True)]
        z = torch.zeros(sum(p.numel() for p in trained))
        if private.noise_multiplier:
            z = torch.from_numpy(noise.standard_normal(len(z))).float()
        with torch.no_grad():
            for parameter, own, part in zip(trained, total, z.split([p.numel() for p in trained]), strict=True):
                step = own + private.noise_multiplier * private.clip * part.view_as(parameter)
                parameter.sub_(SCHEDULE.lr * step / SCHEDULE.batch_size)
    return Layout.of(net).vector(net) - job.start
