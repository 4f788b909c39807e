"""Operations: recurrent layers and attention by hand, torch's own counter as a witness, and no number too small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autoflip_secure.models import flops
from autoflip_secure.models.amounts import Flops
from autoflip_secure.models.costs import CostModel
from autoflip_secure.models.flops import Operations, count_pass
from autoflip_secure.models.layout import Layout

BATCH, STEPS, INPUTS, HIDDEN = 2, 5, 8, 6


class First(nn.Module):
    """The first of what a module gives."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found = self.inner(x)
        return found[0] if isinstance(found, tuple) else found


class Applied(nn.Module):
    """A function of the inputs and one weight of shape (8, 4)."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.randn(INPUTS, 4)), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(INPUTS, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


def counted(module: nn.Module, x: Tensor, *, training: bool = False) -> Operations:
    weights = {name: p for name, p in module.named_parameters() if p.dim() >= 2}
    return count_pass(module, x, weights, training=training)


X = torch.randn(BATCH, STEPS, INPUTS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("both_ways", [False, True])
def test_every_step_of_a_recurrent_layer_counts(kind: Any, gates: int, both_ways: bool) -> None:
    module = First(kind(INPUTS, HIDDEN, num_layers=2, batch_first=True, bidirectional=both_ways))
    ways = 1 + both_ways
    steps = 2 * BATCH * STEPS * gates * HIDDEN * ways
    by_hand = [steps * INPUTS, steps * HIDDEN, steps * HIDDEN * ways, steps * HIDDEN]
    found = counted(module, X)
    assert found.problem is None
    assert found.total == sum(by_hand)
    for layer in (0, 1):
        for place, name in enumerate(("ih", "hh")):
            own = sum(v for k, v in found.of_weights.items() if k.startswith(f"inner.weight_{name}_l{layer}"))
            assert own == by_hand[2 * layer + place]
    trained = counted(module, X, training=True)
    assert trained.problem is None
    # the inputs of the first layer, and the first hidden states, want no gradient
    first = 2 * BATCH * gates * HIDDEN * HIDDEN * ways * 2
    assert trained.total == 3 * sum(by_hand) - by_hand[0] - first
    assert sum(trained.of_weights.values()) == trained.total


def test_attention_counts_in_evaluation_mode_too() -> None:
    """Four projections, scores and their use; torch's fast path would hide all of them."""
    projections, scores = 4 * BATCH * STEPS * INPUTS**2, 2 * BATCH * STEPS**2 * INPUTS
    found = counted(Attending(), X)
    assert found.total == 2 * (projections + scores)
    assert sum(found.of_weights.values()) == 2 * projections  # scores are no weights'
    encoder = nn.TransformerEncoderLayer(INPUTS, 2, 16, dropout=0.0, batch_first=True)
    dense = 2 * BATCH * STEPS * INPUTS * 16
    assert counted(encoder, X).total == 2 * (projections + scores + dense)
    assert torch.backends.mha.get_fastpath_enabled()  # as it was
    plain = Applied(lambda x, w: F.scaled_dot_product_attention(x @ w, x @ w, x @ w))
    assert counted(plain, X).total == 2 * (3 * BATCH * STEPS * INPUTS * 4 + 2 * BATCH * STEPS**2 * 4)


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "@": lambda x, w: x @ w,
    "einsum": lambda x, w: torch.einsum("bti,ij->btj", x, w),
    "by broadcasting": lambda x, w: (x[..., None] * w).sum(-2),
    "step by step": lambda x, w: torch.stack([x[:, t] @ w for t in range(STEPS)], 1),
    "vector by vector": lambda x, w: torch.stack([torch.stack([w.T @ row for row in rows]) for rows in x]),
    "as a convolution": lambda x, w: F.conv1d(x.transpose(1, 2), w.T[..., None]),
}


@pytest.mark.parametrize("way", FUNCTIONS)
def test_a_product_counts_the_same_however_it_is_written(way: str) -> None:
    forward = 2 * BATCH * STEPS * INPUTS * 4
    module = Applied(FUNCTIONS[way])
    assert counted(module, X).total == forward
    assert counted(module, X).of_weights == {"weight": forward}
    assert counted(module, X, training=True).total == 2 * forward
    assert counted(module, X, training=True).of_weights == {"weight": 2 * forward}
    behind = counted(nn.Sequential(nn.Linear(INPUTS, INPUTS), module), X, training=True)  # inputs want a gradient
    assert behind.of_weights["1.weight"] == 3 * forward


UNKNOWN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "_fft_r2c": lambda x, w: torch.fft.rfft(x, dim=1).abs() @ w,
    "_trilinear": lambda x, w: F.bilinear(x @ w, x @ w, torch.ones(3, 4, 4)),
    "_cdist_forward": lambda x, w: torch.cdist(x, w.T.expand(len(x), -1, -1), p=1.0),
    "linalg_inv_ex": lambda x, w: x @ w @ torch.linalg.inv(w.T @ w),
}


