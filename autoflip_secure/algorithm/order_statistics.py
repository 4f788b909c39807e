"""Order statistics and distances of rows: medians, quantiles, cosines that the scores are made of.

One row may be any number of times as long as the others. So nothing here subtracts what a long row went into: distances
are differences before they are squares, in double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm import sorting_network
from autoflip_secure.interfaces.row_reader import TINY as TINY  # noqa: PLC0414 - everything above takes it from here

_FEW = 32  # rows up to which a sorting network is quicker
_MANY = 2**9  # columns from which on it is
_BLOCK = 2**16  # entries in double, that stay in the cache


def column_blocks(rows: Float[Tensor, "rows params"]) -> Iterator[slice]:
    """All columns of ``rows`` in blocks small enough to be taken in double beside a large model's own memory."""
    step = max(1, _BLOCK // max(len(rows), 1))
    for start in range(0, rows.shape[1], step):
        yield slice(start, start + step)


_NARROW = 2**12  # columns of a block


def norms(rows: Float[Tensor, "rows params"]) -> Float[Tensor, " rows"]:
    """Length of every row, in double: as ``vector_norm(rows, dim=1, dtype=torch.float64)``, in a third of the time."""
    squares = rows.new_zeros(len(rows), dtype=torch.float64)
    for own in _in_double(rows):
        squares += torch.linalg.vector_norm(own, dim=1).square_()
    return squares.sqrt_()


def _in_double(rows: Float[Tensor, "rows params"]) -> Iterator[Float[Tensor, "rows some"]]:
    """Blocks of columns, each in the memory of the one before."""
    n, width = rows.shape
    memory = rows.new_empty(n, min(_NARROW, width), dtype=torch.float64)
    for start in range(0, width, _NARROW):
        part = rows[:, start : start + _NARROW]
        yield memory[:, : part.shape[1]].copy_(part)


def squared_distances(rows: Float[Tensor, "rows params"]) -> Float[Tensor, "rows rows"]:
    """||x_k - x_l||² in double, each to its own last digits, however long other rows are.

    A Gram matrix takes fewer operations, and loses the distances between honest rows beside one long row, where they
    are small differences of its squares.

    >>> squared_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e12, 0.0]]))[0, :2]
    tensor([ 0., 25.], dtype=torch.float64)
    """
    n = len(rows)
    upper = rows.new_zeros(n * (n - 1) // 2, dtype=torch.float64)
    for block in column_blocks(rows):
        upper += torch.pdist(rows[:, block].double()).square()
    distances = upper.new_zeros(n, n)
    above = torch.triu_indices(n, n, 1, device=rows.device)
    distances[above[0], above[1]] = upper
    return distances + distances.T


def bounded_distances(rows: Float[Tensor, "rows params"]) -> Float[Tensor, "three rows rows"]:
    r"""||x_k - x_l||² from a Gram matrix in double, in half the time of :func:`squared_distances`, and between which
    numbers the true ones lie.

    .. math:: |\hat d_{kl} - d_{kl}| \le 4 \gamma (\|x_k\|^2 + \|x_l\|^2), \qquad
              \gamma = m \epsilon / (1 - m \epsilon), \quad m = b + \lceil P / b \rceil

    for sums of P products in blocks of b, in whatever order (Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1).

    Returns:
        The distances, the least and the largest that they can be; 0 on the diagonal.
    """
    n, width = rows.shape
    gram = rows.new_zeros(n, n, dtype=torch.float64)
    for own in _in_double(rows):
        gram.addmm_(own, own.T)
    squares = gram.diagonal()
    both = squares[:, None] + squares
    operations = min(_NARROW, width) + -(-width // _NARROW)
    gamma = operations * torch.finfo(torch.float64).eps
    found = (both - (gram + gram.T)).clamp_min_(0).fill_diagonal_(0)
    slack = both.mul_(4 * gamma / (1 - gamma)).fill_diagonal_(0)
    return torch.stack([found, (found - slack).clamp_min_(0), found + slack])


def ascending(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``x`` sorted along its first dimension, NaN last. On the CPU by numpy, whose sort is several times as fast, or
    few rows of many columns by a sorting network."""
    if x.device.type != "cpu":
        return x.sort(dim=0).values
    if x.dim() == 2 and 2 <= len(x) <= _FEW and x.shape[1] >= _MANY:
        found = sorting_network.ranks(x.detach().numpy(), 0, len(x))
        if not np.isnan(found[0]).any():
            return torch.from_numpy(found)
    return torch.from_numpy(np.sort(x.detach().numpy(), axis=0))


def ranked(rows: Float[Tensor, "rows params"], low: int, high: int) -> Float[Tensor, "ranks params"]:
    """``ascending(rows)[low:high]``, and no more work than that.

    In blocks of columns, so that many rows of a large model need little memory beside their own.
    """
    n, width = rows.shape
    if rows.device.type == "cpu" and 2 <= n <= _FEW and width >= _MANY:
        found = sorting_network.ranks(rows.detach().numpy(), low, high)
        if not np.isnan(found[0]).any():
            return torch.from_numpy(found)
    step = max(1, 2**20 // n)
    return torch.cat([ascending(rows[:, start : start + step])[low:high] for start in range(0, width, step)], dim=1)


def quantile(x: Float[Tensor, "*cells n"], q: float) -> Float[Tensor, "*cells"]:
    """Linearly interpolated quantile of the entries that are not NaN; NaN when there is none. Any length.

    >>> float(quantile(torch.tensor([0.0, 1.0, float("nan"), 3.0]), 0.5))
    1.0
    >>> quantile(torch.tensor([[0.0, 1.0, 2.0], [4.0, float("nan"), 8.0]]), 0.5)
    tensor([1., 6.])
    """
    if x.shape[-1] == 0:
        return x.new_full(x.shape[:-1], torch.nan)
    if x.device.type != "cpu":
        return _quantile_elsewhere(x, q)
    values = x.detach().numpy()  # by numpy: a population of clients is short, and torch takes five times as long
    ordered = np.sort(values, axis=-1).reshape(-1, x.shape[-1])  # NaN last
    known = np.count_nonzero(~np.isnan(ordered), axis=-1)
    position = q * (known - 1)
    low = position.astype(np.intp)
    rows, high = np.arange(len(ordered)), np.minimum(low + 1, known - 1)
    below, share = ordered[rows, low], (position - low).astype(values.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # between two infinities lies NaN, as torch has it
        found = below + (ordered[rows, high] - below) * share
    return torch.from_numpy(found.reshape(x.shape[:-1]))


def _quantile_elsewhere(x: Float[Tensor, "*cells n"], q: float) -> Float[Tensor, "*cells"]:
    """The same where numpy cannot be asked."""
    ordered = x.sort(dim=-1).values
    known = (~x.isnan()).sum(-1, keepdim=True)
    position = q * (known - 1).double()
    low = position.long().clamp_min(0)
    below, above = ordered.gather(-1, low), ordered.gather(-1, torch.minimum(low + 1, (known - 1).clamp_min(0)))
    found: Tensor = below + (above - below) * (position - low).to(x.dtype)
    return found.squeeze(-1)


def median_rows(rows: Float[Tensor, "rows params"]) -> Float[Tensor, " params"]:
    """Coordinate-wise median over rows; the mean of the middle two when their number is even."""
    middle = ranked(rows, (len(rows) - 1) // 2, len(rows) // 2 + 1)
    return (middle[0] + middle[-1]) / 2


def lower_median(rows: Float[Tensor, "rows some"]) -> Float[Tensor, " rows"]:
    """Median of each row, the lower one of two; of at least one column, without NaN. By numpy, as :func:`ascending`."""
    if rows.device.type != "cpu":
        found: Tensor = rows.median(dim=1).values
        return found
    middle = (rows.shape[1] - 1) // 2
    return torch.from_numpy(np.partition(rows.detach().numpy(), middle, axis=1)[:, middle])


def mad(x: Float[Tensor, "*cells n"], centre: Float[Tensor, "*cells"]) -> Float[Tensor, "*cells"]:
    """1.4826 · median |x - centre|: a standard deviation that outliers do not move (consistent for Gaussian data)."""
    return 1.4826 * quantile((x - centre[..., None]).abs(), 0.5)


def low_bound(x: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """med(x) - 3 max(1.4826 MAD(x), 0.05 med(x)): what lies below stands apart from the others."""
    centre = quantile(x, 0.5)
    return centre - 3 * torch.maximum(mad(x, centre), 0.05 * centre)


def shares(weights: Float[Tensor, "*cells n"]) -> Float[Tensor, "*cells n"]:
    """Weights scaled to sum 1; zeros where all of them are."""
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total, 0.0)


def each(function: Callable[[Tensor], Tensor], x: Float[Tensor, "*cells n"]) -> Float[Tensor, "*cells n"]:
    """``function`` of every cell's numbers, in memory of their own.

    For logarithms, exponentials and powers, whose last bits depend on where among others a number stands: whole vectors
    of eight or sixteen are computed by another formula than what is left over.
    """
    if x.dim() == 1:
        return function(x)
    return torch.stack([function(own.clone()) for own in x.flatten(0, -2)]).view(x.shape)


def clip_factors(sizes: Float[Tensor, "*rows"], bound: Tensor | float) -> Float[Tensor, "*rows"]:
    """What rows are scaled with so that their ``sizes`` do not exceed ``bound`` (one for all, or one per row)."""
    return (bound / sizes.clamp_min(TINY)).clamp(max=1)
