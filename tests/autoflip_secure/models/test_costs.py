"""Costs: messages that decode to what was encoded, and bytes counted by hand."""

import struct

import numpy as np
import pytest
import torch
from costed_models import cnn, dense, mlp
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.models.amounts import Bytes
from autoflip_secure.models.costs import decode, encode, exploration_bytes, round_bytes
from autoflip_secure.models.layout import Layout

HEADER = 14


def frozen(module: nn.Module, *names: str) -> nn.Module:
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in names)
    return module


MLP, CNN = Layout.of(mlp()), Layout.of(cnn())
TUNED = Layout.of(frozen(cnn(), "0.weight", "0.bias", "4.weight", "1.bias"))  # a frozen start


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
