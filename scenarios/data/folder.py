"""Data sets that lie in a folder, in torchvision's layout. It may be read-only: only a download writes to it."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.base import DataSource
from autoflip_secure.scenarios.data.files import absolute, locate, missing

ROOT_VARIABLE = "AUTOFLIP_DATA"


def data_root(root: Path | None = None) -> Path:
    """``root``, else the environment's folder, else ``./data``, absolute."""
    return absolute(root or Path(os.environ.get(ROOT_VARIABLE) or "data"))


def within_root(path: Path, root: Path | None = None) -> Path:
    """``path`` as given, or within the data folder where only that is there; absolute."""
    own, inside = absolute(path), data_root(root) / path.expanduser()
    return inside if not own.exists() and inside.exists() else own


def other_root(root: Path | None) -> str:
    """The way to another folder, and where the one looked in came from."""
    if root is not None:
        return f"change data.root (now {root})"
    origin = f"from {ROOT_VARIABLE}" if os.environ.get(ROOT_VARIABLE) else f"the default, {ROOT_VARIABLE} is not set"
    return f"give the data folder as `root: FOLDER` or in {ROOT_VARIABLE} (now {data_root()}, {origin})"


class FileSource(DataSource):
    """A data set that lies in a folder in torchvision's layout."""

    root: Path | None = Field(
        default=None,
        description=f"folder that holds the data sets; null = the environment variable {ROOT_VARIABLE}, else ./data",
    )
    download: bool = Field(default=False, description="fetch the files into root with torchvision when they are absent")

    torchvision_name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    packed: ClassVar[bool] = False  # NAME.gz will do

    @abstractmethod
    def folders(self) -> tuple[Path, ...]:
        """Where the files may lie, given root; the first is where torchvision puts them."""

    def places(self) -> tuple[str, ...]:
        """The data folder as it is meant now."""
        return (str(self.data_root()),)

    def data_root(self) -> Path:
        """The folder that holds the data sets; see :func:`data_root`."""
        return data_root(self.root)

    def hint(self) -> str:
        """What else lies where the files should be, and explains why they are not there."""
        return ""

    def find(self) -> dict[str, Path]:
        """File name -> path; fetches what is absent when that was asked for.

        Raises:
            DataError: names the files, the folders and both ways out.
        """
        found = locate(self.folders(), self.files, packed=self.packed)
        if found is None and self.download:
            self._fetch()
            found = locate(self.folders(), self.files, packed=self.packed)
        if found is None:
            raise DataError(
                f"{getattr(self, 'kind', '')}: {missing(self.folders(), self.files, packed=self.packed)}{self.hint()}; "
                f"{other_root(self.root)}, or `download: true` to fetch them"
            )
        return found

    def _fetch(self) -> None:
        import torchvision

        try:
            getattr(torchvision.datasets, self.torchvision_name)(str(self.data_root()), download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{getattr(self, 'kind', '')}: download into {self.data_root()} failed ({error}); check the connection "
                f"and that the folder can be written, or put {', '.join(self.files)} into {self.folders()[0]} yourself"
            ) from error
