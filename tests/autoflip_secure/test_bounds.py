"""Bounds in print are on the safe side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.bounds import lower_number, lower_text, upper_delta, upper_number, upper_text


@given(st.floats(min_value=0, max_value=1e12), st.integers(0, 6))
def test_what_is_printed_is_never_on_the_wrong_side(value: float, places: int) -> None:
    assert float(upper_text(value, places)) >= value >= float(lower_text(value, places))
    assert upper_number(value, places) >= value >= lower_number(value, places)


@given(st.floats(min_value=0, max_value=99), st.integers(0, 6))
def test_and_not_further_than_one_unit_of_the_last_place(value: float, places: int) -> None:
    assert float(upper_text(value, places)) - float(lower_text(value, places)) <= 1.0001 * 10**-places


@given(st.floats(min_value=1e-30, max_value=1))
def test_delta(value: float) -> None:
    assert value <= float(upper_delta(value)) <= 1.1000001 * value


@pytest.mark.parametrize("text", ["2.87", "0.30", "12.70", "99.99"])
def test_a_number_that_is_short_already_stays(text: str) -> None:
    assert upper_text(float(text)) == lower_text(float(text)) == text


def test_no_bound() -> None:
    assert upper_text(None) == upper_text(float("inf")) == "no bound"
    assert upper_number(float("inf")) == float("inf")
    assert upper_text(-0.0) == lower_text(-0.0) == "0.00"
