"""Votes are as good as numbers: centres and limits from histograms."""

import hypothesis.strategies as st
import pytest
import torch
from hidden_statements import words
from hypothesis import given

from autoflip_secure.robust import quantile
from defenses.anonymous_votes import BINS, centre, middles, quantile_of, threshold, vote


@given(st.lists(st.floats(0.6, 0.999), min_size=5, max_size=60))
def test_centres_from_votes_are_those_of_the_numbers_up_to_a_bin(values: list[float]) -> None:
    votes = torch.stack([vote("profile", value) for value in values]).sum(0).double()
    low, high, count = BINS["profile"]
    exact = torch.tensor(values, dtype=torch.float64)
    ordered = exact.sort().values
    place = 0.6 * (len(values) - 1)
    gap = float(ordered[min(int(place) + 1, len(values) - 1)] - ordered[max(int(place) - 1, 0)])
    assert abs(centre("profile", votes) - float(quantile(exact, 0.6))) <= gap + (high - low) / count


def test_quantiles_of_votes_by_hand() -> None:
    values, weights = words([3, 1, 2]).double(), torch.tensor([1.0, 1.0, 2.0]).double()
    assert [quantile_of(values, weights, q) for q in (0.1, 0.25, 0.5, 0.75, 0.76, 1.0)] == [1, 1, 2, 2, 3, 3]
    assert quantile_of(values, weights, 0.5, width=0.4) == pytest.approx(2.0)  # half of what lies at 2
    assert quantile_of(values, weights, 0.75, width=0.4) == pytest.approx(2.2)
    votes = vote("direction", 0.5).double() * 10
    middle = float(middles("direction")[vote("direction", 0.5).argmax()])
    found = threshold("direction", votes, 2.0)
    assert found == pytest.approx(middle + 0.1 / 32 - 2 * 0.15)  # nobody differs: the floor
