"""Shares sum to the row, and any of them but all are noise: by counting, on many rows that are far from noise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from party_crews import byte_counts
from scipy import stats
from torch import Tensor

from defenses import shares
from defenses.shares import split, square_pair, uniform

RING = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(RING, max_size=9), st.integers(2, 5))
def test_shares_sum_to_the_row(values: list[int], parties: int) -> None:
    row = torch.tensor(values, dtype=torch.int64)
    found = split(row, parties)
    assert len(found) == parties
    for j, value in enumerate(values):  # by hand, in whole numbers
        assert (sum(int(share[j]) for share in found) - value) % 2**64 == 0


def looks_uniform(data: bytes) -> bool:
    """Chi-square over byte values; a fair source fails once in a million times."""
    return bool(stats.chisquare(byte_counts(data)).pvalue > 1e-6)


def coalition_views(split_: Callable[[Tensor, int], list[Tensor]], parties: int) -> list[bytes]:
    """For every party that is left out: what all others hold of 200 equal rows, and their sum."""
    row = torch.arange(500) % 7
    rows = [split_(row, parties) for _ in range(200)]
    views = []
    for left_out in range(parties):
        others = [torch.stack([s[i] for s in rows]) for i in range(parties) if i != left_out]
        others += [torch.stack(others).sum(0)] if parties > 2 else []
        views.append(b"".join(share.numpy().tobytes() for share in others))
    return views


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_any_shares_but_all_are_uniform(parties: int) -> None:
    assert all(looks_uniform(view) for view in coalition_views(split, parties))


def small_noise(row: Tensor, parties: int) -> list[Tensor]:
    """Masks of 56 bits: the sum is right, the last share is not uniform."""
    masks = [uniform(len(row)) >> 8 for _ in range(parties - 1)]
    return [*masks, row - sum(masks)]


def seeded(row: Tensor, parties: int) -> list[Tensor]:
    """The same mask again and again."""
    masks = [torch.randint(-(2**62), 2**62, row.shape, generator=torch.Generator().manual_seed(0))] * (parties - 1)
    return [*masks, row - sum(masks)]


@pytest.mark.parametrize("wrong", [small_noise, seeded])
def test_the_check_finds_wrong_noise(wrong: Callable[[Tensor, int], list[Tensor]]) -> None:
    assert not all(looks_uniform(view) for view in coalition_views(wrong, 3))


def test_no_seed_decides_the_shares() -> None:
    row = torch.zeros(64, dtype=torch.int64)
    draws = []
    for _ in range(2):
        torch.manual_seed(7)
        np.random.seed(7)
        draws.append(split(row, 2)[0])
    assert not torch.equal(*draws)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.integers(13, 20))
def test_a_square_pair_is_one(starts: list[int], width: int) -> None:
    starts = [0, *sorted(starts)]
    mask, squares = square_pair(width, starts)
    values = mask.tolist()
    for group, (begin, end) in enumerate(zip(starts, [*starts[1:], width], strict=True)):
        assert (sum(v * v for v in values[begin:end]) - int(squares[group])) % 2**64 == 0


def test_randomness_is_the_operating_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(shares.os, "urandom", lambda n: asked.append(n) or bytes(n))
    first, last = split(torch.arange(5), 2)
    assert asked == [40]
    assert first.tolist() == [0] * 5
    assert last.tolist() == [0, 1, 2, 3, 4]
