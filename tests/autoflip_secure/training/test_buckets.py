"""Which jobs share a stack: nobody is lost, nobody waits, little is wasted."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from torch import nn

from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.training.buckets import FEWEST, LANES, height, padding_waste, plan, width
from autoflip_secure.training.program import gradient_orders, kept_floats, lay, stacked_forward

SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@settings(max_examples=sized(33, 100), deadline=None)
@given(sizes=SIZES, batch=st.integers(1, 64), epochs=st.integers(1, 5), budget=st.integers(1, 10**7))
def test_every_job_is_in_one_bucket_with_its_own_steps_and_width(
    sizes: list[int], batch: int, epochs: int, budget: int
) -> None:
    schedule = TrainingSchedule(batch_size=batch, epochs=epochs)
    buckets = plan(sizes, schedule, parameters=5000, activations=128, budget=budget)
    assert sorted(job for bucket in buckets for job in bucket.jobs) == list(range(len(sizes)))
    for bucket in buckets:
        assert len(bucket.jobs) <= max(FEWEST, budget // (5000 + 128 * bucket.width))
        assert list(bucket.steps) == sorted(bucket.steps, reverse=True)
        for job, steps in zip(bucket.jobs, bucket.steps, strict=True):
            assert bucket.width == width(sizes[job], batch) <= batch
            assert steps == epochs * ceil(sizes[job] / bucket.width)
            assert sizes[job] >= batch or steps == epochs


@settings(max_examples=sized(33, 100), deadline=None)
@given(sizes=SIZES, batch=st.integers(1, 64))
def test_a_job_is_active_for_exactly_its_own_steps(sizes: list[int], batch: int) -> None:
    for bucket in plan(sizes, TrainingSchedule(batch_size=batch, epochs=2), 5000, 128, 2_000_000):
        served = [0] * len(bucket.jobs)
        clock = slots = 0
        for first, stop, active, after in bucket.stretches():
            assert first == clock < stop
            assert 0 <= after < active
            for row in range(active):
                served[row] += stop - first
            slots += (stop - first) * height(active, bucket.width) * bucket.width
            clock = stop
        assert served == list(bucket.steps)
        assert bucket.slots == slots


def test_waste_by_hand() -> None:
    schedule = TrainingSchedule(batch_size=32, epochs=3)
    sizes = [64, 64, 33, 5]
    buckets = plan(sizes, schedule, 5000, 128, 2_000_000)
    assert [bucket.jobs for bucket in buckets] == [(0, 1, 2), (3,)]
    computed = 3 * 2 * 3 * 32 + 3 * 2 * 16  # three jobs of two steps an epoch; one job of one step, and its ghost
    assert padding_waste(sizes, schedule, buckets) == computed / (3 * sum(sizes))


@given(jobs=st.integers(1, 400), width=st.integers(1, 400))
def test_ghosts_take_what_is_left_over(jobs: int, width: int) -> None:
    """The numbers at the end of a tensor that do not fill a register are the ghosts', even with one number a sample."""
    rows = height(jobs, width)
    assert rows >= max(jobs, FEWEST)
    assert (rows * width) % LANES <= (rows - jobs) * width
    assert (rows - jobs) * width < 2 * max(LANES, width)
    assert height(jobs + 1, width) >= rows, "a stack never grows when a job leaves it"


def test_little_is_wasted_under_skew() -> None:
    random = np.random.default_rng(0)
    schedule = TrainingSchedule(batch_size=16, epochs=5)
    for alpha in (0.3, 1.0):
        shares = np.concatenate([random.dirichlet([alpha] * 20) for _ in range(10)])
        sizes = [int(size) for size in np.maximum(1, np.round(shares * 1437))]
        buckets = plan(sizes, schedule, 4810, 128, 2_000_000)
        lockstep = len(sizes) * max(ceil(size / 16) * 16 for size in sizes) / sum(sizes)
        assert padding_waste(sizes, schedule, buckets) <= 1.25 < lockstep


def test_what_the_forward_keeps_and_who_is_trained() -> None:
    module = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))
    module[2].bias.requires_grad_(False)
    sample = torch.randn(1, 7)
    assert kept_floats(module, sample) == 7 + 5
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    orders = gradient_orders(stacked_forward(module, names), module, names, sample)
    assert [order is not None for order in orders] == [True, True, True, False]
    weight = torch.randn(4, 5, 7)
    laid = lay(weight, [0, 2, 1])
    assert torch.equal(laid, weight)
    assert laid.stride() == (35, 1, 5)
