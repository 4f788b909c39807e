"""What readers read, by sums written out by hand: the same of open rows and of secret ones, bounded and counted."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Groups, OpenRows, Part, RowReader
from autoflip_secure.models.layout import Layout
from autoflip_secure.secure_rows.account import FEW, SPARSE, Account, allowance
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.own_parties import OwnRows
from autoflip_secure.secure_rows.secret_reader import EVEN, SecretReader
from autoflip_secure.secure_rows.sum_reader import SumReader

P, K, BOUND = 23, 5, 8.0


class Drawn:
    """Rows, groups and vectors of one seed; one coordinate in four is not live, and one group is empty."""

    def __init__(self, seed: int) -> None:
        source = torch.Generator().manual_seed(seed)
        self.live = torch.rand(P, generator=source) < 0.75
        self.live[:4] = True
        self.rows = torch.randn(K, P, generator=source) * self.live
        self.places = torch.randint(0, 4, (P,), generator=source) * 2 % 7  # 0, 2, 4, 6: an odd group is empty
        self.vector = torch.randn(P, generator=source)
        self.other = torch.randn(P, generator=source)
        self.shift = torch.rand(K, generator=source)
        self.groups = Groups(torch.where(self.live, self.places, -1), 7)
        self.part = Part(self.groups, slice(2, 5), self.live & (self.places >= 2) & (self.places < 5))
        self.draws = source

    def secret(self, **more: Any) -> SecretReader:
        points, ids = FixedPoint.for_squares(16 * BOUND, P), tuple(range(K))
        self.parties = OwnRows(points.encode(self.rows, ids), ids)
        return SecretReader(self.parties, points, self.live, self.draws, None, **more)

    def readers(self) -> list[RowReader]:
        return [OpenRows(self.rows), self.secret()]


def by_hand(drawn: Drawn, rows: list[list[float]]) -> dict[str, list[float]]:
    """Everything that a reader gives of the part and of all, entry by entry."""
    live, inside = drawn.live.tolist(), drawn.part.where
    assert isinstance(inside, Tensor)
    on = inside.tolist()
    v = drawn.vector.tolist()

    def over(take: list[bool], f: Any) -> float:
        return math.fsum(f(j) for j in range(P) if take[j])

    found: dict[str, list[float]] = {name: [] for name in ("products", "norms", "mean_squares", "cosines", "whole")}
    for row in rows:
        squares = over(on, lambda j, row=row: row[j] ** 2)
        product = over(on, lambda j, row=row: row[j] * v[j])
        size = over(on, lambda j: v[j] ** 2)
        found["products"].append(product)
        found["norms"].append(math.sqrt(squares))
        found["mean_squares"].append(squares / max(1, sum(on)))
        found["cosines"].append(product / max(math.sqrt(squares * size), 1e-12))
        found["whole"].append(math.sqrt(over(live, lambda j, row=row: row[j] ** 2)))
    return found


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=sized(8, 60), deadline=None)
def test_open_and_secret_rows_are_read_alike(seed: int, shifted: bool) -> None:
    drawn = Drawn(seed)
    rows = drawn.rows + (drawn.shift[:, None] * drawn.other * drawn.live if shifted else 0)
    expected = {name: torch.tensor(values) for name, values in by_hand(drawn, rows.tolist()).items()}
    weights = torch.rand(K, generator=drawn.draws)
    trust = weights / weights.sum()
    factors = torch.rand(K, generator=drawn.draws)
    total = sum(w * f * row for w, f, row in zip(trust, factors, drawn.rows, strict=True))
    for plain in drawn.readers():
        reader = plain.shifted(drawn.shift, drawn.other * drawn.live) if shifted else plain
        found = {
            "products": reader.products(drawn.vector[None], drawn.part)[:, 0], "norms": reader.norms(drawn.part),
            "mean_squares": reader.mean_squares(drawn.part), "cosines": reader.cosines(drawn.vector, drawn.part),
            "whole": reader.norms(),
        }  # fmt: skip
        assert len(reader) == K
        for name, values in found.items():
            torch.testing.assert_close(values.float(), expected[name], atol=2e-5, rtol=1e-4, msg=name)
        torch.testing.assert_close(reader.norms(drawn.groups.whole).float(), expected["whole"], atol=2e-5, rtol=1e-4)
        two = torch.stack([drawn.vector, drawn.other])
        torch.testing.assert_close(reader.products(two).float(), rows @ two.T, atol=1e-4, rtol=1e-4)
        squares = reader.squared_norms(drawn.groups)
        assert squares.shape == (K, 7)
        assert not squares[:, 1::2].any()
        torch.testing.assert_close(reader.weighted_sum(trust, factors), total, atol=1e-5, rtol=1e-4)


def test_a_number_that_is_known_is_not_revealed_again() -> None:
    """By the parties' own count: everything that follows from the same groups costs what the groups cost."""
    drawn = Drawn(3)
    reader = drawn.secret(ask=lambda vector: torch.full((K,), 2.0))
    reader.check(BOUND)
    for _ in range(2):
        reader.norms(drawn.part), reader.norms(drawn.groups.whole), reader.mean_squares(drawn.part)
        reader.cosines(drawn.vector, drawn.part), reader.products(drawn.vector[None], drawn.groups.whole)
    assert (drawn.parties.revealed.products, drawn.parties.revealed.norms) == (4 + 7, 7)
    assert reader.absolute_cosines(drawn.vector.abs()).tolist() == [1.0] * K  # no cosine is larger
    assert reader.account.revealed.products == drawn.parties.revealed.products + 1
    assert reader.account.revealed.norms == drawn.parties.revealed.norms
    reader.shifted(drawn.shift, drawn.vector).norms(drawn.groups.whole)  # products with it are known
    assert (drawn.parties.revealed.products, drawn.parties.revealed.norms) == (4 + 7, 7)


