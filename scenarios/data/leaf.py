"""LEAF's JSON (Caldas et al. 2018): files of users, each with inputs ``x`` and labels ``y``; users are the owners."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.files.regular_files import parse_json
from autoflip_secure.scenarios.data.arrays import ORDER, Order, judged
from autoflip_secure.scenarios.data.base import Arrays, DataSource
from autoflip_secure.scenarios.data.files import absolute, opened
from autoflip_secure.terminal.visible import short

_LAYOUT = "LEAF writes folders train and test with *.json files that hold users, user_data and num_samples"


class Leaf(DataSource):
    """LEAF's JSON: folders train and test of files with users, user_data and num_samples; users own samples."""

    kind: Literal["leaf"] = "leaf"
    source: ClassVar[str] = "Caldas et al. 2018 (LEAF)"
    path: Path = Field(description="folder that holds train and test, or the folder data above them")
    shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] | None = Field(
        default=None, description="of one sample, such as [28, 28], where x is written flat; null = as it is written"
    )
    order: Order = Field(default="auto", description=ORDER)
    num_classes: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        default=None, description="number of classes where some have no training samples; null = what the labels show"
    )

    def places(self) -> tuple[str, ...]:
        """The files as they are there now."""
        return (str(absolute(self.path)), *(str(file) for part in ("train", "test") for file in self._files(part)))

    def read(self) -> Arrays:
        """All users of all files, in the order of file names."""
        folder = absolute(self.path)
        for part in ("train", "test"):
            if not self._files(part):
                raise DataError(f"{folder}: has no *.json files in {part} (nor in data/{part}); {_LAYOUT}")
        owners: dict[str, int] = {}
        x_train, y_train, groups = self._part("train", owners)
        x_test, y_test, _ = self._part("test", {})
        members = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, "groups": groups}
        return judged(folder, members, self.order, self.num_classes)

    def _files(self, part: str) -> list[Path]:
        folders = (absolute(self.path) / part, absolute(self.path) / "data" / part)
        return next((found for folder in folders if (found := sorted(folder.glob("*.json")))), [])

    def _part(self, part: str, owners: dict[str, int]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        inputs: list[NDArray[Any]] = []
        labels: list[NDArray[np.int64]] = []
        groups: list[NDArray[np.int64]] = []
        for path in self._files(part):
            for user, x, y in read_users(path):
                if self.shape is not None and prod(x.shape[1:]) != prod(self.shape):
                    raise DataError(
                        f"{path}: a sample of user {short(repr(user))} is {x.shape[1:]}, and shape = "
                        f"{list(self.shape)} takes {prod(self.shape)} numbers; change shape, or leave it out"
                    )
                if inputs and inputs[0].shape[1:] != (self.shape or x.shape[1:]):
                    raise DataError(
                        f"{path}: samples of user {short(repr(user))} have shape {x.shape[1:]}, those before have "
                        f"{inputs[0].shape[1:]}; bring them to one"
                    )
                inputs.append(x if self.shape is None else x.reshape(len(x), *self.shape))
                labels.append(y)
                groups.append(np.full(len(y), owners.setdefault(user, len(owners)), dtype=np.int64))
        if not inputs:
            raise DataError(f"{absolute(self.path)}: no user has a sample in {part}")
        return np.concatenate(inputs), np.concatenate(labels), np.concatenate(groups)


def read_users(path: Path) -> list[tuple[str, NDArray[Any], NDArray[np.int64]]]:
    """Name, inputs (n, ...) and labels (n,) of every user with samples in a file, in the order of ``users``.

    Inputs are float32, or int64 where all are whole.

    Raises:
        DataError: the file cannot be read, is not LEAF's JSON, or its counts disagree.
    """
    with opened(path, "a LEAF JSON file", "write it again", "text") as file:
        content = parse_json(file.read())
    users = content.get("users") if isinstance(content, dict) else None
    data, counts = (content.get(key) for key in ("user_data", "num_samples")) if users is not None else (None, None)
    if not isinstance(users, list) or not isinstance(data, dict) or not isinstance(counts, list):
        raise DataError(f"{path}: is JSON, but not LEAF's; {_LAYOUT}")
    if len(counts) != len(users) or len(set(map(str, users))) != len(users):
        raise DataError(f"{path}: has {len(users)} users and {len(counts)} num_samples; expected one count a user")
    found = []
    for user, count in zip(map(str, users), counts, strict=True):
        name = f"{path}: user {short(repr(user))}"
        samples = data.get(user)
        x, y = (samples.get(key) for key in ("x", "y")) if isinstance(samples, dict) else (None, None)
        if not isinstance(x, list) or not isinstance(y, list) or not len(x) == len(y) == count:
            said = f"{len(x)} x and {len(y)} y" if isinstance(x, list) and isinstance(y, list) else "no lists x and y"
            raise DataError(f"{name} has {said}, and num_samples says {short(count)}; write the file again")
        if count == 0:
            continue
        found.append((user, _inputs(name, x), _labels(name, y)))
    return found


def _inputs(name: str, x: list[Any]) -> NDArray[Any]:
    try:
        rows = np.array(x)
    except ValueError:
        raise DataError(f"{name}: samples have different lengths; pad or cut them to one") from None
    if rows.dtype.kind not in "iuf":
        raise DataError(f"{name}: x holds {rows.dtype}, expected numbers; turn text or file names into numbers first")
    return rows.astype(np.float32 if rows.dtype.kind == "f" else np.int64)


def _labels(name: str, y: list[Any]) -> NDArray[np.int64]:
    labels = np.array(y)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{name}: y holds {labels.dtype} {labels.shape}, expected a whole number a sample")
    return labels.astype(np.int64)
