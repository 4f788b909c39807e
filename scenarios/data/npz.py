"""Arrays in one ``.npz``: ``x_train, y_train, x_test, y_test`` and, when there, ``groups, class_names``.

Pickled members are refused (``allow_pickle=False``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from autoflip_secure.errors import DataError
from autoflip_secure.files.first_bytes import LENGTH
from autoflip_secure.scenarios.data.arrays import REQUIRED
from autoflip_secure.scenarios.data.files import opened

_SAVE = "save all arrays with numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
_AGAIN = f"{_SAVE}, without object arrays"


def read_members(path: Path, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """Named arrays of an ``.npz``; the optional ones only when they are there.

    Raises:
        DataError: the file is absent, damaged, something else, holds pickled objects, or lacks a required array.
    """
    with opened(path, "an .npz", _AGAIN, "zip", "empty") as file:
        archive = np.load(file, allow_pickle=False)
        absent = [name for name in required if name not in archive]
        if absent and any(name.endswith("data.pkl") for name in archive.files):
            raise DataError(f"{path}: was written by torch.save, not by numpy; {_SAVE}")
        if absent:
            raise DataError(
                f"{path}: has no {' and no '.join(absent)}; it holds {', '.join(archive.files) or 'nothing'}; "
                f"add what is missing with numpy.savez"
            )
        return {name: _member(path, archive, name) for name in (*required, *optional) if name in archive}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a data set, the optional ones when they are there; not yet judged."""
    return read_members(path, REQUIRED, ("groups", "class_names"))


def _member(path: Path, archive: NpzFile, name: str) -> NDArray[Any]:
    """One array; of Python objects there is none, whatever a library says about loading them."""
    stored = archive.zip
    assert stored is not None, "it is open"
    with stored.open(f"{name}.npy" if f"{name}.npy" in stored.namelist() else name) as file:
        head = file.read(LENGTH)
    if not head.startswith(np.lib.format.MAGIC_PREFIX):
        raise DataError(f"{path}: {name} is not a numpy array; {_SAVE}")
    described = re.search(rb"\{'descr': ([^\n]*)", head)
    if described is not None and b"'|O" in described[1]:
        raise DataError(
            f"{path}: {name} is an array of Python objects, which only pickles can hold, and those are not read; save "
            "it as numbers (class_names: as text), of one length in every row"
        )
    array: NDArray[Any] = archive[name]
    return array
