"""Sums of mini-batch gradients over local steps: against a loop by hand, dense, and the same in every trainer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sizes import every
from summed_steps import summed_by_hand
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, PrivateSteps, RoundRule, TrainingSchedule
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer, promised_bits
from autoflip_secure.training.bits import same_bits

X = torch.randn(90, 1, 6, 6, generator=torch.Generator().manual_seed(1))
Y = torch.randint(0, 4, (90,), generator=torch.Generator().manual_seed(2))
BOTH = frozenset({"gradients", "squares"})
SCHEDULES = {
    "sgd": TrainingSchedule(batch_size=7, epochs=3, lr=0.2),
    "momentum": TrainingSchedule(batch_size=16, epochs=2, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": TrainingSchedule(batch_size=16, epochs=2, lr=0.01, optimizer="adam"),
}


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 4))


def convolutional() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    net[4].bias.requires_grad_(False)
    return net


def jobs_of(layout: Layout, start: Tensor, sizes: tuple[int, ...] = (40, 3, 16, 31)) -> list[ClientJob]:
    jobs, first = [], 0
    for number, size in enumerate(sizes):
        rows = torch.arange(first, first + size)
        mask = None if number % 2 else torch.rand(layout.size, generator=torch.Generator().manual_seed(number)) < 0.7
        labels = (Y[rows] + number) % 4
        jobs.append(ClientJob(start * (1 + number / 10), rows, labels, 0, (1, number), mask, accumulate=BOTH))
        first += size
    return jobs


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize("schedule", every(2, [*SCHEDULES.values()]), ids=lambda one: f"{one.optimizer}{one.momentum}")
@pytest.mark.parametrize("trainer", [StackedTrainer(), SequentialTrainer()], ids=lambda one: one.kind)
def test_sums_are_those_of_a_loop_by_hand(make: object, schedule: TrainingSchedule, trainer: Trainer) -> None:
    module: nn.Module = make()  # type: ignore[operator]
    layout = Layout.of(module)
    jobs = jobs_of(layout, layout.vector(module))
    found = trainer.train(module, layout, X, jobs, schedule)
    for row, job in enumerate(jobs):
        _, total, squares = summed_by_hand(module, layout, X, job, schedule)
        assert torch.allclose(found.sums["gradients"][row], total, rtol=1e-3, atol=1e-4)
        assert torch.allclose(found.sums["squares"][row], squares, rtol=1e-3, atol=1e-4)
        if job.mask is not None:
            dead = ~job.mask & layout.trained
            assert found.sums["gradients"][row][dead].any()  # dense: what a weight of zero would have
            assert not found.updates[row][dead].any()


def test_plain_sgd_moves_by_the_sum_and_who_asks_changes_nothing() -> None:
    module = dense()
    layout, schedule = Layout.of(module), SCHEDULES["sgd"]
    jobs = jobs_of(layout, layout.vector(module))
    found = StackedTrainer().train(module, layout, X, jobs, schedule)
    for row, job in enumerate(jobs):
        live = torch.ones(layout.size, dtype=torch.bool) if job.mask is None else job.mask
        moved = -schedule.lr * found.sums["gradients"][row] * live
        assert torch.allclose(found.updates[row], moved, rtol=1e-3, atol=1e-5)
    plain = [replace(job, accumulate=frozenset()) for job in jobs]
    nothing = StackedTrainer().train(module, layout, X, plain, schedule)
    assert nothing.sums == {}
    assert same_bits(nothing.updates, found.updates)


@pytest.mark.parametrize("trainer", [StackedTrainer(), SequentialTrainer()], ids=lambda one: one.kind)
def test_only_who_asked_has_sums_and_a_local_rule_is_not_in_them(trainer: Trainer) -> None:
    module = dense()
    layout, schedule = Layout.of(module), SCHEDULES["sgd"]
    rule = RoundRule(Proximal(mu=1.0), 1, 2)
    jobs = jobs_of(layout, layout.vector(module))
    mixed = [jobs[0], replace(jobs[1], accumulate=frozenset()), replace(jobs[2], rule=rule), jobs[3]]
    found = trainer.train(module, layout, X, mixed, schedule)
    assert not found.sums["gradients"][1].any()
    alone = trainer.train(module, layout, X, [mixed[2]], schedule)
    assert same_bits(found.sums["gradients"][2], alone.sums["gradients"][0])
    once = schedule.model_copy(update={"epochs": 1, "batch_size": 90})
    ruled, plain = (trainer.train(module, layout, X, [job], once) for job in (mixed[2], jobs[2]))
    assert torch.allclose(ruled.sums["gradients"], plain.sums["gradients"], rtol=1e-4, atol=1e-6)


def test_a_client_has_the_same_bits_alone_among_others_and_in_any_order() -> None:
    module = dense()
    layout, trainer, schedule = Layout.of(module), StackedTrainer(budget=20_000), SCHEDULES["momentum"]
    jobs = jobs_of(layout, layout.vector(module))
    together = trainer.train(module, layout, X, jobs, schedule).sums
    turned = trainer.train(module, layout, X, jobs[::-1], schedule).sums
    for name, rows in together.items():
        assert same_bits(rows, turned[name].flip(0))
        for job, row in zip(jobs, rows, strict=True):
            assert same_bits(trainer.train(module, layout, X, [job], schedule).sums[name][0], row)
    start = layout.vector(module)
    assert promised_bits(trainer, module, layout, X, start, schedule, 8, accumulate=BOTH) == "stack"


@pytest.mark.parametrize("trainer", [StackedTrainer(), SequentialTrainer()], ids=lambda one: one.kind)
def test_under_dp_sgd_it_is_refused(trainer: Trainer) -> None:
    module = dense()
    layout = Layout.of(module)
    jobs = [replace(jobs_of(layout, layout.vector(module))[0], private=PrivateSteps(1.0, 1.0))]
    with pytest.raises(InputError, match="there are none at masked ones; train without DP-SGD"):
        trainer.train(module, layout, X, jobs, SCHEDULES["sgd"])
