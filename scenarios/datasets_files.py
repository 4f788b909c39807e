"""Files of a data set: where they lie, and the idx format (a magic number, the sizes, then the bytes).

The idx header is ``0 0 type dims`` and one big-endian 32-bit size per dimension; a file holds exactly the product of
its sizes in bytes. Files are read where they lie, packed (``.gz``) or not, and nothing is ever written.
Source: Y. LeCun, C. Cortes, "The MNIST database of handwritten digits" (file format).
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Sequence
from io import BufferedReader
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoflip_secure.errors import DataError
from autoflip_secure.first_bytes import LENGTH, glance, instead, look
from autoflip_secure.near_names import near
from autoflip_secure.regular import open_regular

_UBYTE = 0x08


def locate(folders: Sequence[Path], names: Sequence[str], *, packed: bool = False) -> dict[str, Path] | None:
    """The files ``names``, all from one folder, the first of ``folders`` that has them all.

    Args:
        folders: where to look, in order.
        names: file names.
        packed: ``NAME.gz`` will do where ``NAME`` is not there.

    Returns:
        name -> path; None when no folder has them all.
    """
    for folder in folders:
        found = {name: path for name in names if (path := _present(folder, name, packed))}
        if len(found) == len(names):
            return found
    return None


def missing(folders: Sequence[Path], names: Sequence[str], *, packed: bool = False) -> str:
    """What :func:`locate` looked for and where, for a message; only what is really missing when a folder has a part."""
    suffix = "[.gz]" if packed else ""
    for folder in folders:
        absent = [name for name in names if not _present(folder, name, packed)]
        if len(absent) < len(names):
            named = ", ".join(name + suffix for name in absent)
            return f"{named} not in {folder} (the other files are){_like(folder, absent)}"
    likely = next((text for folder in folders if (text := _like(folder, names))), "")
    return f"{', '.join(name + suffix for name in names)} not in any of {', '.join(map(str, folders))}{likely}"


def _like(folder: Path, names: Sequence[str]) -> str:
    """Files that are there under another spelling, as in ``train-images.idx3-ubyte``."""
    try:
        there = os.listdir(folder)
    except OSError:
        return ""
    found = [(other[0], name) for name in names if (other := near(name, there))]
    return f"; is {found[0][0]} there what should be called {found[0][1]}?" if found else ""


def _present(folder: Path, name: str, packed: bool) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz") if packed else (folder / name,)
    return next((path for path in candidates if os.path.isfile(path)), None)


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An array of unsigned bytes from an idx file, packed when its name ends in ``.gz``.

    Args:
        path: the file.
        dimensions: 3 for images (n, height, width), 1 for labels (n,).

    Raises:
        DataError: unreadable, not such a file, or not as long as its header promises.
    """
    _check_packing(path)
    try:
        with open_regular(path) as file:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _idx(path, unpacked, dimensions)
            return _idx(path, file, dimensions)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); {_WAY_OUT}") from error


_WAY_OUT = "replace the file, or remove it and fetch it again with `download: true`"


def _check_packing(path: Path) -> None:
    """What a file is called and what its first bytes are agree; a file that cannot be read says so later."""
    head, packed = glance(path), path.suffix == ".gz"
    kind = look(head) if head else None
    if packed and head.startswith(b"\x00\x00" + bytes([_UBYTE])):
        raise DataError(f"{path}: is not packed, though it is called .gz; rename it to {path.stem}")
    if not packed and kind is not None and kind.name == "gzip":
        raise DataError(f"{path}: is packed with gzip; rename it to {path.name}.gz, or unpack it with gunzip")
    if head and (sentence := instead(head, "an idx file", _WAY_OUT, "gzip" if packed else "", "zeros")) is not None:
        raise DataError(f"{path}: {sentence}")


def _idx(path: Path, file: gzip.GzipFile | BufferedReader, dimensions: int) -> NDArray[np.uint8]:
    size = 4 + 4 * dimensions
    header, damage = _read(file, size)
    wanted = bytes((0, 0, _UBYTE, dimensions))
    if header[:4] != wanted[: len(header)]:
        kind = look(bytes(header + _read(file, LENGTH)[0]))
        if kind is not None and kind.name != "zeros":
            raise DataError(f"{path}: holds what is {kind.what}, not an idx file; {kind.way_out or _WAY_OUT}")
        raise DataError(
            f"{path}: starts with {header[:4].hex()}, expected {wanted.hex()} "
            f"(idx, unsigned bytes, dimensions: {dimensions}); {_WAY_OUT}"
        )
    if len(header) < size:
        raise DataError(f"{path}: found {len(header)} bytes{damage}, expected a header of {size}; {_WAY_OUT}")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    expected = prod(shape)
    body, damage = _read(file, expected + 1)  # one more: shows a file that is too long, and makes gzip check its sum
    if len(body) != expected or damage:
        found = f"found {size + len(body)}{' or more' if len(body) > expected else ''} bytes{damage}"
        raise DataError(
            f"{path}: {found}, expected {size + expected} (header {size} + {' x '.join(map(str, shape))}); {_WAY_OUT}"
        )
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _read(file: gzip.GzipFile | BufferedReader, size: int) -> tuple[bytearray, str]:
    """Up to ``size`` bytes, and what was wrong with the packing when it ended early (``read1`` loses nothing then)."""
    content = bytearray()
    try:
        while len(content) < size and (chunk := file.read1(min(1 << 20, size - len(content)))):
            content += chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return content, f" before the packed data broke off ({error})"
    return content, ""
