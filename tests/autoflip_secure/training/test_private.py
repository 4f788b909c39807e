"""DP-SGD: against Opacus, against the algorithm written out, and what its draws promise."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import pytest
import torch
from private_jobs import IMAGES, LABELS, SCHEDULE, WORDS, built
from scipy import stats
from sizes import crossed, every
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.module_checks import check, fixed
from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn, McMahanCnn, Mlp
from autoflip_secure.seeds import PrivateDraws, Purpose
from autoflip_secure.training import SequentialTrainer, StackedTrainer
from autoflip_secure.training.jobs import batch_order
from autoflip_secure.training.poisson import NoiseStream, poisson_batches


class Words(nn.Module):
    """An embedding, and a layer over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.last = nn.Embedding(20, 6), nn.Linear(6, 8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(self.embedding(x))).mean(1))


class Sequence(nn.Module):
    """Fully connected layers over the rows of an image: the analytic norms of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(8, 6), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(x.squeeze(1))).flatten(1))


class Shared(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.twice(torch.relu(self.twice(x.flatten(1))))))


def strided() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 2, dilation=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16, 10)),
    )


def grouped() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding="same"), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2)),
        *(nn.LayerNorm(6), nn.Flatten(), nn.Linear(144, 10)),
    )


MODELS: dict[str, tuple[Any, Tensor]] = {
    "mlp": (lambda: Mlp().build(torch.zeros(2, 1, 8, 8), 10, 0), IMAGES),
    "cnn": (lambda: Cnn().build(torch.zeros(2, 1, 8, 8), 10, 0), IMAGES),
    "mcmahan_cnn": (lambda: McMahanCnn().build(torch.zeros(2, 1, 8, 8), 10, 0), IMAGES),
    "strided": (strided, IMAGES),
    "grouped": (grouped, IMAGES),
    "sequence": (Sequence, IMAGES),
    "shared": (Shared, IMAGES),
    "words": (Words, WORDS),
}


def make(name: str) -> tuple[nn.Module, Tensor]:
    build, x = MODELS[name]
    return built(build), x


def jobs_of(module: nn.Module, noise: float, *, masked: bool = False, count: int = 4) -> list[ClientJob]:
    """Clients of different sizes and clip norms; one of them trains plainly."""
    layout = Layout.of(module)
    start, mask = layout.vector(module), None
    if masked:
        free = torch.rand(layout.size, generator=torch.Generator().manual_seed(2)) < 0.5
        mask = free | ~layout.prunable
    found = []
    for k in range(count):
        rows = torch.arange(25 * k, 25 * k + 20 + k)
        private = None if k == 3 else PrivateSteps(0.2 + 0.1 * k, noise)
        found.append(ClientJob(start, rows, LABELS[rows], 5, (1, k), mask, private))
    return found


def one_rounding(module: nn.Module, x: Tensor, job: ClientJob) -> float:
    """How far a client's update moves when every layer's output is rounded to float32 once more than it need be.

    Plain training in double, so that nothing else rounds; the largest change of three draws.
    """

    def trained(size: float, source: torch.Generator) -> Tensor:
        def rounded(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            return out * (1 + size * (2 * torch.rand(out.shape, generator=source, dtype=torch.float64) - 1))

        net = copy.deepcopy(module).double().train()
        for layer in net.modules():
            if not list(layer.children()):
                layer.register_forward_hook(rounded)
        optimizer = torch.optim.SGD(net.parameters(), lr=SCHEDULE.lr)
        inputs = x.double() if x.is_floating_point() else x
        for order in batch_order(job, SCHEDULE.epochs):
            for batch in torch.split(order, SCHEDULE.batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(inputs[job.samples[batch]]), job.labels[batch]).backward()
                optimizer.step()
        return torch.cat([p.detach().reshape(-1) for p in net.parameters()])

    exact = trained(0.0, torch.Generator())
    draws = [trained(2.0**-24, torch.Generator().manual_seed(seed)) for seed in range(3)]
    return max(float((drawn - exact).abs().max()) for drawn in draws)


WAYS = {f"{noise}-{kind}": (noise, kind == "masked") for noise, kind in product((0.0, 1.0), ("dense", "masked"))}


@pytest.mark.parametrize(("name", "noise", "masked"), crossed(4, {name: name for name in MODELS}, WAYS))
def test_stacked_is_opacus(name: str, noise: float, masked: bool) -> None:
    module, x = make(name)
    jobs, layout = jobs_of(module, noise, masked=masked), Layout.of(module)
    stacked = StackedTrainer().train(module, layout, x, jobs, SCHEDULE)
    opacus = SequentialTrainer(private=fit).train(module, layout, x, jobs, SCHEDULE)
    # Either way rounds a few numbers of every layer, and a model with normalisation makes 400 times more of it
    tolerance = 2e-7 + 4 * one_rounding(module, x, jobs[-1])
    assert opacus.updates.abs().max() > 200 * tolerance
    assert torch.allclose(stacked.updates, opacus.updates, atol=tolerance, rtol=0)
    assert torch.allclose(stacked.losses, opacus.losses, atol=1e-5)
    if masked:
        assert not stacked.updates[:, ~jobs[0].mask].any()  # type: ignore[operator,index]


@pytest.mark.parametrize(
    "changes", [{"momentum": 0.9, "weight_decay": 0.01}, {"optimizer": "adam", "lr": 0.01}], ids=["momentum", "adam"]
)
def test_every_optimiser_steps_along_the_private_gradient(changes: dict[str, Any]) -> None:
    module, x = make("mlp")
    schedule = SCHEDULE.model_copy(update=changes)
    jobs, layout = jobs_of(module, 0.5), Layout.of(module)
    stacked = StackedTrainer().train(module, layout, x, jobs, schedule)
    opacus = SequentialTrainer(private=fit).train(module, layout, x, jobs, schedule)
    assert torch.allclose(stacked.updates, opacus.updates, atol=1e-5)


def test_the_algorithm_written_out() -> None:
    """Abadi et al. 2016, Algorithm 1, one sample and one step at a time."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    layout = Layout.of(module)
    private, rows = PrivateSteps(0.3, 0.7), torch.arange(20)
    job = ClientJob(layout.vector(module), rows, LABELS[rows], 9, (2, 4), None, private)
    source = PrivateDraws.of(9)
    draws, noise = source.generator(Purpose.POISSON, 2, 4), source.generator(Purpose.DP_NOISE, 2, 4)
    weights = job.start.clone()
    batches = torch.from_numpy(draws.random((6, 20)) < 8 / 20)
    for batch in batches:
        total = torch.zeros_like(weights)
        for i in batch.nonzero().squeeze(1).tolist():
            leaf = weights.clone().requires_grad_()
            w, b = leaf[:640].view(10, 64), leaf[640:]
            loss = nn.functional.cross_entropy((w @ IMAGES[i].flatten() + b)[None], LABELS[i][None])
            (g,) = torch.autograd.grad(loss, leaf)
            total += g * min(1.0, 0.3 / float(g.norm()))
        drawn = torch.from_numpy(noise.standard_normal(len(weights))).float()
        weights -= 0.2 * (total + 0.7 * 0.3 * drawn) / 8
    trained = StackedTrainer().train(module, layout, IMAGES, [job], SCHEDULE)
    assert torch.allclose(trained.updates[0], weights - job.start, atol=1e-6)


