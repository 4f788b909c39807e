"""A user's own arrays: one ``.npz`` with ``x_train, y_train, x_test, y_test`` and, when there, ``groups, class_names``.

Pickled members are refused (``allow_pickle=False``). Images are brought to channels first; bytes are divided by 255,
every other number is taken as it is. Whole numbers may be token ids: a model that takes them gets them as int64.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from autoflip_secure.advice import without_unsafe_advice
from autoflip_secure.errors import DataError
from autoflip_secure.first_bytes import LENGTH, glance, instead
from autoflip_secure.near_names import nearby
from autoflip_secure.regular import open_regular
from scenarios.datasets_base import Arrays

Order = Literal["auto", "nhwc", "nchw", "as_is"]
_CHANNELS = (1, 3, 4)  # what an image's channel axis may be long
_INT64 = np.iinfo(np.int64).max
_REQUIRED = ("x_train", "y_train", "x_test", "y_test")
_SAVE = "save all arrays with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
_NOTHING = b"PK\x03\x04"  # of a file that cannot be read: opening it says why


def read_members(path: Path, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """Named arrays of an ``.npz``; the optional ones only when they are there.

    Raises:
        DataError: the file is absent, damaged, something else, holds pickled objects, or lacks a required array.
    """
    if (sentence := instead(glance(path) or _NOTHING, "an .npz", _SAVE, "zip", "empty")) is not None:
        raise DataError(f"{path}: {sentence}")
    try:
        with open_regular(path) as file:
            archive = np.load(file, allow_pickle=False)
            absent = [name for name in required if name not in archive]
            if absent:
                if any(name.endswith("data.pkl") for name in archive.files):
                    raise DataError(f"{path}: was written by torch.save, not by numpy; {_SAVE}")
                raise DataError(
                    f"{path}: has no {' and no '.join(absent)}; it holds {', '.join(archive.files) or 'nothing'}; "
                    f"add what is missing with numpy.savez"
                )
            return {name: _member(path, archive, name) for name in (*required, *optional) if name in archive}
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file{nearby(path)}; give the path of an .npz file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); give the path of an .npz file") from error
    except Exception as error:  # zip, compression and array headers each fail in their own ways
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        why = without_unsafe_advice(f"{error!s:.200}")
        raise DataError(
            f"{path}: found {size} bytes that are not a whole .npz of plain arrays "
            f"({type(error).__name__}: {why}); save it again with numpy.savez, without object arrays"
        ) from error


def _member(path: Path, archive: NpzFile, name: str) -> NDArray[Any]:
    """One array; of Python objects there is none, whatever a library says about loading them."""
    stored = archive.zip
    assert stored is not None, "it is open"
    with stored.open(f"{name}.npy" if f"{name}.npy" in stored.namelist() else name) as file:
        head = file.read(LENGTH)
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        raise DataError(f"{path}: {name} is no numpy array; {_SAVE}")
    described = re.search(rb"\{'descr': ([^\n]*)", head)
    if described is not None and b"'|O" in described[1]:
        raise DataError(
            f"{path}: {name} is an array of Python objects, which only pickles can hold, and those are not read; save "
            "it as numbers (class_names: as text), of one length in every row"
        )
    array: NDArray[Any] = archive[name]
    return array


def read_npz(path: Path, order: Order) -> Arrays:
    """The user's data set, checked.

    Args:
        path: the ``.npz``.
        order: where the channel axis of images is; see :func:`channels_first`.

    Raises:
        DataError: names the array, what was found and what is expected.
    """
    members = read_members(path, _REQUIRED, ("groups", "class_names"))
    x_train, x_test = (_features(path, name, members[name], order) for name in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:] or (x_train.dtype == np.uint8) != (x_test.dtype == np.uint8):
        raise DataError(
            f"{path}: x_train is {x_train.dtype} {x_train.shape[1:]} per sample, x_test is {x_test.dtype} "
            f"{x_test.shape[1:]}; both must have one shape, and both or none be uint8"
        )
    y_train = _labels(path, "y_train", members["y_train"], len(x_train))
    y_test = _labels(path, "y_test", members["y_test"], len(x_test))
    classes = int(max(y_train.max(), y_test.max())) + 1
    lowest = int(min(y_train.min(), y_test.min()))
    absent = sorted(set(range(min(classes, len(y_train) + 1))) - set(y_train.tolist()))
    if absent or classes < 2:
        raise DataError(
            f"{path}: labels run from {lowest} to {classes - 1}, "
            + (f"but y_train has no sample of class {absent[0]}" if absent else "which is a single class")
            + "; number two or more classes 0, 1, 2, ... without gaps"
            + (" (subtract 1 from each)" if lowest == 1 and absent == [0] and classes > 2 else "")
        )
    groups = members.get("groups")
    return Arrays(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        class_names=_names(path, members.get("class_names"), classes),
        groups=None if groups is None else read_owners(path, "groups", groups, len(x_train)),
        scale=255.0 if x_train.dtype == np.uint8 else 1.0,
    )


def channels_first(path: Path, name: str, x: NDArray[Any], order: Order) -> NDArray[Any]:
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
                f"{path}: {name} has shape {x.shape}, and its channel axis is {'ambiguous' if first else 'unclear'} "
                f"(1, 3 or 4 long, second or last); give `order: nchw`, `nhwc` or `as_is`"
            )
        order = "nchw" if first else "nhwc"
    return x if order == "nchw" else np.moveaxis(x, 3, 1)


def read_owners(path: Path, name: str, owners: NDArray[Any], samples: int) -> NDArray[np.int64]:
    """(samples,) integer owner of every training sample, checked."""
    if owners.shape != (samples,) or owners.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {name} is {owners.dtype} {owners.shape}, expected one whole number for each of the "
            f"{samples} training samples"
        )
    return owners.astype(np.int64)


def _features(path: Path, name: str, x: NDArray[Any], order: Order) -> NDArray[Any]:
    if x.dtype.kind not in "fiub" or x.ndim < 2 or x.size == 0:
        raise DataError(f"{path}: {name} is {x.dtype} {x.shape}, expected numbers of shape (samples, features, ...)")
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(x.astype(np.float32))
        if bad.any():
            raise DataError(
                f"{path}: {name} holds NaN, infinity or more than float32 can in {bad.sum()} places; clean them"
            )
    if x.dtype.kind == "u" and int(x.max()) > _INT64:
        raise DataError(f"{path}: {name} holds {int(x.max())}, expected whole numbers of at most {_INT64} (int64)")
    return channels_first(path, name, x, order)


def _labels(path: Path, name: str, y: NDArray[Any], samples: int) -> NDArray[np.int64]:
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "iu" or y.shape != (samples,):
        raise DataError(f"{path}: {name} is {y.dtype} {y.shape}, expected {samples} whole numbers, one for each sample")
    labels = y.astype(np.int64)
    if labels.min() < 0:
        raise DataError(f"{path}: {name} holds {labels.min()}, expected classes numbered from 0")
    return labels


def _names(path: Path, names: NDArray[Any] | None, classes: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(c) for c in range(classes))
    if names.shape != (classes,) or names.dtype.kind != "U":
        raise DataError(f"{path}: class_names is {names.dtype} {names.shape}, expected {classes} strings")
    return tuple(str(name) for name in names)
