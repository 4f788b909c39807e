"""Messages of channels: what is paid for is what can be read again."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.errors import InputError
from autoflip_secure.models.channel_messages import channel_bytes, decode_channel, encode_channel

NUMBERS = st.lists(st.floats(-60_000, 60_000, width=16), min_size=1, max_size=40)


@given(NUMBERS, st.sampled_from([1, 16, 32]))
def test_a_message_carries_its_row_in_its_bits(numbers: list[float], bits: Literal[1, 16, 32]) -> None:
    row = torch.tensor(numbers)
    message = encode_channel(row, bits)
    assert len(message) == 10 + -(-len(row) * bits // 8) == channel_bytes(len(row), bits, 1)
    assert torch.equal(decode_channel(message), (row > 0.5).float() if bits == 1 else row)
    assert channel_bytes(len(row), bits, 7) == 7 * len(message)


@pytest.mark.parametrize("damage", [lambda m: m[:-1], lambda m: m + b"x", lambda m: b"", lambda m: b"AFLP" + m[4:],
                                    lambda m: m[:5] + b"\x07" + m[6:]])  # fmt: skip
def test_a_damaged_message_is_refused(damage: object) -> None:
    with pytest.raises(InputError, match="message of"):
        decode_channel(damage(encode_channel(torch.ones(5), 32)))  # type: ignore[operator]
