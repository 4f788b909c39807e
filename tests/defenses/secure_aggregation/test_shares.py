"""Shares sum to the row, and any of them but all are noise: by counting, on many rows that are far from noise."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from party_pools import byte_counts
from scipy import stats
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation import shares
from autoflip_secure.defenses.secure_aggregation.shares import (
    KEY_BYTES,
    Seed,
    Share,
    opened,
    split,
    square_pair,
    uniform,
)

RING = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(RING, max_size=9), st.integers(2, 5))
def test_shares_sum_to_the_row(values: list[int], parties: int) -> None:
    row = torch.tensor(values, dtype=torch.int64)
    found = [opened(share) for share in split(row, parties)]
    assert len(found) == parties
    for j, value in enumerate(values):  # by hand, in whole numbers
        assert (sum(int(share[j]) for share in found) - value) % 2**64 == 0


def looks_uniform(data: bytes) -> bool:
    """Chi-square over byte values; a fair source fails once in a million times."""
    return bool(stats.chisquare(byte_counts(data)).pvalue > 1e-6)


def coalition_views(split_: Callable[[Tensor, int], Sequence[Share]], parties: int) -> list[bytes]:
    """For every party that is left out: what all others hold of 200 equal rows, and their sum."""
    row = torch.arange(500) % 7
    rows = [[opened(share) for share in split_(row, parties)] for _ in range(200)]
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
        draws.append(opened(split(row, 2)[0]))
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
    assert asked == [KEY_BYTES]
    assert first == Seed(bytes(KEY_BYTES), 5)
    assert (opened(first) + opened(last)).tolist() == [0, 1, 2, 3, 4]
    asked.clear()
    split(torch.arange(5), 4)
    square_pair(5, [0])
    assert asked == [KEY_BYTES] * 4, "a key of its own for every share"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 131_071, 131_072, 131_073, 300_000])
def test_keys_expand_to_the_keystream_of_aes(count: int) -> None:
    """Against block encryption of a counter: the definition of counter mode (NIST SP 800-38A)."""
    key = bytes(range(32))
    found = Seed(key, count).words().numpy().astype("<i8").tobytes()
    assert len(found) == 8 * count
    blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    for number in {0, 1, count // 2, 65_535, 65_536, max(0, (8 * count - 1) // 16)}:
        expected = blocks.update(number.to_bytes(16, "big"))
        assert expected.startswith(found[16 * number : 16 * number + 16])


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a key of 31 bytes, not 32"):
        Seed(bytes(31), 4).words()
