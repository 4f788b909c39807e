"""What a run spends outside clients' passes over their data and evaluation, as a share; blocks of twelve cells."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from autoflip_secure.federation import engine
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import BLOCK_CELLS, plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.training.stacked import StackedTrainer

GOAL = "<= 0.1"
#: preset, its block (from 1), rounds, so that one takes seconds, and the goal
BLOCKS = [("demo", 2, 24, GOAL), ("noise_magnitude", 2, 24, ""), ("rivals", 2, 12, "")]


class Clock:
    """Processor seconds inside the calls that it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*args, **named)
            finally:
                self.seconds += time.process_time() - began

        return timed


@pytest.mark.parametrize(("preset", "number", "rounds", "goal"), BLOCKS, ids=[name for name, *_ in BLOCKS])
def test_outside_training(
    preset: str,
    number: int,
    rounds: int,
    goal: str,
    ratios: Callable[..., None],
    benchmark: BenchmarkFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of three runs the least share: what is outside is in short pieces, which other programs disturb most."""
    overrides = ("tune=null", f"rounds={rounds}")
    block = plan(load(preset, overrides)).blocks[number - 1]
    assert len(block.cells) == BLOCK_CELLS
    clock, shares = Clock(), list[tuple[float, float]]()
    monkeypatch.setattr(StackedTrainer, "train", clock.around(StackedTrainer.train))
    monkeypatch.setattr(StackedTrainer, "gradients", clock.around(StackedTrainer.gradients))
    monkeypatch.setattr(engine, "evaluate_by_class", clock.around(engine.evaluate_by_class))

    def run() -> None:
        clock.seconds, began = 0.0, time.process_time()
        run_block(block)
        whole = time.process_time() - began
        shares.append(((whole - clock.seconds) / whole, whole - clock.seconds))

    benchmark.pedantic(run, rounds=3)
    share, outside = min(shares)
    assert 0 < share < 1
    comment = f"{BLOCK_CELLS} cells, {1000 * outside / rounds:.0f} ms a round outside"
    ratios(f"{preset}: time outside training and evaluation / all", share, goal, comment)
