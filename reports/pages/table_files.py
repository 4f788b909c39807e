"""The tables beside a page: each as CSV, and as Parquet where the extra ``parquet`` is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from autoflip_secure.reports.pages.writing import remove, streamed
from autoflip_secure.reports.tables.frame_files import as_csv, as_parquet
from autoflip_secure.terminal import notes

_CSV_ALONE = (
    "tables were written as CSV alone, because pyarrow is not installed; for Parquet too: "
    "pip install 'autoflip-secure[parquet]'"
)


def write_tables(tables: Mapping[str, Iterable[pd.DataFrame]], folder: Path) -> None:
    """Write ``NAME.csv`` and ``NAME.parquet`` for every table; without pyarrow say once that there is no Parquet.

    Parquet files of an earlier report would then hold other numbers than the CSV beside them: they are removed.

    Args:
        tables: name -> its parts, at least one, all with the same columns and types. One part is in memory at a time,
            and is a row group of the Parquet file.
        folder: where they go; it is there.

    Raises:
        StoreError: a file cannot be written or removed.
    """
    typed = find_spec("pyarrow") is not None
    if not typed:
        notes.once(_CSV_ALONE)
    for name, parts in tables.items():
        with contextlib.ExitStack() as files:
            text = files.enter_context(streamed(folder / f"{name}.csv"))
            columns = None
            if typed:
                columns = files.enter_context(as_parquet(files.enter_context(streamed(folder / f"{name}.parquet"))))
            for number, part in enumerate(parts):
                text.write(as_csv(part, header=number == 0).encode("utf-8", "replace"))
                if columns is not None:
                    columns(part)
        if not typed:
            remove(folder / f"{name}.parquet")
