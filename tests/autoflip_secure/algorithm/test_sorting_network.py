"""Sorting networks: proven by all inputs of zeros and ones where that is feasible, and beside numpy's sort."""

import numpy as np
import pytest
import torch
from sizes import every, sized

from autoflip_secure.algorithm.order_statistics import ascending, median_rows, ranked
from autoflip_secure.algorithm.sorting_network import network, ranks


@pytest.mark.parametrize("lines", [1, 2, 3, 5, 8, *every(2, range(9, sized(12, 17)))])
def test_a_network_that_sorts_all_zeros_and_ones_sorts_everything(lines: int) -> None:
    """Knuth's zero-one principle; of every range of ranks too."""
    inputs = (np.arange(2**lines)[None, :] >> np.arange(lines)[:, None] & 1).astype(np.float32)
    expected = np.sort(inputs, axis=0)
    assert np.array_equal(ranks(inputs, 0, lines), expected)
    middle = (lines - 1) // 2, lines // 2 + 1
    for low, high in {middle, (0, 1), (lines - 1, lines), (lines // 4, lines - lines // 4)}:
        assert np.array_equal(ranks(inputs, low, high), expected[low:high])
        assert len(network(lines, low, high)) <= len(network(lines, 0, lines))


@pytest.mark.parametrize("rows", every(2, [2, 4, 7, 20, 31, 32, 33, 50]))
@pytest.mark.parametrize("width", [1, 511, 512, 10_000])
def test_ranks_are_those_of_a_sort_on_both_sides_of_where_networks_end(rows: int, width: int) -> None:
    draws = torch.Generator().manual_seed(rows)
    x = torch.randn(width, rows, generator=draws).T.round(decimals=1)  # strided, with ties and zeros of both signs
    before, expected = x.clone(), x.sort(dim=0).values
    assert torch.equal(ascending(x), expected)
    for low, high in ((0, rows), (rows // 3, rows - rows // 3), (rows - 1, rows)):
        assert torch.equal(ranked(x, low, high), expected[low:high])
    assert torch.equal(median_rows(x), (expected[(rows - 1) // 2] + expected[rows // 2]) / 2)
    assert torch.equal(x, before)


def test_nan_comes_last_and_infinities_before_it() -> None:
    x = torch.randn(5, 600, generator=torch.Generator().manual_seed(1))
    x[1, 7], x[2, 7], x[3, 7] = torch.nan, torch.inf, -torch.inf
    x[0, 8] = -torch.inf
    expected = x.sort(dim=0).values
    assert torch.equal(ascending(x).nan_to_num(7e30), expected.nan_to_num(7e30))
    assert torch.equal(ranked(x, 1, 5).nan_to_num(7e30), expected[1:].nan_to_num(7e30))
    assert float(ascending(x)[4, 7]) != float(ascending(x)[4, 7])
