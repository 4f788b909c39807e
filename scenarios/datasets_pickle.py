"""Pickles that run no code: numbers, text, plain containers and byte arrays, nothing else.

CIFAR is distributed as Python pickles, and a pickle is a program: it may name any function and call it. The reader
below answers only the few names that an array of integers is made of, and even for these it puts its own small
stand-ins in numpy's place, so that no foreign state reaches numpy or any other library.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoflip_secure.errors import DataError

_DTYPES = ("u1", "i4", "i8")
_WAY_OUT = "replace the file, or remove its folder and fetch it again with `download: true`"


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle, its arrays as numpy arrays.

    Args:
        path: a pickle of protocol 0 to 5 written by Python 2 or 3.

    Raises:
        DataError: unreadable, truncated, holding anything but plain values and integer arrays, or not a dictionary.
    """
    try:
        with open(path, "rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); {_WAY_OUT}") from error
    except _ForbiddenError as error:
        raise DataError(f"{path}: refused: the pickle asks for {error}, which data never needs; {_WAY_OUT}") from error
    except Exception as error:  # a damaged pickle is a damaged program: it can fail in any way
        raise DataError(
            f"{path}: found {path.stat().st_size} bytes that are not a whole pickle "
            f"({type(error).__name__}: {error!s:.200}); {_WAY_OUT}"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a dictionary; {_WAY_OUT}")
    return {str(key): value.array if isinstance(value, _Array) else value for key, value in content.items()}


class _ForbiddenError(pickle.UnpicklingError):
    """The pickle names something outside the list."""


class _Array:
    """Stands in for ``numpy.ndarray``: takes the state that an array leaves in a pickle."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: NDArray[Any] = np.zeros(0, dtype=np.uint8)

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes | str]) -> None:
        _, shape, dtype, fortran, raw = state
        self.fill(raw.encode("latin1") if isinstance(raw, str) else raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        kind = np.dtype(dtype.name)
        if len(raw) != prod(shape) * kind.itemsize:
            raise ValueError(f"array of shape {shape} needs {prod(shape) * kind.itemsize} bytes, {len(raw)} are there")
        self.array = np.frombuffer(bytes(raw), dtype=kind).reshape(shape, order="F" if order == "F" else "C")


class _Dtype:
    """Stands in for ``numpy.dtype``: a name from a short list, little-endian or single bytes."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if name not in _DTYPES:
            raise _ForbiddenError(f"an array of type {name!r} (allowed: {', '.join(_DTYPES)})")
        self.name = name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("|", "<"):
            raise ValueError(f"byte order {state[1]!r} is not supported")


class _PlainUnpickler(pickle.Unpickler):
    """Answers the names below, with stand-ins; every other name is refused before it is imported."""

    def find_class(self, module: str, name: str, /) -> Any:
        allowed: dict[tuple[str, str], str | Callable[..., Any]] = {
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): self._dtype,
            ("_codecs", "encode"): self._encode,
        }
        for core in ("numpy.core", "numpy._core"):
            allowed[core + ".multiarray", "_reconstruct"] = self._reconstruct
            allowed[core + ".numeric", "_frombuffer"] = self._frombuffer
        if (module, name) not in allowed:
            raise _ForbiddenError(f"{module}.{name}")
        return allowed[module, name]

    def _dtype(self, name: str, *_: object) -> _Dtype:
        return _Dtype(name)

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise _ForbiddenError(f"text encoded as {encoding!r}")
        return text.encode("latin1")

    def _reconstruct(self, *_: object) -> _Array:
        return _Array()

    def _frombuffer(self, raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.fill(raw, dtype, shape, order)
        return array
