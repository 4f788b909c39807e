"""What a client proves: honest rows satisfy the equation, no lie does, and no entry of a proof can be changed."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hidden_statements import SENT, passing, residue, vector_of, words
from hypothesis import given
from scipy import stats
from torch import Tensor

from defenses import statements
from defenses.prime_field import P
from defenses.statements import LARGEST, PROJECTIONS, Ballot, Passes


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_honest_rows_and_zero_rows_prove_themselves(seed: int, heading: bool, affinity: bool) -> None:
    statement, row = passing(seed, heading, affinity)
    assert statement.holds(row)
    for own, counts in ((row, 1), (torch.zeros_like(row), 0), (torch.zeros_like(row), 1)):
        vector = vector_of(statement, own, counts)
        assert len(vector) == statement.length
        assert residue(statement, vector, seed) == 0


@given(st.integers(0, 20), st.data())
def test_no_entry_of_the_vector_can_be_changed(seed: int, data: st.DataObject) -> None:
    """Each one appears in an equation; entries that are not scored are free."""
    statement, row = passing(seed)
    vector = vector_of(statement, row, 1)
    place = data.draw(st.integers(0, len(vector) - 1))
    changed = vector.clone()
    changed[place] += data.draw(st.sampled_from([1, -1, 2**31, 2**60]))
    free = place < SENT and int(statement.groups[place]) < 0
    assert (residue(statement, changed) == 0) == free


def test_rows_that_do_not_pass_cannot_be_proved() -> None:
    """With the best witness there is: the right norms, and the lowest bits of every slack."""
    statement, row = passing(10)
    live = (statement.groups >= 0).long()
    noise = torch.randn(SENT, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * live
    lies = {
        "too long": (row * 1.2).long(),
        "another profile": (noise / noise.norm() * 0.9 * LARGEST).long(),
        "another direction": -row,
    }
    for name, lie in lies.items():
        assert not statement.holds(lie), name
        assert residue(statement, vector_of(statement, lie, 1)) != 0, name
    assert residue(statement, vector_of(statement, row, 0)) != 0  # a row that does not count must be zero
    assert residue(statement, vector_of(statement, row, 2)) != 0  # and b is a bit


def wrapping(statement: Passes) -> Tensor:
    """Two scored entries of any size whose squares sum to a small number modulo p."""
    row = torch.zeros(SENT, dtype=torch.int64)
    for a in range(2**60 - 1, 2**60 - 999, -1):
        rest = (10**6 - a * a) % P
        b = pow(rest, (P + 1) // 4, P)
        if b * b % P == rest:
            row[1], row[2] = a, b if b <= P // 2 else b - P
            return row
    raise AssertionError("half of all elements are squares")


def test_squares_that_wrap_around_show_in_the_projections(monkeypatch: pytest.MonkeyPatch) -> None:
    statement, _ = passing(3, heading=False, affinity=False)
    row = wrapping(statement)
    claims = [1000, 0, 2000, LARGEST - 1000]  # N, E - N^2, 2N - E + N^2, bound - N: as if the norm were 1000

    def witness(projections: list[int]) -> Tensor:
        return torch.cat([row, words([1, 1000]), statements.bits_of(claims + projections, statement.widths)])

    true = [x + statements.SPAN for x in statement.projections(row)]
    assert residue(statement, witness(true)) != 0
    blind = replace(statement)
    blind.__dict__["_words"] = torch.zeros(2, SENT, dtype=torch.int64)
    assert residue(blind, witness([statements.SPAN] * PROJECTIONS)) == 0, "without projections the lie would pass"


@given(st.lists(st.integers(2, 9), min_size=1, max_size=3), st.data())
def test_a_ballot_has_one_vote_a_row(rows: list[int], data: st.DataObject) -> None:
    ballot = Ballot(tuple(rows))
    places = [data.draw(st.integers(0, n - 1)) for n in rows]
    bits = torch.cat([torch.arange(n) == place for n, place in zip(rows, places, strict=True)]).long()
    assert residue(ballot, bits) == 0
    twice = bits.clone()
    twice[data.draw(st.integers(0, len(bits) - 1))] += data.draw(st.sampled_from([1, -1, 5]))
    assert residue(ballot, twice) != 0


def test_two_wrongs_of_one_ballot_do_not_make_a_right() -> None:
    """-1 and 2 sum to 1, but are no bits."""
    assert residue(Ballot((3,)), words([-1, 2, 0])) != 0


def test_projections_are_of_minus_one_zero_and_one_in_the_right_shares() -> None:
    statement, _ = passing(10)
    unit = torch.zeros(SENT, dtype=torch.int64)
    found = []
    for place in range(SENT):
        unit.zero_()[place] = 1
        signs = statement.projections(unit)
        assert len(signs) == PROJECTIONS
        if int(statement.groups[place]) < 0:
            assert set(signs) == {0}
        else:
            found += signs
    counts = np.bincount(np.array(found) + 1, minlength=3)
    assert stats.chisquare(counts, np.array([1, 2, 1]) / 4 * len(found)).pvalue > 1e-4
