"""A GPU or a processor to measure on, and ResNet-18 on it against a plain loop over clients: parts of ``gpu.py``."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.runtime.memory import give_back
from autoflip_secure.scenarios.models.resnet import ResNet18
from autoflip_secure.training import choose_trainer, stacked


@dataclass
class Machine:
    """Where it runs, how large, and until when."""

    device: torch.device
    small: bool
    ends: float
    missing: list[str] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether there is one."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until all that was asked for is computed."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], turns: int = 1) -> float:
        """The best of some turns."""
        found = []
        for _ in range(turns):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - began)
        return min(found)

    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()


def resnet(machine: Machine) -> dict[str, Any]:
    """ResNet-18 with GroupNorm, 20 clients × 5 local epochs: ours, chosen, in bfloat16, and stacked, against a loop."""
    clients, epochs, size, width = (4, 1, 16, 8) if machine.small else (20, 5, 320, 64)
    schedule = TrainingSchedule(lr=0.01, batch_size=16 if machine.small else 64, epochs=epochs)
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(clients * size, 3, 32, 32, generator=draws), torch.arange(clients * size) % 10
    module = ResNet18(norm="group", width=width).build(x[:2], 10, 0)
    layout, x = Layout.of(module), x.to(machine.device)
    start = layout.vector(module).to(machine.device)
    jobs = [
        ClientJob(start, rows, y[rows], 0, (1, client))
        for client, rows in enumerate(torch.arange(clients * size).split(size))
    ]
    y = y.to(machine.device)
    plain_loop(module, x, y, jobs[:1], schedule.model_copy(update={"epochs": 1}))  # kernels are chosen
    loop = machine.seconds(lambda: plain_loop(module, x, y, jobs, schedule))
    found: dict[str, Any] = {
        "parameters": layout.size, "clients": clients, "epochs": epochs, "samples": size, "plain_loop_s": loop,
    }  # fmt: skip
    chosen, half = (
        choose_trainer(module, layout, x[:2], device=machine.device.type, precision=one)  # type: ignore[arg-type]
        for one in ("float32", "bfloat16")
    )
    ways = {"chosen": chosen, "bfloat16": half, "stacked": stacked.StackedTrainer(device=machine.device)}
    if machine.on_gpu:
        ways["stacked, ten times the budget"] = stacked.StackedTrainer(device=machine.device, budget=10**9)
    found["chosen_because"] = f"{chosen.kind}: {chosen.reason}"
    for name, trainer in ways.items():
        given = schedule.model_copy(update={"precision": "bfloat16"}) if name == "bfloat16" else schedule
        if machine.left() < 3 * loop:
            found[name] = "not measured: no time left"
            continue
        try:
            train = partial(trainer.train, module, layout, x, jobs, given)
            took = machine.seconds(train)
            found[name] = {"s": took, "loop / ours": loop / took}
        except RuntimeError as error:  # memory, above all
            found[name] = f"failed: {str(error).splitlines()[0]}"
        give_back(machine.device)
    return found


def plain_loop(module: nn.Module, x: Tensor, y: Tensor, jobs: list[ClientJob], schedule: TrainingSchedule) -> None:
    """A client after the other, as one writes it: a copy of the model, torch.optim, mini-batches by index."""
    for job in jobs:
        net = copy.deepcopy(module).to(x.device).train()
        optimizer = torch.optim.SGD(net.parameters(), lr=schedule.lr)
        own = job.samples.to(x.device)
        for _ in range(schedule.epochs):
            for rows in own[torch.randperm(len(own), device=x.device)].split(schedule.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
