"""Chains: what is one, what is not, and dead-unit closure against a slow one by hand."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_layers import UnitLayer


def mlp(*widths: int) -> nn.Sequential:
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.PReLU(4),
        nn.Dropout2d(0.1),
        nn.Flatten(),
        nn.BatchNorm1d(4 * 9),
        nn.Linear(4 * 9, 5),
        nn.Sigmoid(),
        nn.Linear(5, 3),
        nn.LogSoftmax(1),
    )


class Functional(nn.Module):
    """Everything by functions and methods, sizes asked of the input, a reshape, an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.unused = nn.Linear(2, 2)
        self.mid = nn.Conv1d(3, 6, 2)
        self.register_buffer("mean", torch.ones(()))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = (x - self.mean) / 2
        x = functional.relu(self.norm(self.conv(x.view(x.size(0), 1, 8, 8))))
        x = functional.max_pool2d(x, 2).reshape(x.shape[0], 3, -1)
        x = torch.relu(self.mid(x)) * 0.5
        x = functional.dropout(x.mean(dim=(2,)), training=self.training)
        return functional.log_softmax(self.fc(x.tanh().view(x.shape[0], -1)), dim=1)


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


# ------------------------------------------------------------------------------------------- closure


def slow_closure(chain: Chain, mask: Tensor, layout: Layout) -> Tensor:
    """One unit, one weight at a time, from the indices up, until nothing changes."""
    mask = mask.clone()
    changed = True
    while changed:
        changed = False
        for index, layer in enumerate(chain.layers[:-1]):
            after = chain.layers[index + 1]
            start, next_start = layout[layer.weight].start, layout[after.weight].start
            row = layer.inputs * layer.fan
            for unit in range(layer.units):
                incoming = [start + unit * row + i for i in range(row)]
                outgoing = [
                    next_start + (o * after.inputs + unit) * after.fan + f
                    for o in range(after.units)
                    for f in range(after.fan)
                ]
                if any(mask[i] for i in incoming) and any(mask[i] for i in outgoing):
                    continue
                own = list(incoming + outgoing)
                for name in [layer.bias, *layer.attached]:
                    if name is not None:
                        each = (layout[name].stop - layout[name].start) // layer.units
                        own += [layout[name].start + unit * each + i for i in range(each)]
                for i in own:
                    changed |= bool(mask[i])
                    mask[i] = False
    return mask


def random_mask(layout: Layout, seed: int, density: float) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(layout.size, generator=g) < density


SMALL = {
    "mlp": (mlp(4, 5, 4, 3), (4,)),
    "cnn": (cnn(), (2, 6, 6)),
    "functional": (Functional(), (64,)),
    "single": (mlp(4, 2), (4,)),
}
CHAINS = {k: (Layout.of(m), Chain.of(m, torch.zeros(1, *shape))) for k, (m, shape) in SMALL.items()}


@pytest.mark.parametrize("name", SMALL)
@given(seed=st.integers(0, 2**32), density=st.floats(0, 1), less=st.floats(0, 1))
def test_closure(name: str, seed: int, density: float, less: float) -> None:
    layout, chain = CHAINS[name]
    mask = random_mask(layout, seed, density**2)
    before = mask.clone()
    closed = chain.close(mask, layout)
    assert torch.equal(mask, before)
    assert not (closed & ~mask).any()
    assert chain.close(closed, layout) is closed  # idempotent, and the same object when nothing changes
    smaller = mask & random_mask(layout, seed + 1, less)
    assert not (chain.close(smaller, layout) & ~closed).any()  # monotone
    if name == "mlp":
        assert torch.equal(closed, slow_closure(chain, mask, layout))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("density", [0.02, 0.1, 0.3])
def test_closure_against_the_slow_one(name: str, density: float) -> None:
    layout, chain = CHAINS[name]
    changed = 0
    for seed in range(3):
        mask = random_mask(layout, seed, density)
        closed = chain.close(mask, layout)
        changed += not torch.equal(closed, mask)
        assert torch.equal(closed, slow_closure(chain, mask, layout))
        live = chain.live_units(mask, layout)
        for layer, units, block in zip(chain.layers[:-1], live, chain.blocks(closed, layout), strict=False):
            assert units.tolist() == [bool(block[u].any()) for u in range(layer.units)]
        assert live[-1].all()
    assert changed or name == "single" or density > 0.2  # the case is not vacuous


def test_a_death_travels_both_ways() -> None:
    module = mlp(2, 2, 2, 2, 2)
    layout, chain = Layout.of(module), Chain.of(module, torch.zeros(1, 2))
    mask = torch.ones(layout.size, dtype=torch.bool)
    blocks = chain.blocks(mask, layout)
    blocks[1][0] = False  # unit 0 of the second layer hears nobody ...
    blocks[2][:, 1] = False  # ... and unit 1 has no listener: the network is cut
    assert [int(units.sum()) for units in chain.live_units(mask, layout)] == [0, 0, 0, 2]
    left = {s.name: bool(chain.close(mask, layout)[s.slice].any()) for s in layout}
    assert [name for name, live in left.items() if live] == ["6.bias"]


# ------------------------------------------------------------------------------------------- whole units


@given(seed=st.integers(0, 2**32))
def test_keeping_units_and_counting_them(seed: int) -> None:
    for layout, chain in CHAINS.values():
        g = torch.Generator().manual_seed(seed)
        kept = [torch.rand(la.units, generator=g) < 0.6 for la in chain.layers]
        kept = [k | (torch.arange(len(k)) == 0) for k in kept]
        kept[-1][:] = True
        mask = chain.keep_units(kept, layout)
        assert chain.close(mask, layout) is mask
        assert all(torch.equal(a, b) for a, b in zip(chain.live_units(mask, layout), kept, strict=True))
        counts = [int(k.sum()) for k in kept]
        live = [int(b.sum()) * la.positions for b, la in zip(chain.blocks(mask, layout), chain.layers, strict=True)]
        assert chain.scaled_macs(counts) == sum(live)


def test_dense_counts() -> None:
    for _, chain in CHAINS.values():
        widths = [layer.units for layer in chain.layers]
        assert chain.scaled_macs(widths) == sum(layer.macs for layer in chain.layers)


def test_bad_unit_lists() -> None:
    layout, chain = CHAINS["mlp"]
    kept = [torch.ones(layer.units, dtype=torch.bool) for layer in chain.layers]
    with pytest.raises(InputError, match=r"kept has \[5, 4\] units per layer, the chain has \[5, 4, 3\]"):
        chain.keep_units(kept[:-1], layout)
    kept[-1][0] = False
    with pytest.raises(InputError, match="drops outputs of 4"):
        chain.keep_units(kept, layout)
