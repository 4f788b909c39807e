"""Models that DP-SGD does not take, what it says about them, and what they can be replaced by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from odd_models import OTHERS, STACKABLE, Two, made
from private_jobs import SCHEDULE, by_hand, job_of
from sizes import every
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.module_checks import check, check_separate, fixed
from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.layout import Layout
from autoflip_secure.training import SequentialTrainer, Trainer


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
    [(Centred, "gives a sample different scores in different batches"), (Remembering, "buffer 'mean' .* changes")],
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


@pytest.mark.parametrize(("make", "why"), every(2, REFUSED))
@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
def test_refused_layers_are_named_and_can_be_replaced(make: Callable[[], nn.Module], why: str) -> None:
    module, x = made(lambda: Layers(make()))
    with pytest.raises(UnsupportedModelError) as caught:
        check(module.eval())
    said = str(caught.value)
    assert f"layer 'layer' ({type(module.layer).__name__}), which {why}" in said
    assert said.count(".") == 1  # one sentence; the dot is the key's
    assert "set privacy.replace_unsupported_layers: true" in said
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
