"""CIFAR and MNIST files as torchvision reads them, from private copies that its checksums vouch for.

CIFAR comes as Python pickles, and a pickle is a program. Nothing is unpickled but bytes whose MD5 is the one that
torchvision publishes. MD5 will do for that: two files of one MD5 can be made by who makes both, but nobody knows how to
make a second file for a sum that stands already (2^123 steps), and these sums are of files from 2009. What is read is
the copy whose sum was taken, in a folder that only this user may write to, so nothing can change in between.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoflip_secure.errors import DataError
from autoflip_secure.files.first_bytes import LENGTH, glance, instead
from autoflip_secure.scenarios.data.files import opened

_INTEGERS, _COLUMNS = 0x0C02, 8  # of an idx file of int32 in two dimensions; of QMNIST's labels
_IDX = b"\x00\x00\x08"  # of unsigned bytes
_WAY_OUT = "replace the file, or remove it and fetch it again with `download: true`"


def read_cifar(
    name: str, folder: str, files: Mapping[str, Path]
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.int64]], tuple[NDArray[np.uint8], NDArray[np.int64]], tuple[str, ...]]:
    """Training and test pixels (n, 3, 32, 32) with their labels (n,), and the names of the classes.

    Args:
        name: of torchvision's class, CIFAR10 or CIFAR100.
        folder: what torchvision calls the folder of the files.
        files: file name -> where it lies.

    Raises:
        DataError: a file cannot be read, or is not the official one.
    """
    import torchvision

    reader: Any = getattr(torchvision.datasets, name)
    sums = {**dict(reader.train_list), **dict(reader.test_list), reader.meta["filename"]: reader.meta["md5"]}
    with _copies("a CIFAR batch", {name: (path, sums[name]) for name, path in files.items()}, folder) as copy:
        train, test = (reader(str(copy), train=part) for part in (True, False))
        found = [
            (np.ascontiguousarray(one.data.transpose(0, 3, 1, 2)), np.array(one.targets, dtype=np.int64))
            for one in (train, test)
        ]
    return found[0], found[1], tuple(str(label) for label in train.classes)


def read_idx(data_set: str, path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An array of bytes from an idx file; a packed one (``.gz``) has to be the official one.

    Args:
        data_set: torchvision's class, MNIST or FashionMNIST.
        path: the file.
        dimensions: 3 for images (n, height, width), 1 for labels (n,).

    Raises:
        DataError: the file cannot be read, is not the official packed one, or no idx file that is as long as it says.
    """
    import torchvision

    mnist: Any = torchvision.datasets.mnist
    head, packed = glance(path), path.suffix == ".gz"
    name = path.stem if packed else path.name
    if packed and head.startswith(_IDX):
        raise DataError(f"{path}: is not packed, though it is called .gz; rename it to {name}")
    if not packed and head.startswith(b"\x1f\x8b"):
        raise DataError(f"{path}: is packed with gzip; rename it to {name}.gz, or unpack it with gunzip")
    read = mnist.read_image_file if dimensions == 3 else mnist.read_label_file
    if packed:
        wanted = dict(getattr(torchvision.datasets, data_set).resources)[path.name]
        with _copies("an idx file", {name: (path, wanted)}, "raw") as copy:
            found = read(str(copy / "raw" / name))
    else:
        with opened(path, "an idx file", _WAY_OUT, "zeros", "empty"):
            try:
                found = read(str(path))
            except (AssertionError, RuntimeError, ValueError) as error:  # torchvision's, with few words
                raise ValueError(f"no unsigned bytes in {dimensions} dimensions; {error!s:.200}") from error
    array: NDArray[np.uint8] = found.numpy().astype(np.uint8)
    return array


def read_qmnist_labels(path: Path) -> NDArray[np.int64]:
    """QMNIST's extended labels, packed or not: (digits, 8), a row a digit (Yadav and Bottou 2019).

    Raises:
        DataError: the file cannot be read, or is something else.
    """
    with opened(path, "a file of QMNIST's labels", _WAY_OUT, "gzip", "zeros") as file:
        content = file.read()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        head = np.frombuffer(content[:12], dtype=">i4")
        if len(head) < 3 or head[0] != _INTEGERS or head[2] != _COLUMNS or len(content) != 12 + 4 * _COLUMNS * head[1]:
            raise ValueError(f"expected rows of {_COLUMNS} whole numbers")
        return np.frombuffer(content, dtype=">i4", offset=12).reshape(-1, _COLUMNS).astype(np.int64)


@contextmanager
def _copies(what: str, files: Mapping[str, tuple[Path, str]], folder: str) -> Iterator[Path]:
    """A private folder whose ``folder`` holds the files, unpacked, once their sums are found to be right."""
    with TemporaryDirectory(prefix="autoflip-data-") as made:
        inside = Path(made) / folder
        inside.mkdir()
        for name, (path, wanted) in files.items():
            packed = path.suffix == ".gz"
            kinds = ("gzip",) if packed else ("pickle", "zeros", "empty")
            with opened(path, what, _WAY_OUT, *kinds) as file:
                content = file.read()
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found != wanted:
                head = _unpacked(content) if packed else b""
                if head and (sentence := instead(head, what, _WAY_OUT)) is not None:
                    raise DataError(f"{path}: holds what {sentence}")
                raise DataError(
                    f"{path}: is not the official file: {len(content)} bytes with MD5 {found}, expected {wanted}; "
                    f"{_WAY_OUT}; data of your own go into {{kind: npz}}"
                )
            try:
                (inside / name).write_bytes(gzip.decompress(content) if packed else content)
            except OSError as error:
                raise DataError(
                    f"{path}: cannot be copied to {inside} ({error.strerror or error}); free some room there, or let "
                    "TMPDIR name another folder"
                ) from error
        yield Path(made)


def _unpacked(content: bytes) -> bytes:
    """The first bytes of what is packed; none where it is damaged."""
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(content)).read(LENGTH)
    except (OSError, EOFError, zlib.error):
        return b""
