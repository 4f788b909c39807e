"""A CSV or Parquet table: one row a sample, one column the class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.files.first_bytes import glance, look
from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.scenarios.data.columns import ColumnSource
from autoflip_secure.scenarios.data.files import absolute, opened

if TYPE_CHECKING:
    import pandas as pd


class Table(ColumnSource):
    """A CSV or Parquet table of your own, a row a sample: label, features, owner by column."""

    kind: Literal["table"] = "table"
    source: ClassVar[str] = "your own data"
    path: Path = Field(description="the CSV or Parquet file; the first line of a CSV file names the columns")
    test_path: Path | None = Field(default=None, description="a second one, to test on; null = test_share of path")
    label: str = Field(description="column with the class: whole numbers or text")
    separator: Annotated[str, Field(min_length=1, max_length=1)] = Field(
        default=",", description="what stands between the fields of a CSV file"
    )

    def places(self) -> tuple[str, ...]:
        """The files as they are meant now."""
        return tuple(str(absolute(path)) for path in (self.path, self.test_path) if path is not None)

    def read(self) -> Arrays:
        """The table, or both."""
        path = absolute(self.path)
        test = None if self.test_path is None else read_table(absolute(self.test_path), self.separator)
        return self.arrays(path, read_table(path, self.separator), test)


def read_table(path: Path, separator: str = ",") -> pd.DataFrame:
    """A file as a frame; only an empty field is a missing value, so that a class may be called NA or None.

    Raises:
        DataError: it is absent, damaged, too large, neither CSV nor Parquet, or Parquet without the extra for it.
    """
    import pandas as pd

    kind = look(glance(path))
    with opened(path, "a CSV or Parquet table", "save it as CSV (UTF-8) or Parquet", "text", "parquet") as file:
        if kind is not None and kind.name == "parquet":
            try:
                from pyarrow.parquet import ParquetFile
            except ImportError as error:
                raise DataError(
                    f"{path}: is a Parquet file, and pyarrow, which reads it, is not installed; "
                    "pip install 'autoflip-secure[parquet]', or save it as CSV (UTF-8)"
                ) from error
            frame: pd.DataFrame = ParquetFile(file).read().to_pandas(ignore_metadata=True)
        else:
            frame = pd.read_csv(file, sep=separator, low_memory=False, keep_default_na=False, na_values=[""])
            if not isinstance(frame.index, pd.RangeIndex):
                raise DataError(f"{path}: rows have more fields than the first line names columns; name them all")
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path}: two columns are called {twice[0]!r}; rename one")
    if len(frame.columns) == 1 and separator == "," and ";" in str(frame.columns[0]):
        raise DataError(f"{path}: its fields are separated by ';'; set separator: \";\"")
    return frame
