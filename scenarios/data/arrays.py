"""Arrays from outside, whatever brought them: checked, images channels first, bytes divided by 255.

Every number that is not a byte is taken as it is. Whole numbers may be token ids: a model that takes them gets them as
int64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.base import Arrays, DataSource, stratified
from autoflip_secure.seeds import Purpose, numpy_generator

Order = Literal["auto", "nhwc", "nchw", "as_is"]
ORDER = "channel axis of images: auto (1, 3 or 4 long), nhwc, nchw, or as_is to leave it"
REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_CHANNELS = (1, 3, 4)  # what an image's channel axis may be long
_INT64 = np.iinfo(np.int64).max
_HELD_OUT = 3  # last word of the address of a held-out test set


def judged(
    place: object, members: Mapping[str, NDArray[Any]], order: Order = "auto", num_classes: int | None = None
) -> Arrays:
    """A user's data set, checked.

    Args:
        place: what the arrays come from, for messages.
        members: the arrays of :data:`REQUIRED`; ``groups`` and ``class_names`` when there are any.
        order: where the channel axis of images is; see :func:`channels_first`.
        num_classes: with it, classes need not have training samples; None: as many as there are labels, without gaps.

    Raises:
        DataError: names the array, what was found and what is expected.
    """
    x_train, x_test = (_features(place, name, members[name], order) for name in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:] or (x_train.dtype == np.uint8) != (x_test.dtype == np.uint8):
        raise DataError(
            f"{place}: x_train is {x_train.dtype} {x_train.shape[1:]} per sample, x_test is {x_test.dtype} "
            f"{x_test.shape[1:]}; both must have one shape, and both or none be uint8"
        )
    y_train = _labels(place, "y_train", members["y_train"], len(x_train))
    y_test = _labels(place, "y_test", members["y_test"], len(x_test))
    classes = _classes(place, y_train, y_test, num_classes)
    groups = members.get("groups")
    return Arrays(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        class_names=_names(place, members.get("class_names"), classes),
        groups=None if groups is None else read_owners(place, "groups", groups, len(x_train)),
        scale=255.0 if x_train.dtype == np.uint8 else 1.0,
    )


class HeldOutSource(DataSource):
    """A data set that may come without a test set, and then gives up a share of its samples for one."""

    test_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="stratified share of the samples that tests, where there is no test set"
    )
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="seed of that draw")

    def held_out(self, place: object, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which samples become the test set; see :func:`held_out`."""
        return held_out(place, labels, self.test_share, self.split_seed)


