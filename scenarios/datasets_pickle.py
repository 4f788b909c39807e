"""Pickles that run no code: numbers, text, plain containers and byte arrays, nothing else.

CIFAR is distributed as Python pickles, and a pickle is a program: it may name any function and call it. The reader
below answers only the few names that an array of integers is made of, and even for these it puts its own small
stand-ins in numpy's place, so that no foreign state reaches numpy or any other library. Before it runs at all, the
program is read through once: a few wrong bytes can ask for gigabytes or for tuples so deep that the interpreter dies.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoflip_secure.advice import without_unsafe_advice
from autoflip_secure.errors import DataError
from autoflip_secure.first_bytes import LENGTH, instead
from autoflip_secure.regular import read_regular

_DTYPES = ("u1", "i4", "i8")
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_MAX_TUPLES = 1000  # an array needs four; hashing tuples nested a million deep overflows the C stack
_TEXT = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_GET, _PUT = {"GET", "BINGET", "LONG_BINGET"}, {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_SHARED = {
    *_TEXT, "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "GLOBAL", "STACK_GLOBAL", "REDUCE", "EMPTY_LIST", "LIST",
    "EMPTY_DICT", "DICT", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT",
}  # fmt: skip
"""Opcodes whose values may be used twice: no tuples or sets, whose hash takes 2^n steps where n of them hold the one
before twice."""
_REFUSED = {"DUP", "EMPTY_SET", "ADDITEMS", "FROZENSET"}
_COPIES = 4
"""How many bytes arrays may be made of, per byte of the file."""
_WAY_OUT = "replace the file, or remove its folder and fetch it again with `download: true`"


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle, its arrays as numpy arrays.

    Args:
        path: a pickle of protocol 0 to 5 written by Python 2 or 3.

    Raises:
        DataError: unreadable, truncated, holding anything but plain values and integer arrays, or not a dictionary.
    """
    try:
        raw = read_regular(path)
        if (sentence := instead(raw[:LENGTH], "a CIFAR batch", _WAY_OUT, "pickle", "text", "empty")) is not None:
            raise DataError(f"{path}: {sentence}")
        _check_demands(raw)
        content = _PlainUnpickler(raw).load()
        if isinstance(content, dict) and any(type(key) not in (str, bytes) for key in content):
            raise ValueError("a key that is not text")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); {_WAY_OUT}") from error
    except DataError:
        raise
    except _ForbiddenError as error:
        raise DataError(f"{path}: refused: the pickle asks for {error}, which data never needs; {_WAY_OUT}") from error
    except Exception as error:  # a damaged pickle is a damaged program: it can fail in any way
        raise DataError(
            f"{path}: found {len(raw)} bytes that are not a whole pickle "
            f"({type(error).__name__}: {without_unsafe_advice(f'{error!s:.200}')}); {_WAY_OUT}"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a dictionary; {_WAY_OUT}")
    return {str(key): value.array if isinstance(value, _Array) else value for key, value in content.items()}


def _check_demands(raw: bytes) -> None:
    """Refuses a pickle whose reader would need far more memory or stack than the file has bytes.

    The C reader allocates what a length says before it looks for the bytes, and a memo as long as its largest index.

    Raises:
        ValueError: an unknown or cut opcode, a length beyond the end, a frame that ends inside a value, a memo index
            beyond the size of the file, sets, tuples used twice, or too many tuples of anything but texts (which is how
            Python 3 writes bytes up to protocol 2).
    """
    stream, tuples, frame_end = io.BytesIO(raw), 0, 0
    memo: dict[int, bool] = {}  # whether what lies there may be used again
    last = ("", "", "")
    for code in iter(lambda: stream.read(1), b""):
        start = stream.tell() - 1
        opcode = _OPCODES.get(code.decode("latin1"))
        if opcode is None:
            raise ValueError(f"unknown opcode {code!r}")
        if opcode.name == "STOP":
            return
        argument: Any = None
        if opcode.name == "STRING":
            stream.readline()  # may hold any bytes, where the standard reader expects ASCII
        elif opcode.arg is not None:
            argument = opcode.arg.reader(stream)
        if start < frame_end < stream.tell():
            raise ValueError(f"the frame ends at byte {frame_end}, inside a value")
        if opcode.name == "FRAME":
            frame_end = stream.tell() + argument
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument >= len(raw):
            raise ValueError(f"memo index {argument}")
        if opcode.name in _REFUSED or (opcode.name in _GET and not memo.get(argument)):
            raise ValueError(f"{opcode.name} of what data needs once")
        if opcode.name in _PUT:
            memo[len(memo) if argument is None else argument] = last[2] in _SHARED
        elif opcode.name not in ("PROTO", "FRAME"):
            texts = last[1] in _TEXT and last[2] in _TEXT | _GET
            pair = opcode.name == "TUPLE2" or (opcode.name == "TUPLE" and last[0] == "MARK")
            tuples += opcode.name.startswith("TUPLE") and not (texts and pair)
            last = (last[1], last[2], "GET" if opcode.name in _GET else opcode.name)
        if tuples > _MAX_TUPLES:
            raise ValueError(f"more than {_MAX_TUPLES} tuples")
    raise ValueError("no end")


class _ForbiddenError(pickle.UnpicklingError):
    """The pickle names something outside the list."""


class _Array:
    """Stands in for ``numpy.ndarray``: takes the state that an array leaves in a pickle."""

    __slots__ = ("array", "spend")

    def __init__(self, spend: Callable[[int], None]) -> None:
        self.array: NDArray[Any] = np.zeros(0, dtype=np.uint8)
        self.spend = spend

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes | str]) -> None:
        _, shape, dtype, fortran, raw = state
        self.spend(len(raw))
        self.fill(raw.encode("latin1") if isinstance(raw, str) else raw, dtype, shape, "F" if fortran else "C")

    def fill(self, raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        if any(type(length) is not int or length < 0 for length in shape):
            raise ValueError("a shape that is not made of numbers")
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

    def __init__(self, raw: bytes) -> None:
        super().__init__(io.BytesIO(raw), encoding="latin1")
        self.left = _COPIES * len(raw)

    def spend(self, count: int) -> None:
        """One long text can be used many times, and each array would copy it."""
        self.left -= count
        if self.left < 0:
            raise ValueError(f"arrays of more than {_COPIES} times the bytes of the file")

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
        self.spend(len(text))
        return text.encode("latin1")

    def _reconstruct(self, *_: object) -> _Array:
        return _Array(self.spend)

    def _frombuffer(self, raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
        self.spend(len(raw))
        array = _Array(self.spend)
        array.fill(raw, dtype, shape, order)
        return array
