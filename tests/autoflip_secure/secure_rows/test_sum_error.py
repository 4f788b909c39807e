"""How exact a revealed sum is: measured against whole fractions by hand, blind to nothing that is wrong."""

from fractions import Fraction

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import LocalRows
from autoflip_secure.secure_rows.sum_error import WatchedRows

IDS = (3, 4, 5)


def watched(rows: torch.Tensor, points: FixedPoint, wrong: torch.Tensor | int = 0) -> WatchedRows:
    return WatchedRows(LocalRows(points.encode(rows, IDS) + wrong, IDS), points)


@given(st.integers(0, 10**6), st.integers(20, 40))
def test_the_error_is_what_fractions_say(seed: int, bits: int) -> None:
    rows = torch.rand(3, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5
    weights, points = torch.tensor([1, 5, 2]), FixedPoint(bits, 1.0)
    found = watched(rows, points)
    revealed = found.total(weights)
    exact = [
        sum((w * Fraction(x) for w, x in zip([1, 5, 2], column, strict=True)), Fraction()) for column in rows.T.tolist()
    ]
    apart = max(abs(Fraction(s, 2**bits) - e) for s, e in zip(revealed.tolist(), exact, strict=True))
    assert found.error(list(rows)) == pytest.approx(float(apart / max(map(abs, exact))), rel=1e-2)


def test_the_worst_sum_counts_and_none_is_none() -> None:
    rows, points = torch.tensor([[1.0, 0.5], [0.25, 0.5], [1.0, 1.0]]), FixedPoint(30, 1.0)
    fine = watched(rows, points)
    assert fine.error(list(rows)) is None
    fine.total()
    assert fine.error(list(rows)) == 0.0
    off = watched(rows, points, torch.tensor([[2**20, 0], [0, 0], [0, 0]]))
    off.total(torch.tensor([0, 1, 1]))  # without the row that is wrong
    assert off.error(list(rows)) == 0.0
    off.total()
    assert off.error(list(rows)) == pytest.approx(2**-10 / 2.25)


def test_only_live_coordinates_are_compared_and_rows_of_nothing_have_no_error() -> None:
    rows, points = torch.tensor([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0]]), FixedPoint(30, 16.0)
    live = torch.tensor([True, False])
    sent = WatchedRows(LocalRows(points.encode(rows[:, live], IDS), IDS), points)
    assert sent.total().tolist() == [6 * 2**30]
    assert sent.error(list(rows), live) == 0.0
    nothing = watched(torch.zeros(3, 4), points)
    nothing.total()
    assert nothing.error(list(torch.zeros(3, 4))) == 0.0


def test_truncation_to_16_bits_is_seen() -> None:
    """What CrypTen's own encoder would do to energies: the doubt that the number is not simply always small."""
    rows = torch.rand(3, 5000, generator=torch.Generator().manual_seed(1), dtype=torch.float64).square()
    rows /= rows.sum(1, keepdim=True)
    good, coarse = watched(rows, FixedPoint.for_sums(1.0, 3)), watched(rows, FixedPoint(16, 1.0))
    good.total(), coarse.total()
    error, worse = good.error(list(rows)), coarse.error(list(rows))
    assert error is not None
    assert worse is not None
    assert error < 1e-11
    assert worse > 1e-3


def test_everything_else_passes_through() -> None:
    rows, points = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.5, 0.25]]), FixedPoint(4, 16.0)
    found, bare = watched(rows, points), LocalRows(points.encode(rows, IDS), IDS)
    vectors = torch.tensor([[1, -1]])
    assert torch.equal(found.products(vectors), bare.products(vectors))
    assert torch.equal(found.squared_norms(), bare.squared_norms())
    assert (found.clients, found.params) == (IDS, 2)
