"""LEAF's JSON (Caldas et al. 2018): files of users, each with inputs ``x`` and labels ``y``; users are the owners."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.files.regular_files import parse_json
from autoflip_secure.scenarios.data.arrays import ORDER, Order, judged
from autoflip_secure.scenarios.data.base import Arrays, DataSource
from autoflip_secure.scenarios.data.files import opened
from autoflip_secure.scenarios.data.folder import ROOT_VARIABLE, within_root
from autoflip_secure.scenarios.data.text import LEAF_ALPHABET, names_of, rows_of, token_ids
from autoflip_secure.terminal.visible import short

_LAYOUT = "LEAF writes folders train and test with *.json files that hold users, user_data and num_samples"
_Part = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], bool]
"""Inputs, labels, owners, and whether they were text."""


class Leaf(DataSource):
    """LEAF's JSON: folders train and test of files with users, user_data and num_samples; users own samples."""

    kind: Literal["leaf"] = "leaf"
    source: ClassVar[str] = "Caldas et al. 2018 (LEAF)"
    path: Path = Field(
        description="folder of train and test, or the one above their folder data; as given, else within AUTOFLIP_DATA"
    )
    shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] | None = Field(
        default=None, description="of one sample, such as [28, 28], where x is written flat; null = as it is written"
    )
    order: Order = Field(default="auto", description=ORDER)
    alphabet: str | None = Field(
        default=None,
        min_length=2,
        description="where x and y are text: all characters, in the order of their ids; null = LEAF's 80",
    )
    num_classes: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        default=None, description="number of classes where some have no training samples; null = what the labels show"
    )

    def places(self) -> tuple[str, ...]:
        """The files as they are there now."""
        return (str(within_root(self.path)), *(str(file) for part in ("train", "test") for file in self._files(part)))

    def read(self) -> Arrays:
        """All users of all files, in the order of file names."""
        folder = within_root(self.path)
        for part in ("train", "test"):
            if not self._files(part):
                raise DataError(
                    f"{folder}: has no *.json files in {part} (nor in data/{part}); {_LAYOUT}: make them with "
                    f"its preprocess.sh, and let data.path (now {self.path}; as given, else within "
                    f"{ROOT_VARIABLE}) name the folder"
                )
        owners: dict[str, int] = {}
        x_train, y_train, groups, text = self._part("train", owners)
        x_test, y_test, _, text_too = self._part("test", {})
        if text != text_too:
            raise DataError(f"{folder}: one of train and test holds text, the other numbers; bring them to one")
        members = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test, "groups": groups}
        if text:
            members["class_names"] = np.array(names_of(self.characters))
        return judged(folder, members, self.order, len(self.characters) if text else self.num_classes)

    @property
    def characters(self) -> str:
        """The alphabet, where samples are text."""
        return LEAF_ALPHABET if self.alphabet is None else self.alphabet

    def _files(self, part: str) -> list[Path]:
        folders = (within_root(self.path) / part, within_root(self.path) / "data" / part)
        return next((found for folder in folders if (found := sorted(folder.glob("*.json")))), [])

    def _part(self, part: str, owners: dict[str, int]) -> _Part:
        inputs: list[NDArray[Any]] = []
        labels: list[NDArray[np.int64]] = []
        groups: list[NDArray[np.int64]] = []
        kinds: set[bool] = set()
        for path in self._files(part):
            for user, x, y, is_text in read_users(path, self.characters):
                if kinds and is_text not in kinds:
                    raise DataError(
                        f"{path}: user {short(repr(user))} holds {'text' if is_text else 'numbers'}, others before it "
                        f"{'numbers' if is_text else 'text'}; bring them to one"
                    )
                kinds.add(is_text)
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
            raise DataError(f"{within_root(self.path)}: no user has a sample in {part}")
        return np.concatenate(inputs), np.concatenate(labels), np.concatenate(groups), True in kinds


class User(NamedTuple):
    """What a file holds of one user."""

    name: str
    x: NDArray[Any]  # (n, ...) float32, or int64 where all are whole, or characters
    y: NDArray[np.int64]  # (n,)
    text: bool  # inputs and labels were characters


def read_users(path: Path, alphabet: str = LEAF_ALPHABET) -> list[User]:
    """Every user with samples in a file, in the order of ``users``; of text, characters by their place in ``alphabet``.

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
        text = all(isinstance(one, str) for one in x)
        inputs = rows_of(name, x, alphabet) if text else _inputs(name, x)
        found.append(User(user, inputs, _characters(name, y, alphabet) if text else _labels(name, y), text))
    return found


def _inputs(name: str, x: list[Any]) -> NDArray[Any]:
    try:
        rows = np.array(x)
    except ValueError:
        raise DataError(f"{name}: samples have different lengths; pad or cut them to one") from None
    if rows.dtype.kind not in "iuf":
        raise DataError(
            f"{name}: x holds {rows.dtype}, expected numbers, or text throughout; turn file names into numbers first"
        )
    return rows.astype(np.float32 if rows.dtype.kind == "f" else np.int64)


def _characters(name: str, y: list[Any], alphabet: str) -> NDArray[np.int64]:
    if not all(isinstance(one, str) and len(one) == 1 for one in y):
        raise DataError(f"{name}: x holds text, and y does not hold a single character a sample, the one that follows")
    return token_ids(name, "".join(y), alphabet)


def _labels(name: str, y: list[Any]) -> NDArray[np.int64]:
    labels = np.array(y)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{name}: y holds {labels.dtype} {labels.shape}, expected a whole number a sample")
    return labels.astype(np.int64)
