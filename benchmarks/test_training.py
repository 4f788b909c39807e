"""Local training: stacked against one client at a time, how time grows, what memory and padding cost.

Processor time of one thread, the styles taking turns in one run, the best turn of each: ratios hold on a busy machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

sys.path.insert(0, str(Path(__file__).parent))
import training_styles as styles

from autoflip_secure.training import choose_trainer
from autoflip_secure.training.buckets import padding_waste, plan
from autoflip_secure.training.program import kept_floats
from autoflip_secure.training.stacked import BUDGET

Ratios = Callable[..., None]


@pytest.mark.parametrize(
    ("model", "clients", "goal", "rounds"),
    [("mlp", 20, ">= 6", 7), ("mlp", 200, ">= 6", 2), ("cnn", 20, ">= 4", 3)],
)
def test_stacked_against_a_tuned_loop(
    model: str, clients: int, goal: str, rounds: int, ratios: Ratios, benchmark: BenchmarkFixture
) -> None:
    problem = styles.Problem(styles.MODELS[model], clients)
    stack, loop, reference = styles.seconds(
        lambda: styles.stacked(problem),
        lambda: styles.tuned_loop(problem),
        lambda: styles.sequential(problem),
        rounds=rounds,
    )
    updates = benchmark.pedantic(styles.stacked, (problem,), rounds=3, warmup_rounds=1)
    rates = " / ".join(f"{problem.samples / time / 1000:,.0f}k" for time in (stack, loop, reference))
    comment = f"{problem.layout.size:,} parameters; samples/s stacked / loop / SequentialTrainer: {rates}"
    ratios(f"{model}, {clients} clients: tuned loop / stacked, time", loop / stack, goal, comment)
    assert torch.allclose(updates, styles.sequential(problem), atol=1e-4)


def test_one_at_a_time_on_larger_images(ratios: Ratios, benchmark: BenchmarkFixture) -> None:
    """What ``auto`` trains a CNN of 106k parameters on 28x28 images by, against the loop with the channels first."""
    last = styles.Problem(styles.cnn_of_28, 3, side=28)
    first = styles.Problem(lambda: styles.cnn_of_28().to(memory_format=torch.contiguous_format), 3, side=28)
    assert choose_trainer(last.module, last.layout, last.x[:2]).kind == "sequential"
    own, loop, same = styles.seconds(
        lambda: styles.sequential(last), lambda: styles.tuned_loop(first), lambda: styles.tuned_loop(last), rounds=3
    )
    comment = f"{last.layout.size:,} parameters, channels last; the loop with them last too: {same / own:.2f}"
    ratios("CNN on 28x28 images: tuned loop / sequential, time", loop / own, ">= 1.5", comment)
    updates = benchmark.pedantic(styles.sequential, (last,), rounds=1)
    assert torch.allclose(updates, styles.sequential(first), atol=1e-3)


@pytest.mark.parametrize(("clients", "rounds"), [(20, 5), (200, 1)])
def test_stacked_against_copy_and_loader(
    clients: int, rounds: int, ratios: Ratios, benchmark: BenchmarkFixture
) -> None:
    problem = styles.Problem(styles.mlp, clients)
    stack, usual = styles.seconds(
        lambda: styles.stacked(problem), lambda: styles.copy_and_loader(problem), rounds=rounds
    )
    benchmark.pedantic(styles.copy_and_loader, (problem,), rounds=1)
    rates = " / ".join(f"{problem.samples / time / 1000:,.0f}k" for time in (stack, usual))
    ratios(
        f"mlp, {clients} clients: deepcopy and DataLoader / stacked, time", usual / stack, ">= 14", f"samples/s {rates}"
    )
    assert usual > stack


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_time_grows_no_faster_than_the_number_of_models(
    model: str, ratios: Ratios, benchmark: BenchmarkFixture
) -> None:
    counts = (10, 20, 50, 100, 200) if model == "mlp" else (10, 50, 200)
    problems = [styles.Problem(styles.MODELS[model], count) for count in counts]
    times = styles.seconds(*(lambda p=p: styles.stacked(p) for p in problems), rounds=5 if model == "mlp" else 1)
    benchmark.pedantic(styles.stacked, (problems[-1],), rounds=1)
    each = [1e6 * time / problem.samples for time, problem in zip(times, problems, strict=True)]
    shown = ", ".join(f"{count}: {cost:.2f}" for count, cost in zip(counts, each, strict=True))
    ratios(f"{model}: cost per model, 200 / 10 models", each[-1] / each[0], "<= 1.15", f"us per sample at {shown}")
    assert times[-1] > times[0]


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_padding_under_skew(alpha: float, ratios: Ratios, benchmark: BenchmarkFixture) -> None:
    problem = styles.Problem(styles.mlp, 200, alpha)
    sizes = [len(job.samples) for job in problem.jobs]
    kept = kept_floats(problem.module, problem.x[:1])
    buckets = plan(sizes, styles.SCHEDULE, problem.layout.size, kept, BUDGET["cpu"])
    even = styles.Problem(styles.mlp, 200)
    skewed_time, even_time = styles.seconds(lambda: styles.stacked(problem), lambda: styles.stacked(even), rounds=3)
    benchmark.pedantic(styles.stacked, (problem,), rounds=2)
    slower = (skewed_time / problem.samples) / (even_time / even.samples)
    where = f"200 clients, Dirichlet {alpha}, sizes {min(sizes)} to {max(sizes)}"
    ratios(
        f"mlp: samples computed / used, Dirichlet {alpha}", padding_waste(sizes, styles.SCHEDULE, buckets), "<= 1.25"
    )
    ratios(f"mlp: time per sample, Dirichlet {alpha} / equal sizes", slower, "", where)
    assert sum(len(bucket.jobs) for bucket in buckets) == 200


@pytest.mark.parametrize(("style", "clients"), [("stacked", 20), ("stacked", 200), ("tuned_loop", 200)])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_peak_memory(model: str, style: str, clients: int, ratios: Ratios, benchmark: BenchmarkFixture) -> None:
    command = [sys.executable, styles.__file__, style, model, str(clients)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    options = {"capture_output": True, "text": True, "check": True, "env": os.environ | {"PYTHONPATH": path}}
    done = benchmark.pedantic(subprocess.run, (command,), options)
    peak = float(done.stdout)
    rows = clients * styles.Problem(styles.MODELS[model], 2).layout.size * 4 / 2**20
    ratios(f"{model}: peak memory, {style}, {clients} clients, MiB", peak, "", f"the updates alone are {rows:.1f} MiB")
    assert peak >= 0
