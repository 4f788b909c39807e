"""DP-SGD of models that do odd things with their weights: both trainers against one sample at a time, slowly."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import ClientJob, PrivateSteps, Schedule
from autoflip_secure.parameters import Layout
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer
from autoflip_secure.training.analytic import Analytic, clipped_sums
from autoflip_secure.training.per_sample import Plain
from defenses.differential_privacy import fit, opacus_is_right
from defenses.private_modules import check, check_separate, fixed
from scenarios.models import Cnn, McMahanCnn, Mlp

IMAGES = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(0))
WORDS = torch.randint(0, 20, (80, 7), generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 10, (80,), generator=torch.Generator().manual_seed(1))
SCHEDULE = Schedule(lr=0.2, batch_size=8, epochs=2)


class Two(nn.Module):
    """Two layers; what happens between them is the subclass's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.flatten(1))))


class FloatBuffer(Two):
    """A buffer is a coordinate, but not a parameter: it gets no noise and shifts nobody else's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.scale.mean())


class BufferOfATrainedLayer(FloatBuffer):
    """Opacus refuses layers that own both."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(10))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.gain


class Scalar(Two):
    """A parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.temperature


class Tied(nn.Module):
    """One weight, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


class TiedWords(nn.Module):
    """An embedding that is the output layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(20, 12), nn.Linear(12, 20, bias=False)
        self.last.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.embedding(x).mean(1))[:, :10]


class TiedByHand(nn.Module):
    """The layer, and its weight once more without the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 32, bias=False), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.linear(torch.relu(self.first(x.flatten(1))), self.first.weight.T))


class WithoutTheLayer(Two):
    """Only the weights of the layer are used."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(F.linear(x.flatten(1), self.first.weight, self.first.bias)))


class ScaledByItsNorm(Two):
    """The use besides the layer's own is faint."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 1e-2 * self.last.weight.square().mean())


