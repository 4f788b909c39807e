"""Mean gradients of clients: against autograd on one client at a time, dense, and the same bits whoever is beside."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer
from autoflip_secure.training.bits import same_bits

X = torch.randn(90, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.randint(0, 4, (90,), generator=torch.Generator().manual_seed(2))
SCHEDULE = TrainingSchedule(batch_size=16)


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 4))


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))


def normalised() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
    with torch.no_grad():
        net[2].running_mean.uniform_(-1, 1)
        net[2].running_var.uniform_(0.5, 2)
    return net


def jobs_of(layout: Layout, module: nn.Module, sizes: tuple[int, ...] = (40, 3, 16, 31)) -> list[ClientJob]:
    start, jobs, first = layout.vector(module), [], 0
    for number, size in enumerate(sizes):
        rows = torch.arange(first, first + size)
        mask = None if number % 2 else torch.rand(layout.size, generator=torch.Generator().manual_seed(number)) < 0.7
        jobs.append(ClientJob(start * (1 + number / 10), rows, (Y[rows] + number) % 4, 0, (1, number), mask))
        first += size
    return jobs


def by_hand(module: nn.Module, layout: Layout, job: ClientJob) -> Tensor:
    """One backward pass over all samples at once, in evaluation mode, at the masked start."""
    layout.load(module, job.start if job.mask is None else job.start * job.mask)
    module.eval()
    loss = nn.functional.cross_entropy(module(X[job.samples]), job.labels)
    module.zero_grad()
    loss.backward()
    named = dict(module.named_parameters())
    parts = [named[s.name].grad if s.trained else torch.zeros(s.shape) for s in layout]
    return torch.cat([part.reshape(-1) for part in parts if part is not None])


@pytest.mark.parametrize("make", [dense, convolutional, normalised])
@pytest.mark.parametrize("trainer", [StackedTrainer(), SequentialTrainer()], ids=lambda one: one.kind)
def test_they_are_those_of_all_samples_at_the_masked_start(make: object, trainer: Trainer) -> None:
    module: nn.Module = make()  # type: ignore[operator]
    layout = Layout.of(module)
    jobs = jobs_of(layout, module)
    found = trainer.gradients(module, layout, X, jobs, SCHEDULE)
    assert module.training  # a template, left as it was
    for row, job in zip(found, jobs, strict=True):
        wanted = by_hand(make(), layout, job)  # type: ignore[operator]
        assert torch.allclose(row, wanted, rtol=1e-4, atol=1e-6)
        if job.mask is not None:
            assert row[~job.mask & layout.trained].any()  # dense: what a weight of zero would have


def test_a_client_has_the_same_bits_alone_among_others_and_in_any_order() -> None:
    module = dense()
    layout, trainer = Layout.of(module), StackedTrainer(budget=20_000)  # several stacks
    jobs = jobs_of(layout, module, (40, 3, 16, 31) * 1)
    together = trainer.gradients(module, layout, X, jobs, SCHEDULE)
    turned = trainer.gradients(module, layout, X, jobs[::-1], SCHEDULE).flip(0)
    assert same_bits(together, turned)
    for row, job in zip(together, jobs, strict=True):
        assert same_bits(trainer.gradients(module, layout, X, [job], SCHEDULE)[0], row)


def test_nobody_has_none_and_a_client_without_samples_is_refused() -> None:
    module = dense()
    layout = Layout.of(module)
    assert StackedTrainer().gradients(module, layout, X, [], SCHEDULE).shape == (0, layout.size)
    empty = ClientJob(layout.vector(module), torch.arange(0), Y[:0], 0, (1, 0))
    with pytest.raises(InputError, match="0 samples"):
        StackedTrainer().gradients(module, layout, X, [empty], SCHEDULE)
