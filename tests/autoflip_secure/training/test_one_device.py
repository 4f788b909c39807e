"""What lies on the device never meets what lies on the processor, but to be copied: tried on torch's `meta` device.

Tensors there have shapes and no numbers, so that a step which asks for one fails; every processor has it. That the
numbers are right is for tests on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_bits import cnn, deep, mlp
from test_waiting import CASES, SIZES, problem
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import StackedTrainer, private, scored, stacked
from autoflip_secure.training.augmenting import PixelRange
from autoflip_secure.training.base import Done, Work

META = torch.device("meta")
COPIES = ("aten::copy_", "aten::_to_copy", "aten::_foreach_copy_")


class Mixed(TorchDispatchMode):
    """Refuses operations on tensors of two devices; a single number may come from the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.there = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one if isinstance(one, list | tuple) else [one] for one in [*args, *(kwargs or {}).values()]]
        flat = [one for part in given for one in part]
        devices = {one.device.type for one in flat if isinstance(one, Tensor) and one.dim()}
        name = func._schema.name
        self.there += devices == {"meta"}
        assert len(devices) <= 1 or name in COPIES, f"{name} of tensors on {devices}"
        return func(*args, **(kwargs or {}))


def trained(make: Any, schedule: TrainingSchedule, change: Any, steps: PrivateSteps | None = None) -> tuple[Done, int]:
    module, layout, x, jobs = problem(make, [40] * 3 if steps else SIZES, steps)
    trainer = StackedTrainer(device=META, budget=10**7)
    trainer.pixels = PixelRange((0.0,), (1.0,))
    work = Work(
        module, True, layout, x.to(META), change(jobs, layout), schedule,
        {f"formulas hold for {' '.join(names)}": True for names in (("1", "3"), ("0", "2", "5"))},  # needs numbers
    )  # fmt: skip
    with Mixed() as watch:
        return trainer._train(work), watch.there


@pytest.fixture(autouse=True)
def _no_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs a GPU."""
    for module in (stacked, private, scored):
        monkeypatch.setattr(module, "sent", lambda tensor, device: tensor.to(device))


@pytest.mark.parametrize("case", CASES)
def test_a_stack_trains_on_its_device_alone(case: str) -> None:
    make, schedule, change = CASES[case]
    done, there = trained(make, schedule, change)
    assert there > 100
    assert {done.ends.device, done.losses.device, *(rows.device for rows in done.sums.values())} == {META}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("make", [mlp, cnn, deep])
def test_so_do_private_clients(make: Any, masked: bool) -> None:
    def change(jobs: list[ClientJob], layout: Layout) -> list[ClientJob]:
        live = torch.arange(layout.size) % 3 > 0
        return [replace(job, mask=live if masked else None) for job in jobs]

    done, there = trained(make, TrainingSchedule(epochs=2, batch_size=8), change, PrivateSteps(0.5, 1.0))
    assert there > 100
    assert {done.ends.device, done.losses.device} == {META}


def test_the_watch_sees_what_mixes() -> None:
    with pytest.raises(AssertionError, match="aten::bmm of tensors on"), Mixed():
        torch.bmm(torch.ones(2, 3, 3, device=META), torch.ones(2, 3, 3))