def doubled(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return 2 * output


def plus_weights(layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * (1 + layer.weight.sum())


def halved(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (0.5 * inputs[0],)


class Hooked(Two):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_hook(doubled)


class HookedByWeights(Two):
    def __init__(self) -> None:
        super().__init__()
        self.last.register_forward_hook(plus_weights)


class HookedBefore(Two):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_pre_hook(halved)


class Keyword(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(input=torch.relu(self.first(x.flatten(1))))


class BatchSecond(nn.Module):
    """A layer that sees the batch in its second dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.squeeze(1).transpose(0, 1))).transpose(0, 1).flatten(1))


class BatchFolded(BatchSecond):
    """A layer that sees rows of all samples in one dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.reshape(-1, 8))).reshape(-1, 48))


class Cut(Two):
    """No gradient reaches the first layer."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.flatten(1)).detach()))


class Unused(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)[:, :32])


class Frozen(Two):
    def __init__(self) -> None:
        super().__init__()
        self.first.bias.requires_grad_(False)


class Reparametrised(Two):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.first)


class Recurrent(nn.Module):
    """Opacus has no hook for it and no objection either."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.last = nn.RNN(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(x.squeeze(1))[0][:, -1])


class DependsOnData(TiedByHand):
    """Cannot be stacked, and Opacus's gradients of it are wrong."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.sum()) < 1e9 else -x)


STACKABLE: list[Callable[[], nn.Module]] = [
    *(FloatBuffer, BufferOfATrainedLayer, Scalar, Tied, TiedWords, TiedByHand, WithoutTheLayer, ScaledByItsNorm),
    *(Hooked, HookedByWeights, HookedBefore, Keyword, BatchSecond, BatchFolded, Cut, Unused, Frozen),
]
OTHERS: list[Callable[[], nn.Module]] = [Reparametrised, Recurrent, DependsOnData]


def made(make: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(), WORDS if make is TiedWords else IMAGES


def job_of(module: nn.Module, noise: float) -> ClientJob:
    rows = torch.arange(20, 40)
    return ClientJob(Layout.of(module).vector(module), rows, LABELS[rows], 5, (1, 2), None, PrivateSteps(0.2, noise))


def by_hand(module: nn.Module, x: Tensor, job: ClientJob) -> Tensor:
    """Abadi et al. 2016, Algorithm 1, one ordinary gradient at a time; noise for parameters, in their order."""
    net, private = copy.deepcopy(module).train(), job.private
    assert private is not None
    parameters = list(net.parameters())
    trained = [p for p in parameters if p.requires_grad]
    draws, noise = (generator(job.seed, purpose, *job.address) for purpose in (Purpose.POISSON, Purpose.DP_NOISE))
    n = len(job.samples)
    steps = SCHEDULE.epochs * -(-n // SCHEDULE.batch_size)
    for batch in torch.rand(steps, n, generator=draws, dtype=torch.float64) < SCHEDULE.batch_size / n:
        total = [torch.zeros_like(p) for p in trained]
        for i in batch.nonzero().squeeze(1).tolist():
            loss = F.cross_entropy(net(x[job.samples[i]][None]), job.labels[i][None])
            found = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
            norm = float(torch.cat([g.reshape(-1) for g in found]).norm())
            total = [t + g * min(1.0, private.clip / norm) for t, g in zip(total, found, strict=True)]
        z = torch.zeros(sum(p.numel() for p in parameters))
        if private.noise_multiplier:
            z = torch.randn(len(z), generator=noise)
        own = iter(total)
        with torch.no_grad():
            for parameter, part in zip(parameters, z.split([p.numel() for p in parameters]), strict=True):
                if parameter.requires_grad:
                    step = next(own) + private.noise_multiplier * private.clip * part.view_as(parameter)
                    parameter.sub_(SCHEDULE.lr * step / SCHEDULE.batch_size)
    return Layout.of(net).vector(net) - job.start


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize("make", STACKABLE)
def test_stacked_is_the_algorithm(make: Callable[[], nn.Module], noise: float) -> None:
    module, x = made(make)
    job = job_of(module, noise)
    found = StackedTrainer().train(module, Layout.of(module), x, [job], SCHEDULE).updates[0]
    expected = by_hand(module, x, job)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize("make", STACKABLE + OTHERS)
def test_one_at_a_time_is_the_algorithm(make: Callable[[], nn.Module], noise: float) -> None:
    module, x = made(make)
    job = job_of(module, noise)
    found = SequentialTrainer(private=fit).train(module, Layout.of(module), x, [job], SCHEDULE).updates[0]
    expected = by_hand(module, x, job)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("make", [lambda: Mlp().build((1, 8, 8), 10, 0), lambda: Cnn().build((1, 8, 8), 10, 0),
                                  lambda: McMahanCnn().build((1, 8, 8), 10, 0), Two])  # fmt: skip
def test_the_quick_ways_are_taken_where_they_are_right(make: Callable[[], nn.Module]) -> None:
    module, x = made(make)
    names = [segment.name for segment in Layout.of(module)]
    assert isinstance(clipped_sums(module.train(), names, list(range(len(names))), x[:2], {}), Analytic)
    assert opacus_is_right(make(), x[:2])


@pytest.mark.parametrize("make", [TiedByHand, ScaledByItsNorm, Hooked, HookedByWeights, BatchSecond, BatchFolded, Cut])
def test_the_formulas_are_not_trusted_by_the_type_of_layers(make: Callable[[], nn.Module]) -> None:
    module, x = made(make)
    names = [segment.name for segment in Layout.of(module)]
    notes: dict[str, bool] = {}
    assert isinstance(clipped_sums(module.train(), names, list(range(len(names))), x[:2], notes), Plain)
    assert list(notes.values()) == [False]
    assert not any(layer._forward_hooks for layer in module.modules() if make not in (Hooked, HookedByWeights))


@pytest.mark.parametrize("make", [TiedByHand, WithoutTheLayer, Hooked, HookedByWeights, BatchSecond, Recurrent])
def test_opacus_is_not_trusted_either(make: Callable[[], nn.Module]) -> None:
    module, x = made(make)
    before = [p.clone() for p in module.parameters()]
    assert not opacus_is_right(module, x[:2])
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def test_a_trial_is_made_once_per_model() -> None:
    module, x = made(Two)
    trainer, job = StackedTrainer(), job_of(module, 0.7)
    first = trainer.train(module, Layout.of(module), x, [job], SCHEDULE).updates
    (notes,) = trainer._notes.values()
    assert list(notes.values()) == [True]
    notes.update(dict.fromkeys(notes, False))  # what is noted is what is used
    assert torch.allclose(trainer.train(module, Layout.of(module), x, [job], SCHEDULE).updates, first, atol=1e-6)
    assert list(notes.values()) == [False]


class Centred(Two):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class Remembering(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
        return super().forward(x - self.mean)


class RandomlyDropped(Two):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5, self.training))


@pytest.mark.parametrize(
    ("make", "said"),
    [(Centred, "gives a sample other scores in another batch"), (Remembering, "buffer 'mean' .* changes")],
)
@pytest.mark.parametrize("trainer", [SequentialTrainer(private=fit)])
def test_what_mixes_or_remembers_samples_is_refused(make: Callable[[], nn.Module], said: str, trainer: Trainer) -> None:
    module, x = made(make)
    with pytest.raises(UnsupportedModelError, match=said):
        check_separate(module, x[:3])
    with pytest.raises(UnsupportedModelError, match=said):
        trainer.train(module, Layout.of(module), x, [job_of(module, 1.0)], SCHEDULE)


@pytest.mark.parametrize("make", [*STACKABLE, *OTHERS, RandomlyDropped])
def test_what_does_neither_is_not_refused(make: Callable[[], nn.Module]) -> None:
    module, x = made(make)
    state = torch.get_rng_state()
    check(module)
    check_separate(module, x[:3])
    assert torch.equal(torch.get_rng_state(), state)


class Layers(nn.Module):
    """One layer that is refused, between two that are not."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer, self.last = nn.Linear(8, 6), layer, nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.squeeze(1)))
        if isinstance(self.layer, nn.modules.batchnorm._NormBase | nn.GroupNorm):
            return self.last(self.layer(h.transpose(1, 2)).mean(2))
        given = self.layer(h, h, h) if "Attention" in type(self.layer).__name__ else self.layer(h)
        return self.last(given[0][:, -1])


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: nn.BatchNorm1d(6), "mixes the samples"),
    (lambda: nn.BatchNorm1d(6, affine=False), "mixes the samples"),
    (lambda: nn.InstanceNorm1d(6, track_running_stats=True), "keeps running statistics"),
    (lambda: nn.InstanceNorm1d(6, affine=True, track_running_stats=True), "keeps running statistics"),
    (lambda: nn.LSTM(6, 6, batch_first=True), "gives no per-sample gradients"),
    (lambda: nn.MultiheadAttention(6, 2, batch_first=True), "gives no per-sample gradients"),
]


