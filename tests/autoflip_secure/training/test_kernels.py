"""What is promised about bits, under other kernels than this processor's own; and that the trial can say no."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sizes import sized
from test_bits import MODELS, problem
from torch import Tensor, nn

from autoflip_secure.interfaces import PrivateSteps, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import SequentialTrainer, StackedTrainer, evaluate, promised_bits
from autoflip_secure.training.base import Done, Work

ROOT = Path(__file__).parents[3]
ATEN = {"default": "DEFAULT", "avx2": "AVX2", "avx512": "AVX512"}
ONEDNN = ("SSE41", "AVX2", "AVX512_CORE")
MKL = ("COMPATIBLE", "AUTO")
OLDEST = ("default", "SSE41", "COMPATIBLE")  # in every run; the newest that a machine has is what all other tests use


WAYS = [f"{name}, {way}" for name in ("cnn", "deep", "mlp", "residual", "sequence") for way in ("plain", "private")]
TRIED = WAYS[: sized(3, 10)]  # two models; private training of the second imports for a second


def had(aten: str, onednn: str) -> bool:
    """Whether this processor has the instructions; more than it has cannot be tried."""
    order = list(ATEN.values())
    best = order.index(torch.backends.cpu.get_cpu_capability()) if "ATEN_CPU_CAPABILITY" not in os.environ else 0
    return list(ATEN).index(aten) <= best and (best == 2 or onednn != "AVX512_CORE")


def trial(aten: str, onednn: str, mkl: str) -> dict[str, str]:
    asked = {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn, "MKL_CBWR": mkl}
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kernel_trial.py"), *TRIED],
        env={**os.environ, **asked, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "helpers")))},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert all(f"{name}={asked[name]}" in told["kernels"] for name in ("ONEDNN_MAX_CPU_ISA", "MKL_CBWR"))
    told_by_torch = told["kernels"].split(",")[0].replace("NO AVX", "DEFAULT")  # its name in old versions
    assert ATEN[aten] in told_by_torch
    assert list(told["bits"]) == TRIED
    return told["bits"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(mix, id="-".join(mix), marks=[] if mix == OLDEST else pytest.mark.slow)
        for mix in itertools.product(ATEN, ONEDNN, MKL)
    ],
)
def test_a_job_does_not_depend_on_its_stack(asked: tuple[str, str, str]) -> None:
    if not had(*asked[:2]):
        pytest.skip("this processor has no such instructions")
    assert set(trial(*asked).values()) == {"stack"}


class LeansOnNeighbours(StackedTrainer):
    """What a job gets depends on its place, by less than anybody would notice."""

    def _train(self, work: Work) -> Done:
        done = super()._train(work)
        return replace(done, ends=done.ends * (1 + 1e-6 * torch.arange(len(done.ends))[:, None]))


@pytest.mark.parametrize("private", [None, PrivateSteps(1.0, 1.0)], ids=["plain", "private"])
def test_the_trial_can_say_no(private: PrivateSteps | None) -> None:
    for trainer, expected in ((LeansOnNeighbours(), "block"), (StackedTrainer(), "stack")):
        module, layout, x, jobs = problem(MODELS["mlp"], [16])
        assert promised_bits(trainer, module, layout, x, jobs[0].start, TrainingSchedule(), 5, private) == expected


def test_an_evaluation_that_leans_on_neighbours_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaning(module: nn.Module, layout: Layout, vectors: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        accuracy, loss = evaluate(module, layout, vectors, x, y)
        return accuracy, loss * (1 + 1e-15 * torch.arange(len(loss), dtype=torch.float64))

    monkeypatch.setattr("autoflip_secure.training.bits.evaluate", leaning)
    module, layout, x, jobs = problem(MODELS["mlp"], [16])
    for trainer in (StackedTrainer(), SequentialTrainer()):
        assert promised_bits(trainer, module, layout, x, jobs[0].start, TrainingSchedule(), 5) == "block"