@pytest.mark.parametrize("name", every(2, ["cnn", "mlp"]))
def test_a_job_does_not_depend_on_its_neighbours(name: str) -> None:
    module, x = make(name)
    layout = Layout.of(module)
    jobs = jobs_of(module, 1.0) + jobs_of(module, 1.0, masked=True)
    together = StackedTrainer().train(module, layout, x, jobs, SCHEDULE).updates
    for place in (0, 2, 5):
        alone = StackedTrainer().train(module, layout, x, [jobs[place]], SCHEDULE).updates[0]
        assert torch.equal(alone, together[place])
    backwards = StackedTrainer(budget=1).train(module, layout, x, jobs[::-1], SCHEDULE).updates
    assert torch.equal(backwards.flip(0), together)


def test_every_sample_joins_every_batch_by_itself() -> None:
    module, _ = make("mlp")
    job = ClientJob(torch.zeros(Layout.of(module).size), torch.arange(40), LABELS[:40], 1, (1, 0), None, None)
    batches = poisson_batches(job, TrainingSchedule(batch_size=8, epochs=200)).float()
    assert batches.shape == (1000, 40)
    assert batches.mean() == pytest.approx(0.2, abs=0.01)
    assert stats.chisquare(batches.sum(0).numpy()).pvalue > 1e-3
    assert batches.sum(1).var() == pytest.approx(40 * 0.2 * 0.8, rel=0.15)


