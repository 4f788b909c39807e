"""Cells that cannot be one program are refused, with the key and both values, whoever brings them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from digits_cells import PROBLEM, X, cell, run
from torch import nn

from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.errors import InputError
from autoflip_secure.federation.block import refuse_mixed
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells, watch_cells
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig
from autoflip_secure.training import SequentialTrainer

LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def of(**changes: Any) -> Cell:
    return replace(cell("other"), problem=replace(PROBLEM, **changes))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            cell("other", training=TrainingSchedule(epochs=2, lr=0.1)),
            "training.lr = 0.5 in cell x and 0.1 in cell other",
        ),
        (cell("other", training=TrainingSchedule(epochs=2, lr=0.5, optimizer="adam")), "optimizer = 'sgd' in cell x"),
        (cell("other", rounds=7), "rounds = 6 in cell x and 7 in cell other: cells of a block are trained"),
        (cell("other", evaluate_every=2), "evaluate_every = 1 in cell x and 2 in cell other"),
        (cell("other", exploration=ExplorationConfig(epochs=3)), "exploration.epochs = 2 in cell x and 3 in"),
        (cell("other", exploration=ExplorationConfig(epochs=2, lr=0.3)), "exploration.lr = None in cell x and 0.3 in"),
        (cell("other", exploration=ExplorationConfig(epochs=2, patience=1)), "exploration.patience = None in cell x"),
        (of(x_train=PROBLEM.x_train.clone()), r"x_train = a tensor (400, 1, 8, 8) of its own in cell x and a tensor"),
        (of(x_test=X[:30]), "x_test = a tensor (300, 1, 8, 8) of its own in cell x and a tensor (30, 1, 8, 8)"),
        (of(y_test=PROBLEM.y_test.clone()), "y_test = a tensor (300,) of its own"),
        (of(module=LINEAR), "module = a Sequential of its own in cell x and a Sequential of its own in cell other"),
        (of(layout=Layout.of(LINEAR)), "layout = Layout(segments="),
        (of(units=None, units_reason="no"), "in cell x and None in cell other"),
    ],
)
def test_what_a_block_shares_is_named_with_both_values(other: Cell, said: str) -> None:
    def running(cells: list[Cell]) -> None:
        run_cells(cells, SequentialTrainer())

    def watching(cells: list[Cell]) -> None:
        watch_cells(cells, SequentialTrainer(), Watcher())

    for ask in (running, watching, refuse_mixed):
        with pytest.raises(InputError) as refused:
            ask([cell(), cell("like"), other])
        assert said in str(refused.value)
        assert str(refused.value).endswith("so it is the same in all of them; run these apart")


def test_a_block_has_a_cell() -> None:
    with pytest.raises(InputError, match="give at least one cell"):
        run_cells([], SequentialTrainer())


def test_whatever_else_differs_may_be_in_one_block() -> None:
    own: dict[str, Callable[[Any], Any]] = {
        "y_train": lambda labels: 9 - labels,
        "num_classes": lambda count: count + 1,
        "clients": lambda parts: parts[1:],
        "initial": torch.zeros_like,
        "held_out": lambda parts: (torch.arange(2),),
        "root": lambda rows: torch.arange(3),
    }
    assert {field.name for field in fields(PROBLEM)} - {*PROBLEM.block_key()} == {*own}
    changed = {name: change(getattr(PROBLEM, name)) for name, change in own.items()}
    refuse_mixed([cell(), of(**changed), cell("b", seed=3, cohort=2, sampling="poisson", server_momentum=0.5)])


def test_two_learning_rates_are_not_trained_at_one() -> None:
    """What happened before: both at the first, and the second record said otherwise."""
    slow = {"training": TrainingSchedule(epochs=2, lr=0.01), "rounds": 1}
    fast = {"training": TrainingSchedule(epochs=2, lr=0.5), "rounds": 1}
    with pytest.raises(InputError, match=r"training\.lr = 0\.01"):
        run(cell("slow", **slow), cell("fast", **fast))
    (one,), (other,) = run(cell("slow", **slow)), run(cell("fast", **fast))
    assert one.rounds[0].step_norm < other.rounds[0].step_norm


class Unasked(SequentialTrainer):
    """Nobody may train."""

    def train(self, *_: Any) -> Any:
        pytest.fail("something was trained before the refusal")


@pytest.mark.parametrize("updates", [True, False])
def test_parties_are_missed_before_anybody_trains(updates: bool) -> None:
    secure: dict[str, Any] = {"secure_sum": SecureSumConfig(parties=2, updates=updates)}
    cells = [cell(), cell("secret", exploration=ExplorationConfig(epochs=2, method="linear"), **secure)]
    with pytest.raises(InputError, match="this run has no parties to connect to"):
        run_cells(cells, Unasked())
    with pytest.raises(InputError, match="this run has no parties to connect to"):
        watch_cells(cells, Unasked(), Watcher())
