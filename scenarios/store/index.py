"""``index.parquet``: what the cells of a large results folder hold, in columns, so that they need not be parsed again.

A row says what a file with certain bytes holds: the SHA-256 of the bytes, and of the record in them what every reader
asks for (:class:`.Known`). A row counts only where the file has these bytes now. A cell that was edited, damaged, put
back or brought by somebody else therefore has no row, whatever its size and times are, and is read from its JSON. Those
who write to the folder write the index too, whole or not at all, whenever it lacks a cell or has one too many. It holds
nothing that the cells do not, and may be deleted at any time.

One that cannot be read, is of another format or was damaged (its pages have checksums) is none. It is Parquet, which
holds numbers and text and no code. Without pyarrow, and for fewer than :data:`LEAST` cells, there is none: to import
pyarrow then takes longer than to read them all. ``docs/results.md`` describes the columns.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from autoflip_secure.files.durable import write_whole
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.records.curve import Curve
from autoflip_secure.records.run import SCHEMA_VERSION, RunRecord
from autoflip_secure.records.stored import COUNTS, PLAIN, TEXTS, Known

if TYPE_CHECKING:
    import pyarrow as pa

FILE: Final = "index.parquet"
LEAST: Final = 200
"""Cells from which on a folder has an index."""

_FORMAT: Final = f"autoflip-secure cells 1, records {SCHEMA_VERSION}"
_ROWS: Final = 4096  # of a row group


class CellIndex:
    """The index of one folder: what it knows, and what was learned since it was read."""

    def __init__(self, folder: Path, rows: dict[str, tuple[bytes, Known]]) -> None:
        self.path = folder / FILE
        self._before = rows
        self._now: dict[str, tuple[bytes, Known]] = {}

    @classmethod
    def of(cls, folder: Path, cells: int) -> Self | None:
        """That of a folder of ``cells`` cells, empty where it has none that can be used; None: it needs none."""
        return None if cells < LEAST else cls(folder, _read(folder / FILE))

    def known(self, cell: str, digest: bytes) -> Known | None:
        """What the file of a cell holds, whose bytes have this SHA-256; None: it is not known."""
        row = self._before.get(cell)
        if row is None or row[0] != digest:
            return None
        self._now[cell] = row
        return row[1]

    def add(self, record: RunRecord, digest: bytes) -> Known | None:
        """Note what a file holds; None where it is nothing that an index can hold."""
        known = Known.of(record)
        if known is None:
            self._now.pop(record.cell, None)
        else:
            self._now[record.cell] = (digest, known)
        return known

    def write(self) -> None:
        """Put what is known now into the folder, if that is something else than what is there.

        A folder that cannot be written stays without; nothing depends on it.
        """
        before, now = ({cell: digest for cell, (digest, _) in rows.items()} for rows in (self._before, self._now))
        if before == now or not _can_be():
            return
        with contextlib.suppress(OSError):
            write_whole(self.path, _packed(self._now))
            self._before = dict(self._now)


def digest_of(content: str) -> bytes:
    """What a file of this text is known by."""
    return hashlib.sha256(content.encode()).digest()


def _can_be() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"seed": pa.int64(), "parameters": pa.int64(), "final_accuracy": pa.float64(), "final_loss": pa.float64()}
    return pa.schema(
        [
            pa.field("sha256", pa.binary(32)),
            *(pa.field(name, kinds.get(name, pa.string())) for name in PLAIN),
            *(pa.field(name, pa.string()) for name in TEXTS),
            pa.field("absent", pa.string()),
            *(pa.field(f"rounds.{name}", pa.list_(_number(name))) for name in Curve._fields),
        ],
        metadata={"format": _FORMAT},
    )


def _number(name: str) -> pa.DataType:
    import pyarrow as pa

    return pa.int64() if name in COUNTS else pa.float64()


def _packed(rows: dict[str, tuple[bytes, Known]]) -> bytes:
    """The file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer, schema, found = pa.BufferOutputStream(), _schema(), [*rows.values()]
    with pq.ParquetWriter(buffer, schema, compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, len(found), _ROWS):
            writer.write_table(_table(found[start : start + _ROWS], schema))
    return bytes(buffer.getvalue())


def _table(rows: Sequence[tuple[bytes, Known]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    known = [row for _, row in rows]
    ends = np.cumsum([0, *(one.numbers.shape[1] for one in known)]).astype(np.int32)
    numbers = np.concatenate([one.numbers for one in known], axis=1)
    lists = []
    for name, values in zip(Curve._fields, numbers, strict=True):
        kept = pa.array(values.astype(np.int64) if name in COUNTS else values, type=_number(name), from_pandas=True)
        lists.append(pa.ListArray.from_arrays(pa.array(ends), kept))
    return pa.Table.from_arrays(
        [
            pa.array([digest for digest, _ in rows], type=pa.binary(32)),
            *(pa.array([one.plain[i] for one in known], schema.field(name).type) for i, name in enumerate(PLAIN)),
            *(pa.array([one.texts[i] for one in known], pa.string()) for i in range(len(TEXTS))),
            pa.array([" ".join(sorted(one.absent)) for one in known], pa.string()),
            *lists,
        ],
        schema=schema,
    )


def _read(path: Path) -> dict[str, tuple[bytes, Known]]:
    """Cell -> SHA-256 of its file and what that holds; nothing where the file is not to be used."""
    try:
        content = read_regular(path)
    except OSError:
        return {}
    if not _can_be():
        return {}
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        schema = file.schema_arrow
        if not schema.equals(_schema()) or (schema.metadata or {}).get(b"format") != _FORMAT.encode():
            return {}
        groups = [_rows(file.read_row_group(number)) for number in range(file.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError):
        return {}  # whatever is wrong with it
    return {row.plain[0]: (digest, row) for group in groups for digest, row in group}


def _rows(table: pa.Table) -> Iterable[tuple[bytes, Known]]:
    columns: dict[str, Any] = {name: table.column(name).combine_chunks() for name in table.column_names}
    lists = [columns[f"rounds.{name}"] for name in Curve._fields]
    ends = lists[0].offsets.to_numpy()
    for one in lists:
        if one.null_count or not np.array_equal(one.offsets.to_numpy(), ends):
            raise ValueError("columns of rounds are of different lengths")
    numbers = np.array([one.values.to_numpy(zero_copy_only=False) for one in lists], dtype=np.float64)
    plain = zip(*(columns[name].to_pylist() for name in PLAIN), strict=True)
    texts = zip(*(columns[name].to_pylist() for name in TEXTS), strict=True)
    absent: dict[str, frozenset[str]] = {}
    rest = zip(columns["sha256"].to_pylist(), plain, texts, columns["absent"].to_pylist(), strict=True)
    found = []
    for row, (digest, values, written, none) in enumerate(rest):
        gone = absent.setdefault(none, frozenset(none.split()))
        found.append((digest, Known(values, written, gone, numbers[:, ends[row] : ends[row + 1]].copy())))
    return found
