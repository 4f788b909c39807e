"""Chains: what is one, and what is not."""

import pytest
import torch
from chain_models import Functional, cnn, mlp
from torch import Tensor, nn
from torch.nn import functional

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_layers import UnitLayer


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(x + self.a(x))


class Concatenation(Residual):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(torch.cat([h, h.relu()], 1)[:, :4])


class Twice(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.a(x).relu()))


class Tied(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


class Branching(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) if x.sum() > 0 else self.b(x)


class RawParameter(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(functional.linear(x, self.a.weight), self.b.weight)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.b = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.lstm(x.unsqueeze(1))[0][:, -1])


def grouped() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 1, groups=2), nn.Flatten(), nn.Linear(16, 2))


def between(*operations: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), *operations, nn.Linear(4, 2))


REFUSED = {
    "residual": (Residual(), (4,), "x is read by a, add"),
    "concatenation": (Concatenation(), (4,), "a is read by relu, cat|a is read by cat, relu"),
    "used twice": (Twice(), (4,), r"a \(a_1\) shares its weights"),
    "tied": (Tied(), (4,), r"a \(a\) shares its weights"),
    "control flow": (Branching(), (4,), "cannot be traced.*control flow"),
    "raw parameters": (RawParameter(), (4,), "linear also reads a.weight"),
    "recurrent": (Recurrent(), (4,), "unsqueeze is read by lstm; .* gives a tensor"),
    "grouped": (grouped(), (2, 2, 2), "groups = 2"),
    "layer norm": (between(nn.LayerNorm(4)), (4,), r"layer '1' \(LayerNorm\) may mix units \(\[4\] -> \[4\] per"),
    "group norm": (between(nn.GroupNorm(2, 4)), (4,), "taking a dead unit out could change what the living"),
    "softmax": (between(nn.Softmax(1)), (4,), "may mix units"),
    "pool over units": (between(nn.AvgPool1d(1)), (4,), "may mix units"),
    "wrong sample": (mlp(4, 3, 2), (5,), r"cannot be traced on a sample of shape \(5,\)"),
    "last dimension": (mlp(4, 3, 2), (7, 4), r"reads shape \(7, 4\) per sample; it should have 1 dim"),
    "no batch dimension": (
        nn.Sequential(nn.Conv1d(2, 4, 1), nn.Flatten(), nn.Linear(3, 2)),
        (3,),
        "it should have 2 dimensions",
    ),
    "other weights": (nn.Sequential(nn.Conv1d(4, 4, 1), nn.ConvTranspose1d(4, 4, 1)), (4, 4), "has weights that"),
    "no layer": (nn.Sequential(nn.PReLU()), (4,), "has no nn.Linear"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_chain_is_refused_with_place_and_reason(name: str) -> None:
    module, shape, reason = REFUSED[name]
    with pytest.raises(UnsupportedModelError, match=reason):
        Chain.of(module, torch.zeros(1, *shape))


def test_mlp_behind_a_flatten() -> None:
    module = nn.Sequential(nn.Flatten(), *mlp(12, 5, 3))
    chain = Chain.of(module, torch.zeros(1, 3, 4))
    assert chain.layers == (
        UnitLayer("1", "1.weight", "1.bias", (), 12, 5, 1, False, 1, 60),
        UnitLayer("3", "3.weight", "3.bias", (), 5, 3, 1, False, 1, 15),
    )
    assert (chain.input_shape, chain.input_dtype) == ((3, 4), torch.float32)


def test_cnn_with_everything_per_unit() -> None:
    chain = Chain.of(cnn(), torch.zeros(1, 2, 6, 6))
    norm = tuple(f"1.{n}" for n in ("weight", "bias", "running_mean", "running_var"))
    flat = tuple(f"8.{n}" for n in ("weight", "bias", "running_mean", "running_var"))
    assert chain.layers == (
        UnitLayer("0", "0.weight", "0.bias", norm, 2, 3, 9, True, 36, 2 * 3 * 9 * 36),
        UnitLayer("4", "4.weight", None, ("5.weight", *flat), 3, 4, 9, True, 9, 3 * 4 * 9 * 9),
        UnitLayer("9", "9.weight", "9.bias", (), 4, 5, 9, False, 1, 180),
        UnitLayer("11", "11.weight", "11.bias", (), 5, 3, 1, False, 1, 15),
    )


def test_functions_methods_and_reshapes() -> None:
    module = Functional()
    chain = Chain.of(module, torch.zeros(1, 64))
    assert [(la.name, la.inputs, la.units, la.fan, la.positions) for la in chain.layers] == [
        ("conv", 1, 3, 9, 36),
        ("mid", 3, 6, 2, 8),
        ("fc", 6, 4, 1, 1),
    ]
    assert module.training
    assert {s.name for s in Layout.of(module) if s.output} == {"fc.weight", "fc.bias"}


def test_blocks_are_views_in_the_order_of_the_weights() -> None:
    module = cnn()
    layout, chain = Layout.of(module), Chain.of(module, torch.zeros(1, 2, 6, 6))
    rows = torch.randn(2, layout.size)
    blocks = chain.blocks(rows, layout)
    assert [tuple(b.shape) for b in blocks] == [(2, 3, 2, 9), (2, 4, 3, 9), (2, 5, 4, 9), (2, 3, 5, 1)]
    weight = layout.tensors(rows)["9.weight"]  # (2, 5, 36): unit 2 of the convolution owns columns 18..26
    assert torch.equal(blocks[2][:, :, 2], weight[:, :, 18:27])
    blocks[2][:, :, 2] = 0
    assert not layout.tensors(rows)["9.weight"][:, :, 18:27].any()
