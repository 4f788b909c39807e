"""Hugging Face data sets: a folder of ``save_to_disk``, a folder of Parquet or CSV files, or a repository of the hub.

No code of a data set is run: the library has known no loading scripts since version 4, and what is older is refused.
The hub is asked only where ``download: true`` stands. The library caches below a folder that is removed, except for
downloads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.arrays import ORDER, Order
from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.scenarios.data.columns import ColumnSource
from autoflip_secure.scenarios.data.files import absolute
from autoflip_secure.scenarios.data.table import read_table
from autoflip_secure.terminal.advice import without_unsafe_advice
from autoflip_secure.terminal.visible import short

if TYPE_CHECKING:
    import pandas as pd

_MOST_BYTES = 2**33  # as the library counts them


class HuggingFace(ColumnSource):
    """A Hugging Face data set: saved in a folder, as Parquet or CSV files, or from the hub (extra `datasets`)."""

    kind: Literal["huggingface"] = "huggingface"
    source: ClassVar[str] = "your own data, or the hub's: Lhoest et al. 2021"
    path: Path | None = Field(
        default=None, description="folder written by save_to_disk, or with Parquet or CSV files named by split"
    )
    name: str | None = Field(
        default=None, pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$", description="owner/name on the hub, instead of path"
    )
    subset: str | None = Field(default=None, description="configuration of a data set of the hub")
    revision: str | None = Field(default=None, description="commit, tag or branch on the hub; a commit never changes")
    download: bool = Field(default=False, description="fetch what the library's cache lacks from the hub")
    train_split: str = Field(default="train", description="split to train on")
    test_split: str | None = Field(default="test", description="split to test on; null = test_share of train_split")
    order: Order = Field(default="auto", description=ORDER)

    @model_validator(mode="after")
    def _one_place(self) -> HuggingFace:
        if (self.path is None) == (self.name is None):
            raise PydanticCustomError("one_place", "give either path (a folder) or name (owner/name on the hub)")
        if self.name is not None and not self.download:
            raise PydanticCustomError(
                "one_place",
                "the hub needs `download: true`; to stay offline, save the data set with save_to_disk and give path",
            )
        return self

    def places(self) -> tuple[str, ...]:
        """The folder as it is meant now."""
        return () if self.path is None else (str(absolute(self.path)),)

    def read(self) -> Arrays:
        """Both splits."""
        place = str(self.name) if self.path is None else str(absolute(self.path))
        with _quiet(place), TemporaryDirectory(prefix="autoflip-data-") as cache:
            splits = self._splits(cache)
            names = getattr(_chosen(place, splits, self.train_split).features.get(self.label), "names", None)
            train = _frame(_chosen(place, splits, self.train_split))
            test = None if self.test_split is None else _frame(_chosen(place, splits, self.test_split))
        return self.arrays(place, train, test, self.order, None if names is None else tuple(names))

    def _splits(self, cache: str) -> Mapping[str, Any]:
        """Name -> split; of files only those that are asked for."""
        import datasets
        import pandas as pd

        if self.path is None:
            hub: Mapping[str, Any] = datasets.load_dataset(str(self.name), self.subset, revision=self.revision)
            return hub
        folder = absolute(self.path)
        if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            saved = datasets.load_from_disk(str(folder), keep_in_memory=True)
            return saved if isinstance(saved, dict) else {"train": saved}
        found = {}
        for split in {self.train_split, self.test_split} - {None}:
            form, files = _files(folder, str(split))
            if form == "csv":  # as tables are read: the library calls more than empty fields missing
                rows = pd.concat([read_table(path) for path in files], ignore_index=True)
                found[str(split)] = datasets.Dataset.from_pandas(rows, preserve_index=False)
            elif files:
                names = {"x": list(map(str, files))}
                read = datasets.load_dataset("parquet", data_files=names, cache_dir=cache, keep_in_memory=True)
                found[str(split)] = read["x"]
        return found


def _chosen(place: str, splits: Mapping[str, Any], split: str) -> Any:
    if split not in splits:
        there = f"; it has {', '.join(splits)}" if splits else ""
        raise DataError(
            f"{place}: has no split {split!r}{there}; name another, or for the test set `test_split: null` to hold "
            "out test_share"
        )
    size = splits[split].data.nbytes
    if size > _MOST_BYTES:
        raise DataError(f"{place}: split {split!r} has {size:,} bytes, and at most {_MOST_BYTES:,} are held")
    return splits[split]


def _files(folder: Path, split: str) -> tuple[str, list[Path]]:
    """Format and files of a split: those whose name, or whose folder's, is the split or begins with it and - or _."""
    for form in ("parquet", "csv"):
        found = [
            path
            for path in sorted(folder.rglob(f"*.{form}"))
            if path.is_file()
            and any(
                part == split or part.startswith((f"{split}-", f"{split}_", f"{split}."))
                for part in path.relative_to(folder).parts
            )
        ]
        if found:
            return form, found
    return "", []


def _frame(split: Any) -> pd.DataFrame:
    """The rows; images as arrays of bytes."""
    import datasets
    import numpy as np
    import pandas as pd

    images = [name for name, feature in split.features.items() if isinstance(feature, datasets.Image)]
    frame: pd.DataFrame = split.remove_columns(images).to_pandas()
    for name in images:
        frame[name] = pd.Series([None if image is None else np.asarray(image) for image in split[name]], dtype=object)
    return frame


@contextmanager
def _quiet(place: str) -> Iterator[None]:
    """The library, when it is there and new enough; what fails in it becomes a sentence."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{place}: kind huggingface needs the library `datasets`; pip install 'autoflip-secure[datasets]'"
        ) from error
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise DataError(f"{place}: datasets {datasets.__version__} would run code of data sets; install datasets>=4")
    if os.path.isabs(place) and not os.path.isdir(place):
        raise DataError(f"{place}: no such folder; give one written by save_to_disk, or one with Parquet or CSV files")
    shown = datasets.utils.logging.is_progress_bar_enabled()
    try:
        datasets.disable_progress_bars() if os.path.isabs(place) else None
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # files, formats and the network fail in many ways
        raise DataError(
            f"{place}: cannot be read ({type(error).__name__}: "
            f"{short(without_unsafe_advice(f'{error!s:.300}'), 300)}); save it again with save_to_disk"
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()