def held_out(place: object, labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Which samples become the test set: ``share`` of all, each class with its share and in both parts.

    Args:
        place: what the samples come from, for messages.
        labels: (n,) classes numbered from 0.
        share: of the samples, above 0 and below 1.
        seed: of the draw.

    Raises:
        DataError: a class has a single sample, or the share leaves a class out of one of the parts.
    """
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    if counts[present].min() < 2:
        rare = int(present[counts[present].argmin()])
        raise DataError(
            f"{place}: class {rare} (of {len(present)}) has a single sample, which cannot be in both training and "
            "test set; drop that class, or give a separate test set"
        )
    size = round(len(labels) * share)
    if not len(present) <= size <= len(labels) - len(present):
        raise DataError(
            f"{place}: test_share = {share:g} of {len(labels)} samples is {size}, and each of {len(present)} classes "
            f"needs a sample in both parts; give between {len(present) / len(labels):.3g} and "
            f"{1 - len(present) / len(labels):.3g}"
        )
    test = np.zeros(len(labels), dtype=bool)
    test[stratified(labels, size, numpy_generator(seed, Purpose.DATA_SUBSET, _HELD_OUT))] = True
    return test


def _classes(place: object, y_train: NDArray[np.int64], y_test: NDArray[np.int64], num_classes: int | None) -> int:
    """How many there are; the checked form of what was said, or what the labels show."""
    classes = int(max(y_train.max(), y_test.max())) + 1
    lowest = int(min(y_train.min(), y_test.min()))
    if num_classes is not None and classes > num_classes:
        raise DataError(
            f"{place}: labels run from {lowest} to {classes - 1}, and num_classes = {num_classes}; give at least "
            f"{classes}, or leave num_classes out"
        )
    absent = sorted(set(range(min(classes, len(y_train) + 1))) - set(y_train.tolist())) if num_classes is None else []
    single = len(np.unique(y_train)) < 2
    if absent or single:
        raise DataError(
            f"{place}: labels run from {lowest} to {classes - 1}, "
            + (f"but y_train has no sample of class {absent[0]}" if absent else "and y_train holds a single class")
            + "; number two or more classes 0, 1, 2, ... without gaps"
            + (" (subtract 1 from each)" if lowest == 1 and absent == [0] and classes > 2 else "")
        )
    return num_classes or classes


def channels_first(place: object, name: str, x: NDArray[Any], order: Order) -> NDArray[Any]:
    """Images as (n, channels, height, width).

    ``auto``: (n, height, width) gets one channel; of four axes the one that is 1, 3 or 4 long is the channel axis, the
    second or the last; it is an error when both or neither are. ``nhwc``, ``nchw``: as said. ``as_is``: left alone.
    Anything that has not three or four axes is left alone too.
    """
    if order == "as_is" or x.ndim not in (3, 4):
        return x
    if x.ndim == 3:
        return x[:, None]
    if order == "auto":
        first, last = x.shape[1] in _CHANNELS, x.shape[3] in _CHANNELS
        if first == last:
            raise DataError(
                f"{place}: {name} has shape {x.shape}, and its channel axis is {'ambiguous' if first else 'unclear'} "
                f"(1, 3 or 4 long, second or last); give `order: nchw`, `nhwc` or `as_is`"
            )
        order = "nchw" if first else "nhwc"
    return x if order == "nchw" else np.moveaxis(x, 3, 1)


def read_owners(place: object, name: str, owners: NDArray[Any], samples: int) -> NDArray[np.int64]:
    """(samples,) integer owner of every training sample, checked."""
    if owners.shape != (samples,) or owners.dtype.kind not in "iu":
        raise DataError(
            f"{place}: {name} is {owners.dtype} {owners.shape}, expected one whole number for each of the "
            f"{samples} training samples"
        )
    return owners.astype(np.int64)


def _features(place: object, name: str, x: NDArray[Any], order: Order) -> NDArray[Any]:
    if x.dtype.kind not in "fiub" or x.ndim < 2 or x.size == 0:
        raise DataError(f"{place}: {name} is {x.dtype} {x.shape}, expected numbers of shape (samples, features, ...)")
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(x.astype(np.float32))
        if bad.any():
            raise DataError(
                f"{place}: {name} holds NaN, infinity or more than float32 can in {bad.sum()} places; clean them"
            )
    if x.dtype.kind == "u" and int(x.max()) > _INT64:
        raise DataError(f"{place}: {name} holds {int(x.max())}, expected whole numbers of at most {_INT64} (int64)")
    return channels_first(place, name, x, order)


def _labels(place: object, name: str, y: NDArray[Any], samples: int) -> NDArray[np.int64]:
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "iu" or y.shape != (samples,):
        raise DataError(
            f"{place}: {name} is {y.dtype} {y.shape}, expected {samples} whole numbers, one for each sample"
        )
    labels = y.astype(np.int64)
    if labels.min() < 0:
        raise DataError(f"{place}: {name} holds {labels.min()}, expected classes numbered from 0")
    return labels


def _names(place: object, names: NDArray[Any] | None, classes: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(c) for c in range(classes))
    if names.shape != (classes,) or names.dtype.kind != "U":
        raise DataError(f"{place}: class_names is {names.dtype} {names.shape}, expected {classes} strings")
    return tuple(str(name) for name in names)
