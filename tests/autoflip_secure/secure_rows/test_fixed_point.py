"""Fixed point: exact sums, rounding as against truncation, and bounds that hold at the edge."""

import math
from fractions import Fraction

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from autoflip_secure.errors import InputError
from autoflip_secure.secure_rows.fixed_point import FixedPoint


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.integers(20, 52))
def test_decoding_gives_the_value_back_within_half_a_unit(values: list[float], bits: int) -> None:
    points = FixedPoint(bits, 1.0)
    integers = points.encode(torch.tensor([values], dtype=torch.float64), [0])
    for value, integer in zip(values, integers[0].tolist(), strict=True):
        assert abs(Fraction(integer, 2**bits) - Fraction(value)) <= Fraction(1, 2 ** (bits + 1))
    assert points.decode(integers)[0].tolist() == [integer / 2**bits for integer in integers[0].tolist()]


@given(st.integers(1, 2000), st.floats(1e-6, 1e3))
def test_the_largest_sum_stays_inside_the_ring_and_one_more_bit_might_not(weight: int, bound: float) -> None:
    points = FixedPoint.for_sums(bound, weight)
    largest = weight * math.ceil(bound * 2**points.bits)
    assert largest < 2**63
    assert points.bits >= 52 or 2 * largest >= 2**62


@given(st.floats(1e-30, 1e3), st.integers(1, 1000), st.integers(0, 10**6))
def test_a_sum_is_right_to_a_billionth_of_its_largest_entry_at_every_scale(
    scale: float, clients: int, seed: int
) -> None:
    rows = torch.rand(clients, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    points = FixedPoint.for_sums(scale, clients)
    exact = rows.sum(0)
    error = (points.decode(points.encode(rows, range(clients)).sum(0)) - exact).abs().max()
    assert float(error / exact.max()) < 1e-9


@given(st.integers(1, 10**7), st.floats(1e-3, 100), st.integers(1, 10**6))
def test_the_largest_squared_norm_stays_inside_the_ring(params: int, norm: float, weight: int) -> None:
    points = FixedPoint.for_squares(norm, params, weight)
    assert (norm * 2**points.bits + math.sqrt(params) / 2) ** 2 < 2**63
    assert weight * norm * 2**points.bits < 2**63


def test_rounding_is_unbiased_where_truncation_is_not() -> None:
    """What the choice is for: a mean of many values far below 2^-16 and near the last bit."""
    points = FixedPoint(24, 1.0)
    values = torch.rand(1000, 50, generator=torch.Generator().manual_seed(10), dtype=torch.float64) * 1e-6
    rounded = points.decode(points.encode(values, range(1000)).sum(0)) / 1000
    truncated = points.decode((values * 2.0**24).floor().long().sum(0)) / 1000
    error, biased = ((x - values.mean(0)).mean().abs() for x in (rounded, truncated))
    assert error < points.unit / 50
    assert biased > points.unit / 3  # the doubt: truncation fails this check


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.5, -1.1])
def test_an_impossible_value_names_the_client_and_itself(value: float) -> None:
    rows = torch.zeros(3, 4)
    rows[1, 2] = value
    with pytest.raises(InputError, match=rf"client 7: value {value:g} at coordinate 2 is not within \+-1"):
        FixedPoint.for_sums(1.0, 3).encode(rows, [3, 7, 9])


def test_too_few_bits_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"a sum of 1000 values up to 1e\+12 leave 13 fractional bits .*at least 20"):
        FixedPoint.for_sums(1e12, 1000)
    with pytest.raises(InputError, match=r"squared norms of 100000000000000000000 values with norm up to 2"):
        FixedPoint.for_squares(2.0, 10**20)
    assert FixedPoint.for_squares(1e6, 10).bits + math.log2(1e6) >= 29  # relative to the norm nothing is lost
    assert FixedPoint.for_sums(1.0, 1000).unit < 1e-15  # values of 1e-6 and below keep nine digits
