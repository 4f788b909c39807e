"""Who is stacked and who is not, and the sentence that says why."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, McMahanCnn, Mlp
from autoflip_secure.training import WORTHWHILE, choose_trainer, stackable

SAMPLE = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def net(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1))
        return scores + torch.randn_like(scores)


class Counting(Noisy):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1.0
        scores: Tensor = self.dense(x.flatten(1))
        return scores


class Centred(Noisy):
    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1) - x.flatten(1).mean(0))
        return scores


class Branching(Noisy):
    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1))
        return scores if scores.sum().item() > -1e9 else -scores


class PythonNoise(Noisy):
    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1))
        return scores * (1 + random.random())


class StopsInAStack(Noisy):
    """The scores of a stack are right, their gradients are not."""

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1))
        return scores.detach() + 0 * scores if torch._C._functorch.is_batchedtensor(scores) else scores


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm": (lambda: net(nn.BatchNorm1d(64)), r"layer '1' \(BatchNorm1d\) normalises over the batch"),
    "dropout": (lambda: net(nn.Dropout(0.5)), r"Dropout in layer '1' draws random numbers"),
    "noise": (Noisy, "its forward draws random numbers"),
    "noise of Python": (PythonNoise, r"its forward draws random numbers while it trains \(from random\)"),
    "no gradient": (StopsInAStack, "the stacked gradient of dense.weight differs from its plain one"),
    "moving buffer": (Counting, "buffer 'seen' changes"),
    "mixed samples": (Centred, "depends on the other samples of the batch"),
    "control flow": (Branching, r"vmap refuses it \(.*\.item\(\)"),
}
ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: Mlp().make((1, 8, 8), 10),
    "cnn": lambda: Cnn().make((1, 8, 8), 10),
    "cnn6": lambda: Cnn6(width=4).make((1, 8, 8), 10),
    "dropout of nothing": lambda: net(nn.Dropout(0.0)),
    "layer norm": lambda: net(nn.LayerNorm(64)),
    "group norm": lambda: nn.Sequential(nn.GroupNorm(1, 1), net()),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_stacked_is_trained_one_at_a_time_with_the_reason(
    make: Callable[[], nn.Module], reason: str
) -> None:
    module = make()
    layout = Layout.of(module)
    state = torch.get_rng_state()
    before = layout.vector(module)
    trainer = choose_trainer(module, layout, SAMPLE)
    assert trainer.kind == "sequential"
    with pytest.raises(UnsupportedModelError, match=f"trainer = 'stacked' .*{reason}.*; set trainer: auto"):
        choose_trainer(module, layout, SAMPLE, "stacked")
    assert trainer.reason.startswith("the model cannot be stacked: ")
    assert choose_trainer(module, layout, SAMPLE, "sequential").reason == "asked for"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layout.vector(module), before)


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_what_can_be_stacked_is(make: Callable[[], nn.Module]) -> None:
    module = make()
    assert stackable(module, SAMPLE) is None
    trainer = choose_trainer(module, Layout.of(module), SAMPLE)
    assert trainer.kind == "stacked"
    assert f"{Layout.of(module).size:,} parameters" in trainer.reason
    assert choose_trainer(module, Layout.of(module), SAMPLE, "stacked").reason == "asked for"


def test_large_models_go_one_at_a_time() -> None:
    module = McMahanCnn().make((1, 28, 28), 10)
    layout = Layout.of(module)
    trainer = choose_trainer(module, layout, torch.zeros(1, 1, 28, 28))
    assert trainer.kind == "sequential"
    assert trainer.reason.startswith("1,663,370 parameters and ")
    assert trainer.reason.endswith(f"fit one step, and below {WORTHWHILE} one client at a time is faster")


@pytest.mark.parametrize("kind", ["auto", "stacked", "sequential"])
def test_an_output_that_is_not_class_scores_is_refused(kind: str) -> None:
    module = nn.Conv2d(1, 2, 3)
    with pytest.raises(UnsupportedModelError, match=r"Conv2d gives \(2, 2, 6, 6\) for 2 inputs; it must give one row"):
        choose_trainer(module, Layout.of(module), SAMPLE, kind)  # type: ignore[arg-type]


def test_devices() -> None:
    module = net()
    layout = Layout.of(module)
    assert choose_trainer(module, layout, SAMPLE).device.type == "cpu"
    found = choose_trainer(module, layout, SAMPLE, device="auto").device.type
    assert found == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    module = net()
    with pytest.raises(InputError, match="torch finds no GPU here; set device: auto or device: cpu"):
        choose_trainer(module, Layout.of(module), SAMPLE, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["stacked", "sequential"])
def test_the_gpu_gives_the_numbers_of_the_cpu(kind: str) -> None:
    from autoflip_secure.interfaces import ClientJob, TrainingSchedule

    module = Cnn().make((1, 8, 8), 10)
    layout = Layout.of(module)
    x, y = torch.randn(100, 1, 8, 8), torch.arange(100) % 10
    jobs = [ClientJob(layout.vector(module), torch.arange(n), y[:n], 0, (1, n)) for n in (1, 30, 77)]
    there, here = (
        choose_trainer(module, layout, SAMPLE, kind, device).train(module, layout, x, jobs, TrainingSchedule())  # type: ignore[arg-type]
        for device in ("cuda", "cpu")
    )
    torch.testing.assert_close(there.updates, here.updates, atol=1e-4, rtol=0)
