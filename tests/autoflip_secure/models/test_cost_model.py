"""Costs: FLOPs counted by hand, and nothing counted twice."""

import copy
from math import prod
from typing import Any

import pytest
import torch
from costed_models import cnn, dense, mlp
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.amounts import Flops
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.costs import CostModel, round_bytes
from autoflip_secure.models.flops import count_pass
from autoflip_secure.models.layout import Layout


class Residual(nn.Module):
    """Three branches, two of which start at the input, where torch's counter loses track of backward work."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(5, 7), nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.mix = nn.Parameter(torch.randn(7, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.d((self.c(self.a(x)).relu() + self.b(x)) @ self.mix)


def model(module: nn.Module, shape: tuple[int, ...], batch: int = 8) -> tuple[CostModel, Layout, Chain | None]:
    sample = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    chain, reason = None, "it is not a chain"
    try:
        chain = Chain.of(module, sample)
    except UnsupportedModelError as error:
        reason = str(error)
    layout = Layout.of(module)
    return CostModel(module, layout, chain, reason, sample, batch), layout, chain


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_mlp_by_hand(batch: int) -> None:
    costs, layout, chain = model(mlp(), (4,), batch)
    macs = (12, 9, 6)
    forward = 2 * sum(macs)
    step = 2 * (2 * 12 + 3 * 9 + 3 * 6)  # no gradient flows to the inputs of the first layer
    mask = dense(layout)
    assert costs.forward(mask) == Flops(dense=forward, sparse=forward, compacted=forward)
    assert costs.training(mask, 10) == Flops(dense=10 * step, sparse=10 * step, compacted=10 * step)
    assert costs.compaction == "ok"

    kept = [torch.tensor([True, False, True]), torch.tensor([True, True, False]), torch.ones(2, dtype=torch.bool)]
    assert chain is not None
    mask = chain.keep_units(kept, layout)  # 4-2-2-2
    assert costs.forward(mask) == Flops(dense=forward, sparse=2 * 16, compacted=2 * 16)
    small = 2 * (2 * 8 + 3 * 4 + 3 * 4)
    assert costs.training(mask, 10) == Flops(dense=10 * step, sparse=10 * small, compacted=10 * small)

    mask = dense(layout)
    mask[layout["0.weight"].start] = False  # one weight, no unit
    assert costs.forward(mask) == Flops(dense=forward, sparse=forward - 2, compacted=forward)
    assert costs.training(mask, 10) == Flops(dense=10 * step, sparse=10 * (step - 4), compacted=10 * step)


def test_cnn_by_hand() -> None:
    """Inputs (2, 6, 6); conv1 at 36 positions, conv2 at 4 (the counter prices its input gradient like its output)."""
    costs, layout, chain = model(cnn(), (2, 6, 6))
    conv1, conv2, fc, out = 2 * 4 * 9 * 36, 4 * 6 * 9 * 4, 24 * 5, 15
    mask = dense(layout)
    assert chain is not None
    assert [layer.macs for layer in chain.layers] == [conv1, conv2, fc, out]
    assert costs.forward(mask).dense == 2 * (conv1 + conv2 + fc + out)
    assert costs.training(mask, 3).dense == 3 * 2 * (2 * conv1 + 3 * (conv2 + fc + out))
    kept = [torch.arange(la.units) < (la.units + 1) // 2 for la in chain.layers]
    kept[-1][:] = True
    small = chain.keep_units(kept, layout)
    flops = costs.forward(small)
    assert flops.compacted == flops.sparse == 2 * chain.scaled_macs([int(k.sum()) for k in kept])
    step = costs.training(small, 3)
    assert step.compacted == step.sparse


def test_sparse_of_a_branching_model_by_hand() -> None:
    costs, layout, chain = model(Residual(), (5,))
    assert chain is None
    forward, step = (2 * (35 + 35 + 49 + 49 + 21), 2 * (2 * 70 + 3 * (49 + 49 + 21)))
    mask = dense(layout)
    assert costs.forward(mask) == Flops(dense=forward, sparse=forward, compacted=None)
    mask = mask.clone()
    mask[layout["b.weight"].slice] = False
    assert costs.forward(mask) == Flops(dense=forward, sparse=forward - 70, compacted=None)
    assert costs.training(mask, 1) == Flops(dense=step, sparse=step - 2 * 70, compacted=None)
    mask = dense(layout)
    mask[layout["mix"].slice] = False
    assert costs.training(mask, 1).sparse == step - 3 * 2 * 49
    assert costs.compaction.startswith("x is read by a, b")


def test_a_cut_network_has_no_compacted_model_and_says_so() -> None:
    costs, layout, _ = model(mlp(), (4,))
    mask = dense(layout)
    mask[layout["2.weight"].slice] = False
    assert costs.forward(mask).compacted is None
    assert costs.compaction_of(mask).startswith("the network is cut at 0")
    assert costs.compaction == costs.compaction_of(dense(layout)) == "ok"


def test_frozen_layers_cost_no_weight_gradient() -> None:
    module = mlp()
    module[0].requires_grad_(False)
    costs, layout, _ = model(module, (4,))
    assert costs.training(dense(layout), 1).dense == 2 * (12 + 2 * 9 + 3 * 6)
    mask = dense(layout)
    mask[layout["0.weight"].slice] = False
    assert costs.training(mask, 1).sparse == 2 * (2 * 9 + 3 * 6)


def test_counting_touches_neither_the_module_nor_the_global_generator() -> None:
    module = cnn().eval()
    layout = Layout.of(module)
    before, state = layout.vector(module), torch.get_rng_state()
    costs, *_ = model(module, (2, 6, 6))
    costs.training(dense(layout), 5)
    assert torch.equal(layout.vector(module), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not module.training
    assert all(p.grad is None for p in module.parameters())


class Products(TorchDispatchMode):
    """Counts products of matrices and convolutions: what a pass through a model is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += any(word in str(func) for word in ("mm", "convolution"))
        return func(*args, **(kwargs or {}))


