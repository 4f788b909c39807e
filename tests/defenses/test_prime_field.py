"""The field of the proofs: its arithmetic is that of Python's integers, its shares are uniform."""

import hypothesis.strategies as st
import torch
from hidden_statements import words
from hypothesis import given
from scipy import stats

from defenses.prime_field import P, elements, fold, mixed, scalar, signed, split_elements, summed, times, total

FIELD = st.integers(0, P - 1) | st.sampled_from([0, 1, P - 1, 2**31 - 1, 2**31, 2**60, P // 2, P // 2 + 1])


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=20))
def test_field_arithmetic_is_that_of_python_integers(pairs: list[tuple[int, int]]) -> None:
    a, b = (words(list(column)) for column in zip(*pairs, strict=True))
    assert times(a, b).tolist() == [x * y % P for x, y in pairs]
    assert total(a) == sum(x for x, _ in pairs) % P
    assert fold(a - b).tolist() == [(x - y) % P for x, y in pairs]
    assert torch.equal(fold(signed(a)), a)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_every_word_has_one_element(values: list[int]) -> None:
    assert fold(words(values)).tolist() == [x % P for x in values]


@given(st.lists(FIELD, min_size=1, max_size=9), st.integers(2, 7))
def test_shares_sum_to_the_row_also_when_the_sum_is_taken_modulo_2_64(values: list[int], parties: int) -> None:
    shares = torch.stack(split_elements(words(values), parties))
    assert int(shares.min()) >= 0
    assert int(shares.max()) < P
    assert summed(shares.sum(0)).tolist() == values


@given(st.lists(FIELD, min_size=64, max_size=64), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_sums_of_elements_whose_bits_are_set(weights: list[int], sets: list[int]) -> None:
    by_hand = [sum(w for i, w in enumerate(weights) if chosen >> i & 1) % P for chosen in sets]
    assert mixed(words(weights), words(sets)).tolist() == by_hand


def test_elements_are_uniform_in_the_field() -> None:
    drawn = elements(200_000)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < P
    counts = torch.bincount(drawn >> 53, minlength=256).numpy()
    assert stats.chisquare(counts).pvalue > 1e-6
    assert int(scalar(P)) == 0
