"""What may be learned of secret rows, against whole numbers without a ring, and what the sketch promises."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from autoflip_secure.secure_rows.secret_rows import LocalRows, Sketch, group_sums, public_signs


def ring(value: int) -> int:
    """Modulo 2^64, signed."""
    return (value + 2**63) % 2**64 - 2**63


def integers(rows: int, columns: int, seed: int, size: int = 2**62) -> torch.Tensor:
    return torch.randint(-size, size, (rows, columns), generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 10**6))
def test_sums_products_and_norms_are_those_of_whole_numbers_modulo_the_ring(n: int, params: int, seed: int) -> None:
    x, weights, vectors = integers(n, params, seed), integers(1, n, seed + 1)[0], integers(2, params, seed + 2)
    rows = LocalRows(x, tuple(range(n)))
    table = x.tolist()
    assert rows.total().tolist() == [ring(sum(column)) for column in zip(*table, strict=True)]
    weighted = [[w * v for v in row] for w, row in zip(weights.tolist(), table, strict=True)]
    assert rows.total(weights).tolist() == [ring(sum(column)) for column in zip(*weighted, strict=True)]
    dots = [[ring(sum(a * b for a, b in zip(row, v, strict=True))) for v in vectors.tolist()] for row in table]
    assert rows.products(vectors).tolist() == dots
    cut = params // 2
    expected = [[ring(sum(a * a for a in part)) for part in (row[:cut], row[cut:])] for row in table]
    assert rows.squared_norms(starts=torch.tensor([0, cut])).tolist() == expected


def test_products_of_long_rows_are_those_of_all_their_blocks() -> None:
    x, vectors = integers(3, 40_000, 1), public_signs(40_000, torch.Generator().manual_seed(2))
    expected = torch.stack([(x * vector).sum(1) for vector in vectors], dim=1)
    assert torch.equal(LocalRows(x, (0, 1, 2)).products(vectors), expected)


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 8), st.integers(0, 10**6))
def test_sketches_are_linear_maps_of_the_ring(params: int, count: int, width: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    groups = torch.randint(-1, count, (params,), generator=draw)
    sketch, starts = Sketch.random(groups, count, width, draw)
    a, b = integers(2, params, seed), integers(2, params, seed + 1)
    assert torch.equal(sketch(a) + sketch(b), sketch(a + b))
    assert starts.tolist() == [g * width for g in range(count)]
    by_hand = [0] * sketch.width
    for j, value in enumerate(a[0].tolist()):
        if groups[j] >= 0:
            bucket = int(sketch.buckets[j])
            assert bucket // width == groups[j]
            by_hand[bucket] += int(sketch.signs[j]) * value
    assert sketch(a)[0].tolist() == [ring(v) for v in by_hand]


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10**6))
def test_exact_groups_have_their_norms_and_leave_out_what_is_in_none(params: int, count: int, seed: int) -> None:
    groups = torch.randint(-1, count, (params,), generator=torch.Generator().manual_seed(seed))
    x = integers(3, params, seed, 2**20)
    norms = LocalRows(x, (0, 1, 2)).squared_norms(*Sketch.exact(groups, count))
    for group in range(count):
        assert norms[:, group].tolist() == x[:, groups == group].square().sum(1).tolist()


def sketched_norms(x: torch.Tensor, width: int, seeds: range, positive: bool = False) -> torch.Tensor:
    """Sketched / true squared norm, per seed; ``positive``: a broken sketch without signs."""
    groups, ratios = torch.zeros(x.shape[1], dtype=torch.long), []
    for seed in seeds:
        sketch, starts = Sketch.random(groups, 1, width, torch.Generator().manual_seed(seed))
        if positive:
            sketch = Sketch(sketch.buckets, sketch.signs.abs(), width)
        norms = LocalRows(x, tuple(range(len(x)))).squared_norms(sketch, starts)
        ratios.append(norms[:, 0].double() / x.double().square().sum(1))
    return torch.stack(ratios)


def test_a_sketched_norm_is_unbiased_with_the_stated_spread_and_needs_its_signs() -> None:
    draw = torch.Generator().manual_seed(3)
    x = (torch.rand(1, 3000, generator=draw) * 2**20).long()  # all positive: signs matter
    ratios = sketched_norms(x, 256, range(100))
    assert float(ratios.mean()) == pytest.approx(1, abs=4 * (2 / 256 / 100) ** 0.5)
    assert float(ratios.std()) == pytest.approx((2 / 256) ** 0.5, rel=0.25)
    broken = sketched_norms(x, 256, range(20), positive=True)
    assert float(broken.mean()) > 2  # the doubt: without signs the check above fails


def test_group_sums_allow_empty_groups() -> None:
    rows = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert group_sums(rows, torch.tensor([0, 1, 1])).tolist() == [[1, 0, 5], [4, 0, 11]]


def test_a_row_that_wraps_around_has_no_norm_but_shows_in_products_with_signs() -> None:
    """Multiples of 2^32 have squares that are 0 in the ring: a norm alone would let them pass."""
    x = torch.zeros(1, 500, dtype=torch.long)
    x[0, :100] = 2**32 * torch.arange(1, 101)
    rows = LocalRows(x, (0,))
    assert rows.squared_norms().item() == 0
    seen = [
        int(rows.products(public_signs(500, torch.Generator().manual_seed(seed))).abs().max()) for seed in range(50)
    ]
    assert min(seen) >= 2**32


def test_signs_are_signs_and_no_vector_is_constant() -> None:
    signs = public_signs(1000, torch.Generator().manual_seed(0))
    assert signs.unique().tolist() == [-1, 1]
    assert float(signs.double().mean(1).abs().max()) < 0.15
