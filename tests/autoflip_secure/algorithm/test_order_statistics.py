"""Order statistics against torch's and numpy's own."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from autoflip_secure.algorithm.energy_profile import landscape_groups
from autoflip_secure.algorithm.order_statistics import ascending, median_rows, quantile

ROWS = arrays(np.float32, array_shapes(min_dims=1, max_dims=2, max_side=30), elements=st.floats(width=32))


@given(ROWS)
def test_ascending_is_torch_sort(rows: np.ndarray) -> None:
    x = torch.from_numpy(rows)
    before = x.clone()
    assert torch.equal(ascending(x).nan_to_num(7e30), x.sort(dim=0).values.nan_to_num(7e30))
    assert torch.equal(x.nan_to_num(7e30), before.nan_to_num(7e30)), "the argument stays as it is"


def test_blocks_of_columns_are_sorted_in_place_of_strided_views() -> None:
    x = torch.randn(101, 30_000, generator=torch.Generator().manual_seed(3)).T  # not contiguous
    assert torch.equal(median_rows(x), x.quantile(0.5, dim=0))


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6)), st.floats(0, 1))
def test_quantile_is_numpys(values: np.ndarray, q: float) -> None:
    found = float(quantile(torch.from_numpy(values), q))
    assert np.isclose(found, np.quantile(values, q), rtol=1e-9, atol=1e-9)


@given(
    arrays(np.float32, st.integers(0, 200), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 7.0])), st.integers(2, 17)
)
def test_groups_of_the_landscape_are_ranks_also_where_values_are_equal(values: np.ndarray, count: int) -> None:
    """And where none is: the quick way by edges and the slow way by ranks give the same groups."""
    for numbers in (values, values + np.arange(len(values), dtype=np.float32) * 1e-3):
        order = np.argsort(-numbers, kind="stable")
        expected = np.empty(len(numbers), dtype=np.int64)
        expected[order] = np.arange(len(numbers)) * count // max(1, len(numbers))
        found = landscape_groups(torch.from_numpy(numbers), torch.ones(len(numbers), dtype=torch.bool), count)
        assert found.tolist() == expected.tolist()