@pytest.mark.parametrize(("make", "why"), REFUSED)
@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
def test_refused_layers_are_named_and_can_be_replaced(make: Callable[[], nn.Module], why: str) -> None:
    module, x = made(lambda: Layers(make()))
    with pytest.raises(UnsupportedModelError) as caught:
        check(module.eval())
    said = str(caught.value)
    assert f"layer 'layer' ({type(module.layer).__name__}), which {why}" in said
    assert said.count(".") == 1  # one sentence; the dot is the key's
    assert "set privacy.fix_modules: true" in said
    state = torch.get_rng_state()
    repaired = fixed(module)
    assert torch.equal(torch.get_rng_state(), state)
    assert not repaired.training
    assert torch.equal(repaired.first.weight, module.first.weight)
    check(repaired)
    check_separate(repaired, x[:3])
    job = job_of(repaired, 0.7)
    found = SequentialTrainer(private=fit).train(repaired, Layout.of(repaired), x, [job], SCHEDULE).updates[0]
    assert torch.allclose(found, by_hand(repaired, x, job), atol=2e-6)


def test_client_level_privacy_needs_no_per_sample_gradients_and_still_no_running_statistics() -> None:
    check(Layers(nn.LSTM(6, 6)), per_sample=False)
    with pytest.raises(UnsupportedModelError, match="BatchNorm1d"):
        check(Layers(nn.BatchNorm1d(6)), per_sample=False)


def test_a_layer_without_a_replacement_says_so() -> None:
    with pytest.raises(UnsupportedModelError, match=r"layer 'layer' \(LSTM\) of the model Layers has no replacement"):
        fixed(Layers(nn.LSTM(6, 6, proj_size=3)))
    shared = nn.BatchNorm1d(6)
    net = nn.Sequential(shared, nn.Linear(6, 6), shared)
    repaired = fixed(net)
    assert repaired[0] is repaired[2]
    assert isinstance(fixed(nn.BatchNorm1d(6)), nn.GroupNorm)
