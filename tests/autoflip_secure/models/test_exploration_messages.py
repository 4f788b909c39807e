"""What an explorer sends, shortened: the rule weight by weight, the message there and back, and its length."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from costed_models import cnn, mlp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.models.exploration_messages import decode_deviation, deviation_bytes, encode_deviation, shortened
from autoflip_secure.models.layout import Layout

HEADER = 20


def tuned() -> Layout:
    module = cnn()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in ("0.weight", "4.weight", "1.bias"))
    return Layout.of(module)


LAYOUTS = {"mlp": Layout.of(mlp()), "cnn": Layout.of(cnn()), "frozen": tuned()}
FORMS = [(32, 1.0), (16, 1.0), (32, 0.5), (16, 0.25), (32, 0.001), (16, 0.999)]


def drawn(layout: Layout, seed: int, size: float = 0.01) -> Tensor:
    """A deviation: zero where nothing is trained, many equal sizes, and a wide range."""
    draws = np.random.default_rng(seed)
    row = draws.normal(size=layout.size) * 10.0 ** draws.integers(-6, 1, layout.size) * size
    row[draws.random(layout.size) < 0.2] = size / 4
    return torch.from_numpy(row).float() * layout.sent


def slowly(row: Tensor, layout: Layout, bits: int, share: float) -> Tensor:
    """One number at a time."""
    values = [
        np.float32(v) if sent else np.float32(0) for v, sent in zip(row.tolist(), layout.sent.tolist(), strict=True)
    ]
    for segment in layout.hidden:
        places = sorted(range(segment.start, segment.stop), key=lambda j: (-abs(float(values[j])), j))
        for j in places[math.ceil(share * len(places)) :]:
            values[j] = np.float32(0)
    if bits == 16:
        scale = max(abs(v) for v in values) or np.float32(1)
        values = [np.float32(struct.unpack("<e", struct.pack("<e", float(v / scale)))[0]) * scale for v in values]
    return torch.tensor(np.array(values, dtype=np.float32))


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(("bits", "share"), FORMS)
def test_the_rule_and_the_message_agree_with_one_number_at_a_time(name: str, bits: int, share: float) -> None:
    layout = LAYOUTS[name]
    rows = torch.stack([drawn(layout, seed, size) for seed, size in ((1, 0.01), (2, 1e-30), (3, 1e30))])
    before = rows.clone()
    found = shortened(rows, layout, bits, share)
    assert torch.equal(rows, before)
    for row, one in zip(rows, found, strict=True):
        assert torch.equal(one, slowly(row, layout, bits, share))
        message = encode_deviation(row, layout, bits, share)
        assert torch.equal(decode_deviation(message, layout, share), one)
        kept = sum(math.ceil(share * (segment.stop - segment.start)) for segment in layout.hidden)
        numbers = int((layout.sent & ~layout.prunable).sum()) + kept
        told = 0 if share == 1 else -(-int(layout.prunable.sum()) // 8)
        assert len(message) == HEADER + told + numbers * bits // 8
        assert deviation_bytes(layout, 3, bits, share) == 3 * len(message)


@given(seed=st.integers(0, 10_000), exponent=st.integers(-30, 30))
def test_half_precision_is_as_near_as_it_says(seed: int, exponent: int) -> None:
    layout = LAYOUTS["mlp"]
    row = drawn(layout, seed, 10.0**exponent)
    off = (shortened(row[None], layout, 16, 1.0)[0].double() - row.double()).abs()
    assert bool((off <= row.double().abs() * 2**-11 * 1.001 + row.double().abs().max() * 2**-25 * 1.001).all())


def test_all_numbers_in_single_precision_are_left_as_they_are() -> None:
    layout = LAYOUTS["mlp"]
    rows = drawn(layout, 1)[None]
    assert shortened(rows, layout, 32, 1.0) is rows
    nothing = torch.zeros(1, layout.size)
    assert torch.equal(shortened(nothing, layout, 16, 0.1), nothing)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("bits", "share"), FORMS)
def test_what_is_not_finite_stays_so(value: float, bits: int, share: float) -> None:
    """Else a broken client would count as one that sends zeros."""
    layout = LAYOUTS["mlp"]
    for place in (0, layout.hidden[-1].start, layout.size - 1):
        row = drawn(layout, 1)
        row[place] = value
        assert not bool(shortened(row[None], layout, bits, share).isfinite().all())


@pytest.mark.parametrize(("bits", "share"), FORMS)
def test_a_damaged_message_is_refused(bits: int, share: float) -> None:
    layout = LAYOUTS["cnn"]
    message = encode_deviation(drawn(layout, 1), layout, bits, share)
    for broken in (b"", message[:-1], message + b"\0", b"X" + message[1:], message[:4] + b"\7" + message[5:]):
        with pytest.raises(InputError):
            decode_deviation(broken, layout, share)
    with pytest.raises(InputError):
        decode_deviation(message, LAYOUTS["mlp"], share)
    with pytest.raises(InputError):
        decode_deviation(message, layout, 0.5 if share == 1 else 1.0)
