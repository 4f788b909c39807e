"""Frames as files: CSV, which spreadsheets open, and Parquet, which keeps types. Either may be written part by part."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pandas as pd

from autoflip_secure.reports.tables.text import harmless


def parquet(frame: pd.DataFrame) -> bytes:
    """``frame`` as a Parquet file: text, whole numbers and numbers keep their types, gaps are nulls.

    Raises:
        ImportError: without the extra ``parquet``.
    """
    buffer = io.BytesIO()
    with as_parquet(buffer) as add:
        add(frame)
    return buffer.getvalue()


@contextlib.contextmanager
def as_parquet(file: BinaryIO) -> Iterator[Callable[[pd.DataFrame], None]]:
    """What adds frames of the same columns and types to a Parquet file, each as a row group.

    Raises:
        ImportError: without the extra ``parquet``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as opened:
        writers: list[pq.ParquetWriter] = []

        def add(frame: pd.DataFrame) -> None:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if not writers:
                writers.append(opened.enter_context(pq.ParquetWriter(file, table.schema)))
            writers[0].write_table(table)

        yield add


def as_csv(frame: pd.DataFrame, *, header: bool = True) -> str:
    """``frame`` as CSV. Texts that a spreadsheet would run begin with an apostrophe (only here)."""
    texts = frame.columns[frame.dtypes == "string"]
    shown = frame.assign(**{str(name): frame[name].map(harmless, na_action="ignore") for name in texts})
    return shown.rename(columns=harmless).to_csv(index=False, header=header)