def test_a_repeated_question_runs_no_model() -> None:
    costs, layout, _ = model(cnn(), (2, 6, 6))
    mask, filters = dense(layout), layout["4.weight"]
    mask[filters.start :][: prod(filters.shape[1:])] = False  # a unit: a smaller model than any counted before
    with Products() as run:
        first = costs.training(mask, 10), round_bytes(mask, layout, 5)
    assert run.count > 0
    with Products() as run:
        assert (costs.training(mask, 10), round_bytes(mask, layout, 5)) == first
        assert costs.training(mask.clone(), 10) == first[0]
        other = mask.clone()
        other[filters.stop - 1] = False  # and no unit fewer
        assert costs.training(other, 10).compacted == first[0].compacted
    assert run.count == 0
    mask[filters.stop - 1] = False  # in place
    assert costs.training(mask, 10).sparse < first[0].sparse


def frozen_first(module: nn.Sequential) -> nn.Sequential:
    module[0].requires_grad_(False)
    return module


class Turned(nn.Module):
    """A product with a constant: operations that belong to no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", torch.eye(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.basis


MODELS = {
    "mlp": (mlp, (4,)),
    "cnn": (cnn, (2, 6, 6)),
    "frozen": (lambda: frozen_first(mlp()), (4,)),
    "frozen filters": (lambda: frozen_first(cnn()), (2, 6, 6)),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 5, 3, stride=2), nn.BatchNorm1d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 6), nn.Linear(6, 2)
        ),
        (2, 9),
    ),
    "constant": (lambda: nn.Sequential(Turned(), *mlp()), (4,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_a_smaller_model_costs_is_what_is_counted_when_it_is_run(name: str) -> None:
    """Numbers that follow from the dense model's, beside passes of the model that is really cut smaller."""
    made, shape = MODELS[name]
    module = made()
    costs, layout, chain = model(module, shape)
    assert chain is not None
    for seed in range(4):
        draws = torch.Generator().manual_seed(seed)
        kept = [torch.rand(layer.units, generator=draws) < 0.6 for layer in chain.layers]
        for one in kept:
            one[0] = True
        kept[-1][:] = True
        mask = chain.keep_units(kept, layout)
        smaller = compact(copy.deepcopy(module), chain, layout, layout.vector(module), mask)
        inputs = torch.zeros(8, *shape)
        weights = {s.name: dict(smaller.named_parameters())[s.name] for s in layout if s.kind == "weight"}
        forward, training = (count_pass(smaller, inputs, weights, training=which).total for which in (False, True))
        assert costs.forward(mask).compacted == round(forward / 8)
        assert costs.training(mask, 8).compacted == training