def test_more_numbers_than_are_allowed_are_refused_before_they_are_revealed() -> None:
    drawn = Drawn(4)
    reader = drawn.secret(account=Account(allowed=7))
    reader.check(BOUND)  # not among them
    reader.norms()
    for place in range(6):  # single entries are numbers like others
        entry = nn.functional.one_hot(torch.tensor(place), P).float()
        found = reader.products(entry[None])[:, 0].float()
        torch.testing.assert_close(found, drawn.rows[:, place], atol=1e-5, rtol=1e-4)
    before = drawn.parties.revealed
    with pytest.raises(InputError, match=r"asks for 8 numbers about each client in one round, .* at most 7"):
        reader.products(drawn.vector[None])
    with pytest.raises(InputError, match=r"asks for 15 numbers"):
        reader.squared_norms(drawn.groups)
    assert drawn.parties.revealed == before


def test_the_allowance_is_what_built_ins_need_and_far_from_a_row() -> None:
    layout = Layout.of(nn.Sequential(*(nn.Linear(30, 30) for _ in range(8))))
    live = layout.trained
    assert allowance(layout, live, outside=False) == 4 * 9
    assert allowance(Layout.of(nn.Linear(30, 30)), live[:930], outside=False) == FEW
    assert allowance(layout, live, outside=True) == 4 * 9 <= len(live) / SPARSE
    few = live & (torch.arange(len(live)) < 320)
    assert allowance(layout, few, outside=True) == 10
    assert allowance(layout, few & ~live, outside=True) == 0


def test_there_is_one_sum_a_round_of_shares_that_hide_somebody() -> None:
    drawn, even = Drawn(5), torch.full((K,), 1 / K)
    for wrong in (-even, 2 * even, even * torch.nan):
        with pytest.raises(InputError, match="negative, not finite, or of a sum beyond 1"):
            drawn.secret().weighted_sum(wrong)
    alone = torch.tensor([1.0, 0, 0, 0, 0])
    reader = drawn.secret()
    assert not reader.weighted_sum(alone).any(), "the sum of one row is that row"
    assert drawn.parties.revealed.sums == 0
    reader.weighted_sum(even)
    with pytest.raises(InputError, match="a second sum of one round"):
        reader.weighted_sum(even)
    assert drawn.parties.revealed.sums == 1


def test_code_from_outside_cannot_write_one_row_above_the_digits_of_another() -> None:
    drawn = Drawn(6)
    uneven = torch.tensor([1 - 2.0**-20, 2.0**-20, 0, 0, 0])
    assert drawn.secret().weighted_sum(uneven).any(), "scores of this package may be as uneven as they come out"
    assert not drawn.secret(outside=True).weighted_sum(uneven).any()
    fair = torch.tensor([0.5, 0.5 - 2 * EVEN, 2 * EVEN, 0, 0])
    torch.testing.assert_close(drawn.secret(outside=True).weighted_sum(fair), fair @ drawn.rows, atol=1e-5, rtol=1e-4)


def test_of_a_mean_nothing_is_learned_but_the_mean() -> None:
    drawn = Drawn(7)
    points, ids = FixedPoint.for_sums(256.0, 100), tuple(range(K))
    samples = torch.tensor([3.0, 1, 4, 1, 5])

    def reader() -> SumReader:
        return SumReader(OwnRows(points.encode(drawn.rows, ids), ids), points)

    torch.testing.assert_close(reader().mean(samples), (samples / 14) @ drawn.rows)
    asked: list[Any] = [
        lambda r: r.products(drawn.vector[None]), lambda r: r.norms(), lambda r: r.squared_norms(drawn.groups),
        lambda r: r.cosines(drawn.vector), lambda r: r.absolute_cosines(drawn.vector),
        lambda r: r.mean_squares(drawn.part),
        lambda r: r.shifted(drawn.shift, drawn.vector), lambda r: r.weighted_sum(samples / 14),
        lambda r: r.mean(samples / 14), lambda r: (r.mean(samples), r.mean(samples)),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(InputError, match="a linear aggregator asks for"):
            ask(reader())