@pytest.mark.parametrize("operation", UNKNOWN)
def test_what_is_not_known_is_named_and_gives_no_number(operation: str) -> None:
    module = nn.Sequential(Applied(UNKNOWN[operation]), nn.Flatten(), nn.LazyLinear(3))
    module(X)
    for training in (False, True):
        problem = counted(module, X, training=training).problem
        assert problem is not None
        assert problem.startswith("operations are not counted: what aten.")
        assert f"aten.{operation} in layer '0'" in problem
    layout = Layout.of(module)
    costs = CostModel(module, layout, None, "no chain", X[:1], 4)
    mask, nothing = torch.ones(layout.size, dtype=torch.bool), Flops(dense=None, sparse=None, compacted=None)
    assert costs.forward(mask) == costs.training(mask, 10) == nothing
    assert costs.compaction_of(mask).startswith("operations are not counted")


MODELS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 2, groups=2),
        nn.GroupNorm(2, 8), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 3),
        nn.LogSoftmax(1),
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ConvTranspose2d(3, 2, 2, stride=2), nn.Upsample(scale_factor=2), nn.SiLU(),
        nn.AvgPool2d(3), nn.Flatten(), nn.LazyLinear(4), nn.Softmax(1),
    ),
    "layers": lambda: nn.Sequential(
        nn.Flatten(), nn.LayerNorm(144), nn.Linear(144, 9), nn.PReLU(), nn.RMSNorm(9), nn.Hardswish(), nn.Softplus(),
        nn.Linear(9, 4), nn.GLU(), nn.Tanh(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_the_counter_of_torch_on_usual_layers(name: str) -> None:
    module, x = MODELS[name](), torch.randn(3, 1, 12, 12)
    module(x)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        module.eval()(x)
    with FlopCounterMode(display=False) as both:
        module.train()(x).sum().backward()
    found, trained = counted(module, x), counted(module, x, training=True)
    assert (found.problem, trained.problem) == (None, None)
    assert (found.total, trained.total) == (forward.get_total_flops(), both.get_total_flops())
    assert found.total > 0


def test_token_models_have_numbers_and_sparse_ones_by_weight() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.lstm = nn.Embedding(11, INPUTS), nn.LSTM(INPUTS, HIDDEN, batch_first=True)
            self.last = nn.Linear(HIDDEN, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.lstm(self.embedding(x))[0][:, -1])

    module, tokens = Words(), torch.randint(0, 11, (4, STEPS))
    layout = Layout.of(module)
    costs = CostModel(module, layout, None, "no chain", tokens, 8)
    mask = torch.ones(layout.size, dtype=torch.bool)
    gates = 4 * HIDDEN
    dense = 2 * (STEPS * gates * (INPUTS + HIDDEN) + 3 * HIDDEN)
    assert costs.forward(mask).dense == costs.forward(mask).sparse == dense
    mask[layout["lstm.weight_hh_l0"].slice] = False
    assert costs.forward(mask).sparse == dense - 2 * STEPS * gates * HIDDEN
    mask[layout["embedding.weight"].slice] = False  # a look-up multiplies nothing
    assert costs.forward(mask).sparse == dense - 2 * STEPS * gates * HIDDEN
    assert costs.training(mask, 1).dense == 3 * dense - 2 * gates * HIDDEN  # the first hidden state wants no gradient


def test_weights_in_one_piece_of_memory_are_told_from_none() -> None:
    """Then their part is not known, and a sparse model counts them as dense."""
    module, both = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), torch.randn(18)
    module[0].weight, module[1].weight = (nn.Parameter(both[:12].view(3, 4)), nn.Parameter(both[12:].view(2, 3)))
    found = counted(module, torch.randn(2, 4))
    assert found.total == 2 * 2 * (12 + 6)
    assert not found.of_weights


def test_recomputing_for_the_backward_pass_is_paid_for() -> None:
    from torch.utils.checkpoint import checkpoint

    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    again = First(module)
    again.forward = lambda x: checkpoint(module, x, use_reentrant=False)  # type: ignore[method-assign]
    x = torch.randn(2, 4)
    plain, paid = counted(module, x, training=True), counted(again, x, training=True)
    first = 2 * 2 * 16  # the last layer's outputs are not needed again
    assert paid.total == plain.total + first
    assert sum(paid.of_weights.values()) == paid.total


def test_counting_does_not_import_the_compiler() -> None:
    """torch wraps what a mode does in a call that imports torch._dynamo, four processor seconds, unless told not to."""
    assert not hasattr(flops._Watch.__torch_dispatch__, "__wrapped__")
