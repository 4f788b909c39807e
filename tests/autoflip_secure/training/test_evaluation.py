"""Evaluation against a plain loop over models, in evaluation mode, whatever the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from autoflip_secure.models.layout import Layout
from autoflip_secure.training import evaluate, evaluate_by_class
from autoflip_secure.training.own_evaluation import evaluate_own


class Branching(nn.Module):
    """Cannot be stacked: it looks at its values."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.dense(x.flatten(1))
        return scores if scores.abs().max().item() < 3 else 2 * scores


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)),
    "cnn": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)),
    "batch norm": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)),
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)),
    "branching": Branching,
    "large": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 14_000), nn.ReLU(), nn.Linear(14_000, 10)),
}


def problem(make: Callable[[], nn.Module], models: int) -> tuple[nn.Module, Layout, Tensor, Tensor, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
    layout = Layout.of(module)
    source = torch.Generator().manual_seed(1)
    vectors = layout.vector(module) * (1 + 0.3 * torch.rand(models, layout.size, generator=source))
    x, y = torch.randn(300, 1, 8, 8, generator=source), torch.randint(0, 10, (300,), generator=source)
    return module, layout, vectors, x, y


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_evaluation_equals_a_loop_over_models(make: Callable[[], nn.Module]) -> None:
    module, layout, vectors, x, y = problem(make, 5)
    before, mode = layout.vector(module), module.training
    accuracy, loss = evaluate(module, layout, vectors, x, y)
    net = copy.deepcopy(module).eval()
    for row, vector in enumerate(vectors):
        layout.load(net, vector)
        with torch.no_grad():
            scores = net(x) if not isinstance(net, Branching) else torch.cat([net(part) for part in x.split(128)])
        assert accuracy[row].item() == (scores.argmax(1) == y).double().mean().item()
        assert loss[row].item() == pytest.approx(F.cross_entropy(scores, y).item(), abs=1e-5)
    assert torch.equal(layout.vector(module), before)
    assert module.training == mode


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_accuracy_class_by_class_equals_a_loop_and_changes_nothing_else(make: Callable[[], nn.Module]) -> None:
    module, layout, vectors, x, y = problem(make, 5)
    vectors[1] *= torch.inf
    y[y == 7] = 3  # the test set has no 7
    found = evaluate_by_class(module, layout, vectors, x, y, 10)
    for plain, same in zip(evaluate(module, layout, vectors, x, y), found[:2], strict=True):
        assert torch.equal(plain.nan_to_num(-1), same.nan_to_num(-1))
    net = copy.deepcopy(module).eval()
    for row, vector in enumerate(vectors):
        layout.load(net, vector)
        with torch.no_grad():
            answers = torch.cat([net(part).argmax(1) for part in x.split(128)])
        for label in range(10):
            own = answers[y == label] == label
            share = found.by_class[row, label].item()
            assert share == sum(own.tolist()) / len(own) if len(own) else math.isnan(share)


def test_no_models_give_no_numbers() -> None:
    module, layout, vectors, x, y = problem(MODELS["mlp"], 2)
    accuracy, loss = evaluate(module, layout, vectors[:0], x, y)
    assert accuracy.shape == loss.shape == (0,)
    assert evaluate_by_class(module, layout, vectors[:0], x, y, 10).by_class.shape == (0, 10)


@pytest.mark.parametrize("make", [MODELS["mlp"], MODELS["cnn"]], ids=["mlp", "cnn"])
def test_a_model_of_nan_harms_nobody_else(make: Callable[[], nn.Module]) -> None:
    module, layout, vectors, x, y = problem(make, 3)
    accuracy, loss = evaluate(module, layout, vectors, x, y)
    vectors[1] = torch.nan
    again = evaluate(module, layout, vectors, x, y)
    assert loss.isfinite().all()
    assert again[1][1].isnan()
    assert 0 <= again[0][1] <= 1
    assert torch.equal(again[0][[0, 2]], accuracy[[0, 2]])
    assert torch.equal(again[1][[0, 2]], loss[[0, 2]])


def test_a_right_model_is_told_from_a_wrong_one() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(10, 10, bias=False))
    layout = Layout.of(module)
    x = torch.eye(10)
    right = 20 * torch.eye(10).flatten()
    wrong = 20 * torch.eye(10).roll(1, 0).flatten()
    accuracy, loss = evaluate(module, layout, torch.stack([right, wrong]), x, torch.arange(10))
    assert accuracy.tolist() == [1.0, 0.0]
    assert loss.tolist() == pytest.approx([0.0, 20.0], abs=1e-5)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_each_model_on_its_own_samples_equals_a_loop_and_depends_on_no_other(make: Callable[[], nn.Module]) -> None:
    sizes = (3, 140, 1, 32, 290)
    module, layout, vectors, x, _ = problem(make, len(sizes))
    source = torch.Generator().manual_seed(2)
    samples = [torch.randperm(300, generator=source)[:size] for size in sizes]
    labels = [torch.randint(0, 10, (size,), generator=source) for size in sizes]
    asked: list[int] = []

    def models(places: Sequence[int]) -> Tensor:
        asked.extend(places)
        return vectors[list(places)]

    accuracy, loss = evaluate_own(module, layout, models, x, samples, labels)
    assert set(asked) == set(range(len(sizes)))
    net = copy.deepcopy(module).eval()
    for place, (rows, wanted) in enumerate(zip(samples, labels, strict=True)):
        layout.load(net, vectors[place])
        with (
            torch.no_grad()
        ):  # the branching one looks at the pieces that it is given, filled up with their first sample
            parts = [torch.cat([p, p[:1].expand(-len(p) % 32)]) for p in rows.split(128)]
            scores = torch.cat([net(x[p])[: len(q)] for p, q in zip(parts, rows.split(128), strict=True)])
        assert accuracy[place].item() == (scores.argmax(1) == wanted).double().mean().item()
        torch.testing.assert_close(loss[place], F.cross_entropy(scores, wanted).double(), rtol=1e-5, atol=1e-6)
        alone = evaluate_own(
            module, layout, lambda places, own=place: vectors[[own] * len(places)], x, [rows], [wanted]
        )
        assert (alone[0].item(), alone[1].item()) == (accuracy[place].item(), loss[place].item())
    assert [len(part) for part in evaluate_own(module, layout, models, x, [], [])] == [0, 0]
