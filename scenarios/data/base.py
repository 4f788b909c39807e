"""What a data set is: arrays as they lie on disk -> a stratified subset -> normalised tensors.

.. math:: x = (\\text{raw} / \\text{scale} - \\text{mean}_c) / \\text{std}_c

Whole numbers that are not pixels stay whole numbers: they may be token ids.

A source only reads; choosing the subset, normalising and judging what was read is done here, alike for all of them.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from autoflip_secure.errors import AutoflipError, DataError
from autoflip_secure.interfaces import Plugin
from autoflip_secure.records.run import DataRecord, FeatureScale
from autoflip_secure.scenarios.data.subsets import TEST, TRAIN, stratified, subset_rows
from autoflip_secure.training.augmenting import PixelRange

__all__ = [
    "TEST", "TRAIN", "Arrays", "DataSource", "Dataset", "feature_scale", "read_afresh", "refuse_other_samples",
    "stratified", "subset_rows",
]  # fmt: skip

Samples = Annotated[int, Field(ge=1)] | None
_ROWS = 4096  # looked at at once


@dataclass(frozen=True, eq=False)
class Dataset:
    """Normalised samples, ready to learn from. It is cached and shared: never change its tensors in place."""

    name: str
    x_train: Num[Tensor, "n ..."]  # float32; int64 where the source holds whole numbers that are no pixels
    y_train: Int[Tensor, " n"]
    x_test: Num[Tensor, "m ..."]
    y_test: Int[Tensor, " m"]
    num_classes: int
    groups: Int[Tensor, " n"] | None  # natural owner of every training sample
    class_names: tuple[str, ...]
    pixels: PixelRange | None = None  # black and white of images whose raw range is known

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (channels, height, width) for images."""
        return tuple(self.x_train.shape[1:])

    def as_numbers(self) -> Dataset:
        """The same with inputs that are float32, for models that reckon with what whole numbers count."""
        return replace(self, x_train=self.x_train.float(), x_test=self.x_test.float())

    @cached_property
    def record(self) -> DataRecord:
        """What a run's record says of its data."""
        counts = torch.bincount(self.y_test, minlength=self.num_classes)
        return DataRecord(
            classes=self.num_classes,
            largest_class=float(counts.max()) / len(self.y_test),
            features=feature_scale(self.x_train) if self.x_train.is_floating_point() else None,
        )


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set as a source read it: channels first, not yet scaled, all samples."""

    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]
    groups: NDArray[np.int64] | None = None
    scale: float = 1.0
    mean: tuple[float, ...] = ()  # per channel, of raw / scale
    std: tuple[float, ...] = ()


class DataSource(Plugin, ABC):
    """Where training and test samples come from."""

    train_samples: Samples = Field(
        default=None, description="size of a stratified subset of the training set, the same for all seeds; null = all"
    )
    test_samples: Samples = Field(
        default=None, description="size of a stratified subset of the test set, the same for all seeds; null = all"
    )

    owners: Samples = Field(
        default=None,
        description="train on the samples of so many owners (writers, speakers, …), those with most; null = all",
    )

    def __hash__(self) -> int:
        """Of the written form: options may be mappings."""
        return hash(self.model_dump_json())

    @abstractmethod
    def read(self) -> Arrays:
        """All samples, as they lie on disk.

        Raises:
            DataError: a file is missing, unreadable, truncated or not what its name says.
        """

    def rehearse(self) -> None:
        """Try, before a sweep, that :meth:`load` gives the same in every process; only what runs users' code can fail.

        Raises:
            DataError: it does not, so that workers would train on different data.
        """
        if self.foreign:
            refuse_other_samples(self, f"data.kind = {_kind(self)!r}: read")

    def places(self) -> tuple[str, ...]:
        """Absolute paths that this configuration means now; with the configuration they are the key of the cache."""
        return ()

    def load(self) -> Dataset:
        """The data set: read once per process, then kept until a file among :meth:`places` changes.

        Raises:
            DataError: see :meth:`read`; or a subset is larger than the set or smaller than its number of classes.
        """
        return _load(self, self.places(), tuple(map(_stamp, self.places())))


@lru_cache(maxsize=4)
def _load(source: DataSource, places: tuple[str, ...], stamps: tuple[tuple[int, int] | None, ...]) -> Dataset:
    return read_afresh(source)


def read_afresh(source: DataSource) -> Dataset:
    """The data set as :meth:`DataSource.load` gives it, read whether or not it is kept already."""
    name = _kind(source)
    arrays = _foreign_arrays(source, name) if source.foreign else source.read()
    if source.owners is not None:
        arrays = _of_owners(name, arrays, source.owners)
    whole = all(map(_whole_numbers, (arrays, arrays), (arrays.x_train, arrays.x_test)))
    train = subset_rows(name, "train_samples", source.train_samples, arrays.y_train, TRAIN)
    test = subset_rows(name, "test_samples", source.test_samples, arrays.y_test, TEST)
    return Dataset(
        name=name,
        x_train=_int64(arrays.x_train[train]) if whole else _normalised(arrays, arrays.x_train[train]),
        y_train=_int64(arrays.y_train[train]),
        x_test=_int64(arrays.x_test[test]) if whole else _normalised(arrays, arrays.x_test[test]),
        y_test=_int64(arrays.y_test[test]),
        num_classes=len(arrays.class_names),
        groups=None if arrays.groups is None else _int64(arrays.groups[train]),
        class_names=arrays.class_names,
        pixels=_range(arrays),
    )


def _range(arrays: Arrays) -> PixelRange | None:
    """Raw numbers that are divided by a scale run from 0 to it."""
    if arrays.scale == 1.0 or arrays.x_train.ndim != 4:
        return None
    mean, std = arrays.mean or (0.0,), arrays.std or (1.0,)
    scaled = [tuple((level - m) / s for m, s in zip(mean, std, strict=True)) for level in (0.0, 1.0)]
    return PixelRange(scaled[0], scaled[1])


def _of_owners(name: str, arrays: Arrays, count: int) -> Arrays:
    """The training samples of the ``count`` owners with most of them (of equals the lower number); all test samples."""
    if arrays.groups is None:
        raise DataError(f"{name}: owners = {count}, and the data set names no owners; leave it out")
    owners, inverse, sizes = np.unique(arrays.groups, return_inverse=True, return_counts=True)
    if count > len(owners):
        raise DataError(f"{name}: owners = {count} is more than the {len(owners)} that are there; give at most that")
    kept = np.zeros(len(owners), dtype=bool)
    kept[np.argsort(-sizes, kind="stable")[:count]] = True
    rows = kept[inverse]
    return replace(arrays, x_train=arrays.x_train[rows], y_train=arrays.y_train[rows], groups=arrays.groups[rows])


def refuse_other_samples(source: DataSource, place: str) -> None:
    """Read it again, and compare.

    Raises:
        DataError: other samples, labels, owners or classes than before.
    """
    one, other = source.load(), read_afresh(source)
    names = ("x_train", "y_train", "x_test", "y_test", *(("groups",) if one.groups is not None else ()))
    same = one.class_names == other.class_names and (one.groups is None) == (other.groups is None)
    if not (same and all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)):
        raise DataError(
            f"{place} returns different samples when it is called again, and every worker calls it; seed its generator"
        )


def _kind(source: DataSource) -> str:
    return str(getattr(source, "kind", type(source).__name__))


def _foreign_arrays(source: DataSource, name: str) -> Arrays:
    """What code from outside read, which can fail in any way, and give anything."""
    try:
        arrays: object = source.read()
    except AutoflipError:
        raise
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"data.kind = {name!r}: read failed with {why}; mend it, or change its options") from error
    if not isinstance(arrays, Arrays):
        raise DataError(f"data.kind = {name!r}: read gave a {type(arrays).__name__}, expected Arrays; return those")
    fault = next((fault for part in ("train", "test") for fault in _faults(arrays, part)), None)
    if fault is not None:
        raise DataError(f"data.kind = {name!r}: read gave {fault}")
    return arrays


def _faults(arrays: Arrays, part: str) -> Iterator[str]:
    """What is wrong with one half of what was read, and what was expected; each takes that none came before it."""
    x, y, classes = getattr(arrays, f"x_{part}"), getattr(arrays, f"y_{part}"), len(arrays.class_names)
    if not (isinstance(x, np.ndarray) and x.dtype.kind in "fiub" and x.ndim >= 2 and x.size):
        yield f"an x_{part} that is no array of numbers of shape (samples, features, …)"
    if np.ma.is_masked(x):
        yield f"an x_{part} with masked values; fill or drop them"
    if x.shape[1:] != arrays.x_train.shape[1:]:
        yield f"samples of shape {x.shape[1:]} in x_{part} and {arrays.x_train.shape[1:]} in x_train; make them one"
    if x.dtype.kind == "f" and not np.isfinite(x.astype(np.float32)).all():
        yield f"an x_{part} with NaN or infinity; expected finite numbers"
    if not (isinstance(y, np.ndarray) and y.dtype.kind in "iu" and y.shape == (len(x),)):
        yield f"a y_{part} that does not have one whole number for each of the {len(x)} samples"
    if not 0 <= int(y.min()) <= int(y.max()) < classes:
        yield f"labels from {y.min()} to {y.max()} in y_{part} for {classes} class_names; expected 0 to {classes - 1}"
    groups = arrays.groups
    if groups is not None and not (groups.dtype.kind in "iu" and groups.shape == arrays.y_train.shape):
        yield "groups that are not one whole number for each training sample"


def feature_scale(x: Float[Tensor, "n ..."]) -> FeatureScale:
    """Root mean squares of the columns of ``x``, to four digits; a few thousand rows at a time."""
    rows = x.reshape(len(x), -1)
    squares = torch.zeros(rows.shape[1], dtype=torch.float64)
    for start in range(0, len(rows), _ROWS):
        squares += rows[start : start + _ROWS].double().square().sum(0)
    scales = (squares / len(rows)).sqrt()
    where = int(scales.argmax())
    typical, largest = (float(f"{float(scale):.4g}") for scale in (scales.median(), scales[where]))
    return FeatureScale(columns=len(scales), typical=typical, largest=largest, where=where)


def _stamp(place: str) -> tuple[int, int] | None:
    """Size and time of change of a file; None for anything else."""
    if not os.path.isfile(place):
        return None
    found = os.stat(place)
    return found.st_size, found.st_mtime_ns


def _whole_numbers(arrays: Arrays, raw: NDArray[Any]) -> bool:
    """Whether values may be names of things, such as tokens: whole numbers that are nobody's pixels."""
    return raw.dtype.kind in "iu" and raw.dtype != np.uint8 and arrays.scale == 1.0 and not arrays.mean


def _normalised(arrays: Arrays, raw: NDArray[Any]) -> Tensor:
    x = torch.from_numpy(np.array(raw, dtype=np.float32, order="C"))  # always a copy: the array may be read-only
    x /= arrays.scale
    if arrays.mean:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        x -= torch.tensor(arrays.mean).reshape(shape)
        x /= torch.tensor(arrays.std).reshape(shape)
    return x


def _int64(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.int64))
