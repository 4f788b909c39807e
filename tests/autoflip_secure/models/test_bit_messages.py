"""Messages of bits and numbers: what goes in comes out, and nothing else is read."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from sizes import sized

from autoflip_secure.errors import InputError
from autoflip_secure.models.bit_messages import bit_bytes, decode_bits, encode_bits


@given(bits=st.lists(st.booleans(), max_size=40), numbers=st.lists(st.floats(width=32), max_size=9))
@settings(max_examples=sized(30, 300), deadline=None)
def test_a_message_says_what_was_put_into_it_in_so_many_bytes(bits: list[bool], numbers: list[float]) -> None:
    payload = encode_bits(torch.tensor(bits, dtype=torch.bool), torch.tensor(numbers, dtype=torch.float32))
    found, values = decode_bits(payload)
    assert found.tolist() == bits
    assert torch.equal(values.nan_to_num(7.0), torch.tensor(numbers, dtype=torch.float32).nan_to_num(7.0))
    assert len(payload) == bit_bytes(len(bits), len(numbers)) == 13 + -(-len(bits) // 8) + 4 * len(numbers)


@pytest.mark.parametrize("payload", [b"", b"AFLC" + bytes(20), encode_bits(torch.ones(9) > 0, torch.ones(2))[:-1]])
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(InputError, match=r"not one of bits|is damaged"):
        decode_bits(payload)