def test_noise_is_standard_normal_and_every_job_has_its_own() -> None:
    jobs = jobs_of(make("mlp")[0], 1.0)
    first, second = (NoiseStream(job).draw(torch.empty(20_000)) for job in jobs[:2])
    assert stats.kstest(first.numpy(), "norm").pvalue > 1e-3
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.03


def test_noise_has_the_stated_size_on_the_weights() -> None:
    module, x = make("mlp")
    layout = Layout.of(module)
    one = TrainingSchedule(lr=1.0, batch_size=20, epochs=1)  # a single step; with the whole client as batch
    quiet, loud = (
        StackedTrainer().train(module, layout, x, jobs_of(module, noise, count=1), one).updates[0]
        for noise in (0.0, 3.0)
    )
    noise = (loud - quiet).numpy()
    expected = 3.0 * 0.2 / 20
    assert stats.kstest(noise / expected, "norm").pvalue > 1e-3
    assert noise.std() == pytest.approx(expected, rel=4 / (2 * len(noise)) ** 0.5)


def test_clipping_bounds_what_one_sample_can_do() -> None:
    module, x = make("mlp")
    layout = Layout.of(module)
    (job,) = jobs_of(module, 0.0, count=1)
    one = TrainingSchedule(lr=1.0, batch_size=20, epochs=1)
    changed = x.clone()
    changed[job.samples[0]] = 1000.0
    before, after = (StackedTrainer().train(module, layout, data, [job], one).updates[0] for data in (x, changed))
    assert 1e-4 < (before - after).norm() <= 2 * 0.2 / 20 + 1e-6


@pytest.mark.parametrize("trainer", [StackedTrainer(), SequentialTrainer(private=fit)], ids=["stacked", "sequential"])
def test_a_batch_rate_over_one_is_refused(trainer: Any) -> None:
    module, x = make("mlp")
    with pytest.raises(InputError, match=r"20 samples.*rate would be 1\.50, over 1; lower batch_size to 20"):
        trainer.train(module, Layout.of(module), x, jobs_of(module, 1.0, count=1), TrainingSchedule(batch_size=30))


def test_a_sequential_trainer_without_a_private_way_says_so() -> None:
    module, x = make("mlp")
    with pytest.raises(InputError, match="was given no way to"):
        SequentialTrainer().train(module, Layout.of(module), x, jobs_of(module, 1.0), SCHEDULE)


def test_batch_norm_is_refused_and_can_be_replaced() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(UnsupportedModelError, match=r"BatchNorm.*privacy\.replace_unsupported_layers: true"):
        check(module)
    repaired = fixed(module)
    check(repaired)
    assert isinstance(repaired[1], nn.GroupNorm)
    assert torch.equal(repaired[3].weight, module[3].weight)
    layout = Layout.of(repaired)
    trained = StackedTrainer().train(repaired, layout, IMAGES, jobs_of(repaired, 1.0), SCHEDULE)
    assert trained.updates.isfinite().all()
