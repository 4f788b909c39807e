"""Costs: messages that decode to what was encoded, sizes and FLOPs counted by hand, and nothing counted twice."""

import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.models.amounts import Bytes, Flops
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.costs import CostModel, decode, encode, exploration_bytes, round_bytes
from autoflip_secure.models.layout import Layout

HEADER = 14


def mlp() -> nn.Sequential:
    """4-3-3-2: 12 + 9 prunable weights, 6 output weights, 8 biases: 35 coordinates."""
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


class Residual(nn.Module):
    """Three branches, two of which start at the input, where torch's counter loses track of backward work."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(5, 7), nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.mix = nn.Parameter(torch.randn(7, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.d((self.c(self.a(x)).relu() + self.b(x)) @ self.mix)


def frozen(module: nn.Module, *names: str) -> nn.Module:
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in names)
    return module


MLP, CNN = Layout.of(mlp()), Layout.of(cnn())
TUNED = Layout.of(frozen(cnn(), "0.weight", "0.bias", "4.weight", "1.bias"))  # a frozen start


def dense(layout: Layout) -> Tensor:
    return torch.ones(layout.size, dtype=torch.bool)


# ------------------------------------------------------------------------------------------- bytes


def random_case(layout: Layout, seed: int, density: float, others: bool) -> tuple[Tensor, Tensor]:
    """Any bit pattern, NaN and infinity among them, and a mask."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, layout.size, dtype=np.uint32)
    bits[: layout.size // 3] |= 0x7F800000  # NaN of all kinds, and infinity
    vector = torch.from_numpy(bits.view(np.float32).copy())
    mask = torch.from_numpy(rng.random(layout.size) < density)
    return vector, mask if others else mask | ~layout.prunable


def same_bits(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.view(torch.int32), b.view(torch.int32)))


@given(
    layout=st.sampled_from([MLP, CNN, TUNED]),
    seed=st.integers(0, 2**32),
    density=st.floats(0, 1),
    others=st.booleans(),
    bitmask=st.booleans(),
    first=st.booleans(),
)
@example(layout=MLP, seed=52, density=0.125, others=True, bitmask=False, first=True)  # one live value, a NaN
def test_round_trip(layout: Layout, seed: int, density: float, others: bool, bitmask: bool, first: bool) -> None:
    vector, mask = random_case(layout, seed, density, others)
    mask |= layout.frozen
    payload = encode(vector, mask, layout, bitmask=bitmask, first=first)
    version = mask._version
    got, live = decode(payload, layout, None if bitmask else mask)
    assert torch.equal(live, mask)
    told = mask if first else mask & ~layout.frozen
    assert same_bits(got[told], vector[told])
    assert not got[~told].any()
    assert mask._version == version
    bits = 0
    if bitmask:
        everything = layout.size - int(layout.frozen.sum())
        bits = everything if not mask[~layout.prunable].all() else int(layout.prunable.sum())
    assert len(payload) == HEADER + (bits + 7) // 8 + 4 * int(told.sum())


def test_a_message_by_hand() -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)))
    assert [s.name for s in layout] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    vector = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    mask = torch.tensor([False, True, True, True, True])
    values = struct.pack("<4f", 2, 3, 4, 5)
    assert encode(vector, mask, layout, bitmask=False) == b"AFLP\x01\x00" + struct.pack("<II", 5, 4) + values
    assert encode(vector, mask, layout, bitmask=True) == b"AFLP\x01\x01" + struct.pack("<II", 5, 4) + b"\x40" + values
    mask[2] = False  # a bias goes: the bits cover everything, prunable weights first
    payload = b"AFLP\x01\x03" + struct.pack("<II", 5, 3) + b"\x58" + values[:4] + values[8:]
    assert encode(vector, mask, layout, bitmask=True) == payload


def test_bad_messages() -> None:
    vector, mask = random_case(MLP, 1, 0.5, False)
    with_bits, without = (encode(vector, mask, MLP, bitmask=b) for b in (True, False))
    assert decode(without, MLP, mask)[1] is not None
    cases = [
        (with_bits[:9], None, "has 9 bytes, its header alone has 14"),
        (with_bits[:-1], None, "its header promises"),
        (with_bits + b"\0", None, "its header promises"),
        (b"AFLQ" + with_bits[4:], None, "starts with b'AFLQ'"),
        (b"AFLP\x02" + with_bits[5:], None, "version 2"),
        (b"AFLP\x01\x08" + with_bits[6:], None, "flags 8"),
        (with_bits, mask, "carries its bitmask: give no other mask"),
        (without, None, "carries no bitmask: give the mask"),
        (without, dense(MLP), "live coordinates; the sender used another mask"),
        (with_bits[:14] + b"\xff\xff\xff" + with_bits[17:], None, "the sender used another mask"),
        (
            encode(torch.zeros(CNN.size), dense(CNN), CNN, bitmask=True),
            None,
            f"{CNN.size} coordinates, the model 35",
        ),
    ]
    for payload, known, message in cases:
        with pytest.raises(InputError, match=message):
            decode(payload, MLP, known)


def test_bytes_of_a_round_by_hand() -> None:
    mask = dense(MLP)
    full = HEADER + 4 * 35
    assert round_bytes(mask, MLP, 5) == Bytes(
        uplink_values=5 * full,
        uplink_bitmask=5 * (full + 3),  # 21 prunable weights
        downlink_values=5 * full,
        downlink_bitmask=5 * (full + 3),
    )
    mask[MLP["0.weight"].slice] = False  # in place: what was remembered of this tensor is void
    assert round_bytes(mask, MLP, 1).uplink_values == full - 4 * 12
    assert round_bytes(mask, MLP, 1).uplink_bitmask == full - 4 * 12 + 3
    mask[MLP["0.bias"].slice] = False
    assert round_bytes(mask, MLP, 1).downlink_values == full - 4 * 15
    assert round_bytes(mask, MLP, 1).downlink_bitmask == full - 4 * 15 + 3 + 2  # 21 + 14 bits, packed as one
    assert exploration_bytes(MLP, 4) == Bytes(
        uplink_values=4 * full, uplink_bitmask=4 * full, downlink_values=4 * full, downlink_bitmask=4 * full
    )


def test_layouts_of_one_size_are_told_apart() -> None:
    one, other = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)), nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    layouts = Layout.of(one), Layout.of(nn.Sequential(*other, nn.ReLU(), nn.Linear(1, 1, bias=False)))
    assert [layout.size for layout in layouts] == [17, 17]
    mask = dense(layouts[0])
    sizes = [round_bytes(mask, layout, 1).uplink_bitmask - HEADER - 4 * 17 for layout in layouts]
    assert sizes == [1, 2]


# ------------------------------------------------------------------------------------------- FLOPs


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
    mask = dense(layout)
    mask[layout["4.weight"].start] = False
    with Products() as run:
        first = costs.training(mask, 10), round_bytes(mask, layout, 5)
    assert run.count > 0
    with Products() as run:
        assert (costs.training(mask, 10), round_bytes(mask, layout, 5)) == first
        assert costs.training(mask.clone(), 10) == first[0]
    assert run.count == 0
    mask[layout["4.weight"].start + 1] = False  # in place
    assert costs.training(mask, 10).sparse < first[0].sparse
