"""To the last bit: what a job gives does not depend on the jobs it is stacked with, nor on its place among them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sizes import crossed, every
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import StackedTrainer, evaluate


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))


def deep() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 33), nn.LayerNorm(33), nn.Tanh(), nn.Linear(33, 17), nn.Linear(17, 10)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10)
    )


class Residual(nn.Module):
    """Everything at once: groups, a skip connection, normalisation, an activation with another scalar twin."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(1, 6, 3, padding="same"), nn.Conv2d(6, 6, 3, groups=3, padding="same")
        self.norm, self.last = nn.GroupNorm(2, 6), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).sigmoid()
        return self.last((x + nn.functional.mish(self.norm(self.grouped(x)))).mean((2, 3)))


def sequence() -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(2), nn.Conv1d(1, 5, 5, stride=2, dilation=2), nn.CELU(), nn.Flatten()),
        *(nn.Linear(140, 10), nn.Softplus()),
    )


MODELS = {"mlp": mlp, "deep": deep, "cnn": cnn, "residual": Residual, "sequence": sequence}
SCHEDULES = {
    "sgd": TrainingSchedule(epochs=1),
    "momentum, decay": TrainingSchedule(momentum=0.9, weight_decay=0.01, lr=0.02, epochs=2),
    "adam": TrainingSchedule(optimizer="adam", lr=1e-3, batch_size=10, epochs=1),
}


def problem(
    make: Callable[[], nn.Module], sizes: list[int], private: PrivateSteps | None = None
) -> tuple[nn.Module, Layout, Tensor, list[ClientJob]]:
    source = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    layout = Layout.of(module)
    x, y = torch.randn(200, 1, 8, 8, generator=source), torch.randint(0, 10, (200,), generator=source)
    jobs = []
    for client, size in enumerate(sizes):
        rows = torch.randperm(200, generator=source)[:size]
        start = layout.vector(module) + 0.02 * torch.randn(layout.size, generator=source)
        mask = torch.rand(layout.size, generator=source) < 0.7 if client % 3 == 0 else None
        jobs.append(ClientJob(start, rows, y[rows], 11, (1, client), mask, private))
    return module, layout, x, jobs


@pytest.mark.parametrize(("make", "schedule"), crossed(3, MODELS, SCHEDULES))
def test_alone_in_a_stack_of_forty_and_in_another_order(
    make: Callable[[], nn.Module], schedule: TrainingSchedule
) -> None:
    sizes = [(7 * client) % 61 + 1 for client in range(40)]
    module, layout, x, jobs = problem(make, sizes)
    trainer = StackedTrainer()
    together = trainer.train(module, layout, x, jobs, schedule)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(2)).tolist()
    moved = trainer.train(module, layout, x, [jobs[job] for job in shuffled], schedule)
    assert torch.equal(moved.updates, together.updates[shuffled])
    assert torch.equal(moved.losses, together.losses[shuffled])
    for job in (0, 1, 5, 13, 26, 39):
        alone = trainer.train(module, layout, x, [jobs[job]], schedule)
        assert torch.equal(alone.updates[0], together.updates[job])
        assert torch.equal(alone.losses[0], together.losses[job])


@pytest.mark.parametrize("make", every(2, MODELS.values()), ids=MODELS)
def test_private_jobs_too(make: Callable[[], nn.Module]) -> None:
    module, layout, x, jobs = problem(make, [16, 21, 30, 17, 19, 40, 18], PrivateSteps(0.5, 1.0))
    schedule = TrainingSchedule(batch_size=12, epochs=1)
    together = StackedTrainer().train(module, layout, x, jobs, schedule)
    backwards = StackedTrainer(budget=1).train(module, layout, x, jobs[::-1], schedule)
    assert torch.equal(backwards.updates.flip(0), together.updates)
    assert torch.equal(backwards.losses.flip(0), together.losses)


@pytest.mark.parametrize("make", every(2, MODELS.values()), ids=MODELS)
def test_the_size_of_the_stacks_does_not_matter(make: Callable[[], nn.Module]) -> None:
    module, layout, x, jobs = problem(make, [30, 12, 47, 33, 8, 21, 64, 16, 3, 30])
    reference = StackedTrainer().train(module, layout, x, jobs, SCHEDULES["momentum, decay"])
    for budget in (1, 10 * layout.size, 10**9):
        again = StackedTrainer(budget=budget).train(module, layout, x, jobs, SCHEDULES["momentum, decay"])
        assert torch.equal(again.updates, reference.updates)


def test_an_early_finisher_is_not_touched_by_those_who_go_on() -> None:
    """One step of one client, beside 60 steps of another, with momentum and decay that would move it."""
    module, layout, x, jobs = problem(mlp, [16, 160])
    schedule = TrainingSchedule(momentum=0.9, weight_decay=0.5, epochs=1, lr=0.05)
    together = StackedTrainer().train(module, layout, x, jobs, schedule)
    alone = StackedTrainer().train(module, layout, x, jobs[:1], schedule)
    assert torch.equal(together.updates[0], alone.updates[0])
    longer = StackedTrainer().train(module, layout, x, jobs[:1], schedule.model_copy(update={"epochs": 2}))
    assert not torch.equal(longer.updates[0], alone.updates[0])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_evaluation_alone_and_in_a_stack(make: Callable[[], nn.Module]) -> None:
    module, layout, x, jobs = problem(make, [4] * 40)
    y = torch.arange(200) % 10
    vectors = torch.stack([job.start for job in jobs])
    accuracy, loss = evaluate(module, layout, vectors, x[:181], y[:181])
    for models in ([0], [7], [39], [39, 2, 0]):
        some = evaluate(module, layout, vectors[models], x[:181], y[:181])
        assert torch.equal(some[0], accuracy[models])
        assert torch.equal(some[1], loss[models])
