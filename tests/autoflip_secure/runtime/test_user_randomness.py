"""What users' code draws from the process's generators: at an address, and nobody else notices."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.runtime.user_randomness import GlobalDraws, drawing_at
from autoflip_secure.training import evaluate
from autoflip_secure.training.sequential import SequentialTrainer


def draw() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.random()), random.random()


def test_draws_follow_from_the_address_alone_and_leave_no_trace() -> None:
    before = GlobalDraws.now()
    with drawing_at(7, 10, 3, 1):
        first = draw()
    assert before.moved() is None
    draw()
    with drawing_at(7, 10, 3, 1):
        assert draw() == first
    for other in ((7, 10, 3, 2), (8, 10, 3, 1)):
        with drawing_at(*other):
            assert not set(draw()) & set(first)


def test_an_error_inside_leaves_the_generators_as_they_were() -> None:
    before = GlobalDraws.now()
    with pytest.raises(ZeroDivisionError), drawing_at(1, 2):
        draw()[0] / 0
    assert before.moved() is None


@pytest.mark.parametrize("name", ["torch", "numpy.random", "random"])
def test_a_single_draw_is_noticed(name: str) -> None:
    with drawing_at(0, 0):
        before = GlobalDraws.now()
        {"torch": torch.rand, "numpy.random": np.random.random, "random": random.getrandbits}[name](1)
        assert before.moved() == name


class Drawing(nn.Module):
    """Draws from two generators in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(x)
        return scores * (1 + random.random()) + float(np.random.normal())


def test_training_and_evaluation_draw_at_addresses_whatever_ran_before() -> None:
    net, source = Drawing(), torch.Generator().manual_seed(0)
    layout, x, y = Layout.of(net), torch.randn(9, 4, generator=source), torch.arange(9) % 3
    jobs = [ClientJob(layout.vector(net), torch.arange(9), y, 0, (1, k)) for k in range(3)]

    def numbers(order: list[int]) -> list[Tensor]:
        draw()
        updates = (
            SequentialTrainer().train(net, layout, x, [jobs[k] for k in order], TrainingSchedule(epochs=1)).updates
        )
        judged = evaluate(net, layout, torch.stack([jobs[k].start + k for k in order]), x, y)[1]
        return [torch.cat([updates[order.index(k)], judged[order.index(k)][None]]) for k in sorted(order)]

    first = numbers([0, 1, 2])
    assert all(map(torch.equal, first, numbers([2, 0, 1])))
    assert torch.equal(first[1], numbers([1])[0])
    assert not torch.equal(first[0][:-1], first[1][:-1])  # each client's draws are its own
