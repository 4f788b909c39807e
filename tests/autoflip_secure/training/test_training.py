"""Both trainers against a slow loop, and against each other: the same updates, whoever trains."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import crossed, sized
from slow_training import MODELS, TOLERANCE, assert_same, by_hand, cnn, data, jobs_of, made, mlp
from torch import nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, McMahanCnn, Mlp
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer

TRAINERS = [StackedTrainer(), SequentialTrainer()]
SIZES = [1, 37, 3, 16, 50, 15, 32, 17, 1, 64]  # below, at and above whole batches of 16

SCHEDULES = {
    "sgd": TrainingSchedule(lr=0.1, batch_size=16, epochs=2),
    "momentum": TrainingSchedule(lr=0.05, momentum=0.9, batch_size=16, epochs=2),
    "momentum and decay": TrainingSchedule(lr=0.05, momentum=0.5, weight_decay=0.1, batch_size=16, epochs=2),
    "adam": TrainingSchedule(optimizer="adam", lr=1e-3, batch_size=16, epochs=2),
    "adam and decay": TrainingSchedule(optimizer="adam", lr=1e-3, weight_decay=0.1, batch_size=16, epochs=2),
}


MASKS = {"dense": False, "masked": True}  # some clients of the masked have none


@pytest.mark.parametrize(
    ("make", "schedule", "masks", "trainer"), crossed(3, MODELS, SCHEDULES, MASKS, {t.kind: t for t in TRAINERS})
)
def test_updates_and_losses_equal_the_loop_by_hand(
    make: Callable[[], nn.Module], schedule: TrainingSchedule, masks: bool, trainer: Trainer
) -> None:
    module, layout = made(make)
    x, y = data()
    jobs = jobs_of(layout, module, y, [1, 37, 3, 16], masks=masks)
    trained = trainer.train(module, layout, x, jobs, schedule)
    for row, job in enumerate(jobs):
        update, curve = by_hand(module, layout, x, job, schedule)
        assert_same(trained.updates[row], update, schedule)
        torch.testing.assert_close(trained.losses[row], curve, atol=TOLERANCE, rtol=1e-5)


BUILT_IN = {"built-in mlp": lambda: Mlp().make((1, 8, 8), 10), "built-in cnn": lambda: Cnn(width=8).make((1, 8, 8), 10)}


@pytest.mark.parametrize(("make", "schedule", "masks"), crossed(5, BUILT_IN | MODELS, SCHEDULES, MASKS))
def test_stacked_equals_sequential(make: Callable[[], nn.Module], schedule: TrainingSchedule, masks: bool) -> None:
    module, layout = made(make)
    x, y = data()
    jobs = jobs_of(layout, module, y, SIZES, masks=masks)
    stacked = StackedTrainer().train(module, layout, x, jobs, schedule)
    sequential = SequentialTrainer().train(module, layout, x, jobs, schedule)
    assert_same(stacked.updates, sequential.updates, schedule)
    torch.testing.assert_close(stacked.losses, sequential.losses, atol=TOLERANCE, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(lambda: McMahanCnn().make((1, 12, 12), 10), (1, 12, 12)), (lambda: Cnn6().make((3, 8, 8), 10), (3, 8, 8))],
    ids=["mcmahan_cnn", "cnn6"],
)
def test_stacked_equals_sequential_on_the_larger_built_in_models(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    module, layout = made(make)
    x, y = data(30, shape)
    jobs = jobs_of(layout, module, y, [9, 4, 11], masks=True)
    schedule = TrainingSchedule(lr=0.02, momentum=0.5, weight_decay=0.01, batch_size=8, epochs=1)
    stacked = StackedTrainer().train(module, layout, x, jobs, schedule)
    sequential = SequentialTrainer().train(module, layout, x, jobs, schedule)
    torch.testing.assert_close(stacked.updates, sequential.updates, atol=TOLERANCE, rtol=0)


@settings(max_examples=sized(10, 25), deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=7),
    batch_size=st.integers(1, 24),
    momentum=st.sampled_from([0.0, 0.9]),
    masks=st.booleans(),
)
def test_stacked_equals_sequential_for_any_sizes(
    sizes: list[int], batch_size: int, momentum: float, masks: bool
) -> None:
    module, layout = made(mlp)
    x, y = data()
    jobs = jobs_of(layout, module, y, sizes, masks=masks)
    schedule = TrainingSchedule(lr=0.02, momentum=momentum, weight_decay=0.01, batch_size=batch_size, epochs=2)
    stacked = StackedTrainer().train(module, layout, x, jobs, schedule)
    sequential = SequentialTrainer().train(module, layout, x, jobs, schedule)
    torch.testing.assert_close(stacked.updates, sequential.updates, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_masked_weights_end_at_exactly_zero(schedule: TrainingSchedule, trainer: Trainer) -> None:
    module, layout = made(cnn)
    x, y = data()
    jobs = jobs_of(layout, module, y, SIZES, masks=True)
    trained = trainer.train(module, layout, x, jobs, schedule)
    for update, job in zip(trained.updates, jobs, strict=True):
        if job.mask is not None:
            assert (update[~job.mask] == 0).all()
            assert (update[job.mask] != 0).float().mean() > 0.5


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_a_client_that_diverges_harms_nobody_else(trainer: Trainer) -> None:
    module, layout = made(mlp)
    x, y = data()
    jobs = jobs_of(layout, module, y, [40, 40, 20])
    schedule = TrainingSchedule(epochs=2)
    alone = trainer.train(module, layout, x, [jobs[0], jobs[2]], schedule)
    jobs[1] = ClientJob(jobs[1].start * 1e38, jobs[1].samples, jobs[1].labels, jobs[1].seed, jobs[1].address)
    trained = trainer.train(module, layout, x, jobs, schedule)
    assert not trained.updates[1].isfinite().all()
    assert torch.equal(trained.updates[[0, 2]], alone.updates)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_the_module_and_the_global_generator_are_left_alone(trainer: Trainer) -> None:
    module, layout = made(cnn)
    module.eval()
    before, state = layout.vector(module), torch.get_rng_state()
    x, y = data()
    jobs = jobs_of(layout, module, y, [20, 5])
    trainer.train(module, layout, x, jobs, TrainingSchedule())
    assert torch.equal(layout.vector(module), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not module.training
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_no_jobs_give_no_rows(trainer: Trainer) -> None:
    module, layout = made(mlp)
    trained = trainer.train(module, layout, data()[0], [], TrainingSchedule(epochs=3))
    assert trained.updates.shape == (0, layout.size)
    assert trained.losses.shape == (0, 3)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_training_learns(trainer: Trainer) -> None:
    module, layout = made(mlp)
    x, _ = data()
    y = x.flatten(1)[:, :10].argmax(1)
    losses = trainer.train(module, layout, x, jobs_of(layout, module, y, [200]), TrainingSchedule(epochs=12)).losses[0]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda t: t.kind)
def test_a_job_that_cannot_be_trained_says_why(trainer: Trainer) -> None:
    module, layout = made(mlp)
    x, y = data()
    start, rows = layout.vector(module), torch.arange(4)
    none = ClientJob(start, rows[:0], y[:0], 0, (1, 7))
    with pytest.raises(InputError, match=r"\(1, 7\) has 0 samples; .* change the partition"):
        trainer.train(module, layout, x, [none], TrainingSchedule())
    short = ClientJob(start[:-1], rows, y[:4], 0, (1, 7))
    with pytest.raises(InputError, match=rf"has shape \({layout.size - 1},\); the model needs \({layout.size},\)"):
        trainer.train(module, layout, x, [short], TrainingSchedule())


def test_running_statistics_travel_with_the_update() -> None:
    module, layout = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)))
    x, y = data()
    jobs = jobs_of(layout, module, y, [40, 22, 16], masks=True)
    schedule = TrainingSchedule(batch_size=16, momentum=0.9, epochs=3)
    trained = SequentialTrainer().train(module, layout, x, jobs, schedule)
    for row, job in enumerate(jobs):
        update, _ = by_hand(module, layout, x, job, schedule)
        torch.testing.assert_close(trained.updates[row], update, atol=TOLERANCE, rtol=0)
    assert (trained.updates[:, layout["2.running_mean"].slice] != 0).all()


def test_cumulative_statistics_start_anew_for_every_client() -> None:
    norm = nn.BatchNorm1d(64, momentum=None)
    module, layout = made(lambda: nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 10)))
    x, y = data()
    jobs = jobs_of(layout, module, y, [32, 32])
    trainer = SequentialTrainer()
    together = trainer.train(module, layout, x, jobs, TrainingSchedule())
    alone = trainer.train(module, layout, x, jobs[1:], TrainingSchedule())
    assert torch.equal(together.updates[1:], alone.updates)


def test_a_batch_of_one_and_batch_norm_is_said_clearly() -> None:
    module, layout = made(lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)))
    x, y = data()
    jobs = jobs_of(layout, module, y, [17])
    with pytest.raises(UnsupportedModelError, match=r"17 samples gets such a batch at batch_size = 16; choose another"):
        SequentialTrainer().train(module, layout, x, jobs, TrainingSchedule(batch_size=16))


def test_dropout_is_drawn_by_address() -> None:
    module, layout = made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10)))
    x, y = data()
    jobs = jobs_of(layout, module, y, [30, 30, 30])
    trainer, schedule, state = SequentialTrainer(), TrainingSchedule(), torch.get_rng_state()
    first = trainer.train(module, layout, x, jobs, schedule)
    again = trainer.train(module, layout, x, jobs[::-1], schedule)
    assert torch.equal(first.updates, again.updates.flip(0))
    assert torch.equal(torch.get_rng_state(), state)
    twin = ClientJob(jobs[0].start, jobs[0].samples, jobs[0].labels, jobs[0].seed, (4, 99))
    other = trainer.train(module, layout, x, [twin], schedule)
    assert not torch.allclose(other.updates[0], first.updates[0])


def test_the_comparison_can_fail() -> None:
    """Another batch order, by another address, is far outside the tolerance."""
    module, layout = made(mlp)
    x, y = data()
    job = jobs_of(layout, module, y, [50])[0]
    moved = ClientJob(job.start, job.samples, job.labels, job.seed, (5, 0))
    updates = [StackedTrainer().train(module, layout, x, [j], TrainingSchedule()).updates for j in (job, moved)]
    assert (updates[0] - updates[1]).abs().max() > 100 * TOLERANCE
