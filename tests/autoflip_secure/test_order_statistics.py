"""Order statistics against torch's and numpy's own."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from autoflip_secure.robust import ascending, median_rows, quantile

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
