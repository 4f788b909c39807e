"""Local training in bfloat16: torch's autocast and nothing else, with everything else in float32."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from slow_training import MODELS, data, jobs_of, made
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, Trained, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.models.resnet import ResNet20
from autoflip_secure.scenarios.models.text import Lstm
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import SequentialTrainer, StackedTrainer, choose_trainer

HALF = TrainingSchedule(epochs=2, batch_size=16, precision="bfloat16")
FULL = TrainingSchedule(epochs=2, batch_size=16)


def trained(module: nn.Module, layout: Layout, x: Tensor, jobs: list[ClientJob], schedule: TrainingSchedule) -> Trained:
    return SequentialTrainer().train(module, layout, x, jobs, schedule)


def under_autocast(module: nn.Module, layout: Layout, x: Tensor, job: ClientJob) -> Tensor:
    """The update of ``HALF`` in plain torch, without anything of the trainers."""
    net, start = copy.deepcopy(module).train(), job.start.clone()
    if job.mask is not None:
        start[~job.mask] = 0.0
    layout.load(net, start)
    order = generator(job.seed, Purpose.BATCHES, *job.address)
    for _ in range(HALF.epochs):
        shuffled = torch.randperm(len(job.samples), generator=order)
        for batch in shuffled.split(HALF.batch_size):
            net.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scores = net(x[job.samples[batch]])
            F.cross_entropy(scores.float(), job.labels[batch]).backward()
            with torch.no_grad():
                for name, parameter in net.named_parameters():
                    if parameter.grad is not None:
                        keep = 1 if job.mask is None else job.mask[layout[name].slice].reshape(parameter.shape)
                        parameter.sub_(HALF.lr * parameter.grad * keep)
    return layout.vector(net) - start


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_an_update_is_that_of_torchs_autocast_and_masked_weights_stay_zero(make: Callable[[], nn.Module]) -> None:
    module, layout = made(make)
    x, y = data()
    jobs = jobs_of(layout, module, y, [37, 16, 50], masks=True)
    found = trained(module, layout, x, jobs, HALF)
    assert found.updates.dtype == found.losses.dtype == torch.float32
    for row, job in zip(found.updates, jobs, strict=True):
        torch.testing.assert_close(row, under_autocast(module, layout, x, job), atol=1e-6, rtol=0)
        if job.mask is not None:
            assert not row[~job.mask].any()
    full = trained(module, layout, x, jobs, FULL).updates
    assert not torch.equal(found.updates, full)
    assert ((found.updates - full).norm(dim=1) <= 0.3 * full.norm(dim=1)).all()


def test_running_statistics_and_what_clients_sum_up_are_float32() -> None:
    x, y = data()
    module = ResNet20(width=4, blocks=1).build(x[:2], 10, 0)
    layout = Layout.of(module)
    own = ClientJob(layout.vector(module), torch.arange(32), y[:32], 0, (1, 0), accumulate=frozenset({"gradients"}))
    half, full = (trained(module, layout, x, [own], schedule) for schedule in (HALF, FULL))
    for one in (half.updates, *half.sums.values()):
        assert one.dtype == torch.float32
        assert one.isfinite().all()
    assert torch.cosine_similarity(half.updates, full.updates).item() > 0.95
    assert torch.cosine_similarity(half.sums["gradients"], full.sums["gradients"]).item() > 0.95


def test_a_recurrent_net_trains_too() -> None:
    tokens, y = torch.randint(0, 30, (32, 12), generator=torch.Generator().manual_seed(0)), torch.arange(32) % 30
    module = Lstm(hidden=16).build(tokens[:2], 30, 0)
    layout = Layout.of(module)
    own = [ClientJob(layout.vector(module), torch.arange(32), y, 0, (1, 0))]
    half, full = (trained(module, layout, tokens, own, schedule).updates for schedule in (HALF, FULL))
    assert torch.cosine_similarity(half, full).item() > 0.95


def test_auto_trains_one_at_a_time_and_a_stack_is_refused() -> None:
    module, layout = made(MODELS["mlp"])
    x, _ = data()
    assert isinstance(choose_trainer(module, layout, x[:2]), StackedTrainer)
    chosen = choose_trainer(module, layout, x[:2], precision="bfloat16")
    assert isinstance(chosen, SequentialTrainer)
    assert chosen.reason == "training.precision = bfloat16 is for one at a time"
    with pytest.raises(InputError, match="'stacked' trains in float32 alone, not in bfloat16; set trainer: auto"):
        choose_trainer(module, layout, x[:2], "stacked", precision="bfloat16")


def test_explorers_train_in_the_same_precision() -> None:
    assert ExplorationConfig().schedule(HALF).precision == "bfloat16"


WRITTEN = "data: digits\nmodel: mlp\nclients: 4\ncohort: 2\nrounds: 1\ntraining: {precision: bfloat16}\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("privacy: {kind: sample_level, noise_multiplier: 1}", "norms that are exact to float32; leave precision out"),
        ("trainer: stacked", "trains in float32 alone, and training.precision is bfloat16; set trainer: auto"),
    ],
    ids=["DP-SGD", "stacked"],
)
def test_what_does_not_go_with_it_is_refused(tmp_path: Path, more: str, message: str) -> None:
    written = tmp_path / "scenario.yaml"
    written.write_text(WRITTEN)
    load(written)
    written.write_text(WRITTEN + more)
    with pytest.raises(InputError, match=message):
        load(written)
