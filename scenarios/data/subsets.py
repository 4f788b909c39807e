"""Subsets that keep the shares of classes, the same for every seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autoflip_secure.errors import DataError
from autoflip_secure.seeds import Purpose, numpy_generator

TRAIN, TEST = 0, 1  # last word of the address of a subset's draw


def stratified(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a subset that keeps the class shares: one sample of every class, the rest by largest remainder.

    Args:
        labels: (n,) class of every sample.
        size: samples to take, between the number of classes present and n.
        rng: draws which samples of a class are taken.

    Returns:
        (size,) ascending rows.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    spare = counts - 1
    exact = (size - len(classes)) * spare / max(1, int(spare.sum()))
    quota = np.floor(exact).astype(np.int64)
    missing = size - len(classes) - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:missing]] += 1
    rows = [rng.permutation(np.flatnonzero(inverse == c))[: 1 + quota[c]] for c in range(len(classes))]
    return np.sort(np.concatenate(rows))


def subset_rows(
    name: str, key: str, size: int | None, labels: NDArray[np.int64], part: int
) -> NDArray[np.int64] | slice[None, None, None]:
    """Rows of the subset of ``size`` samples that every seed has; all of them: as many as there are, or None.

    Raises:
        DataError: there are not so many, or fewer are asked for than there are classes.
    """
    if size is None:
        return slice(None)
    classes = len(np.unique(labels))
    if not classes <= size <= len(labels):
        raise DataError(
            f"{name}: {key} = {size} must lie between {classes} (one sample per class) and {len(labels)} (all that "
            f"are there); give such a number, or null for all"
        )
    return stratified(labels, size, numpy_generator(0, Purpose.DATA_SUBSET, part))
