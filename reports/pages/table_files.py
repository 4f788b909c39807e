"""The tables beside a page: each as CSV, and as Parquet where the extra ``parquet`` is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from autoflip_secure.reports.pages.writing import remove, write
from autoflip_secure.reports.tables.frames import as_csv, parquet
from autoflip_secure.terminal import notes

_CSV_ALONE = (
    "tables were written as CSV alone, because pyarrow is not installed; for Parquet too: "
    "pip install 'autoflip-secure[parquet]'"
)


def write_tables(frames: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write ``NAME.csv`` and ``NAME.parquet`` for every frame; without pyarrow say once that there is no Parquet.

    Parquet files of an earlier report would then hold other numbers than the CSV beside them: they are removed.

    Args:
        frames: name -> table.
        folder: where they go.

    Raises:
        StoreError: a file cannot be written or removed.
    """
    typed = find_spec("pyarrow") is not None
    if not typed:
        notes.once(_CSV_ALONE)
    for name, frame in frames.items():
        write(folder / f"{name}.csv", as_csv(frame))
        if typed:
            write(folder / f"{name}.parquet", parquet(frame))
        else:
            remove(folder / f"{name}.parquet")
