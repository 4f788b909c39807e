"""Small data sets in the real layouts, written for tests, and the way to the real ones."""

import gzip
import hashlib
import pickle
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[3] / "shared" / "data"
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data not there: {path}")
    return path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_idx_folder(raw: Path, *, packed: bool = True, n: int = 40) -> dict[str, np.ndarray]:
    """A small data set in MNIST's layout."""
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "t10k"):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = np.arange(n, dtype=np.uint8) % 10
    for name, array in arrays.items():
        path = raw / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    return arrays


def write_cifar10(root: Path, *, protocol: int = 2, n: int = 20) -> dict[str, dict]:
    """A small data set in CIFAR-10's layout."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    batches: dict[str, dict] = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batches[name] = {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(n)]}
    batches["batches.meta"] = {"label_names": [f"class {i}" for i in range(10)], "num_vis": 3072}
    for name, content in batches.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return batches


def write_npz(path: Path, **changed: np.ndarray | None) -> Path:
    rng = np.random.default_rng(2)
    arrays = {
        "x_train": rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    } | changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def official(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Torchvision's checksums become those of the packed idx files and CIFAR batches below ``root``."""
    from torchvision import datasets

    def sums(names: Iterable[str], folder: Path) -> list[tuple[str, str]]:
        return [(name, hashlib.md5((folder / name).read_bytes()).hexdigest()) for name in names]

    for name in ("MNIST", "FashionMNIST"):
        found = sorted(path.name for path in (root / name / "raw").glob("*.gz"))
        monkeypatch.setattr(getattr(datasets, name), "resources", sums(found, root / name / "raw"))
    for name, folder, meta in (
        ("CIFAR10", "cifar-10-batches-py", "batches.meta"),
        ("CIFAR100", "cifar-100-python", "meta"),
    ):
        inside = root / folder
        if inside.is_dir():
            reader = getattr(datasets, name)
            for part in ("train_list", "test_list"):
                monkeypatch.setattr(reader, part, sums([one for one, _ in getattr(reader, part)], inside))
            monkeypatch.setitem(reader.meta, "md5", sums([meta], inside)[0][1])


class Evil:
    def __init__(self, command: tuple) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return self.command
