"""Tables beside a page: as Parquet too where pyarrow is installed; without it CSV alone, said once, the same values."""

import errno
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from built_wheel import clean

from autoflip_secure.errors import DataError, StoreError
from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.table_files import write_tables
from autoflip_secure.reports.tables import frames
from autoflip_secure.reports.tables.cells_frame import cells_frame
from autoflip_secure.reports.tables.frames import described, tidy, tidy_parts
from autoflip_secure.scenarios.data.table import read_table

ROOT = Path(__file__).parents[3]
SAID = (
    "tables were written as CSV alone, because pyarrow is not installed; for Parquet too: "
    "pip install 'autoflip-secure[parquet]'"
)
SCENARIO = """
{name: tiny, clients: 4, cohort: 2, rounds: 1, seeds: [10], algorithm: fedavg, training: {epochs: 1},
 data: {kind: table, path: t.csv, label: kind}}
"""


def test_both_forms_where_pyarrow_is_installed(small: list[RunRecord], tmp_path: Path, said: list[str]) -> None:
    write_tables({"cells": [cells_frame(small)], "more": [cells_frame(small[:2])]}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"cells.csv", "cells.parquet", "more.csv", "more.parquet"}
    assert said == []


def test_without_pyarrow_csv_alone_said_once_and_nothing_stale_is_left(
    small: list[RunRecord], tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables({"cells": [cells_frame(small)]}, tmp_path)
    before = (tmp_path / "cells.csv").read_bytes()
    monkeypatch.setattr("autoflip_secure.reports.pages.table_files.find_spec", lambda name: None)
    for _ in range(2):
        write_tables({"cells": [cells_frame(small)], "more": [cells_frame(small)]}, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"cells.csv", "more.csv"}
    assert (tmp_path / "cells.csv").read_bytes() == before
    assert said == [SAID]
    (tmp_path / "cells.parquet").mkdir()
    with pytest.raises(StoreError, match=r"cells\.parquet"):
        write_tables({"cells": [cells_frame(small)]}, tmp_path)


def test_parquet_data_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"size": [1.5, 2.5], "kind": ["NA", "rose"]}).to_parquet(tmp_path / "t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "t.parquet")
    assert str(caught.value) == (
        f"{tmp_path / 't.parquet'}: is a Parquet file, and pyarrow, which reads it, is not installed; "
        "pip install 'autoflip-secure[parquet]', or save it as CSV (UTF-8)"
    )


@pytest.mark.slow
def test_a_sweep_in_an_interpreter_without_pyarrow(tmp_path: Path) -> None:
    """pandas then holds text in another form; what is written is the same."""
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    pd.DataFrame({"size": np.arange(60.0), "kind": ["NA", "rose", "lily"] * 20}).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    errors = {}
    for name, path in (("with", [ROOT]), ("without", [tmp_path / "blocked", ROOT])):
        command = [sys.executable, "-m", "autoflip_secure", "sweep", "tiny.yaml", "--out", name, "--workers", "1"]
        environment = {**clean(), "PYTHONPATH": ":".join(map(str, path))}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        errors[name] = " ".join(done.stderr.split())
    assert SAID not in errors["with"]
    assert errors["without"].count(SAID) == 1
    for name in ("cells.csv", "results.csv"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    assert [path.name for path in (tmp_path / "with").glob("*.parquet")]
    assert not [*(tmp_path / "without").glob("*.parquet")]


def test_a_table_in_parts_is_the_table_in_one(
    small: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [run.model_copy(update={"axes": {"x": 1 if number < 5 else "high"}}) for number, run in enumerate(small)]
    whole = tidy(mixed)
    monkeypatch.setattr(frames, "PART", 5)
    parts = [*tidy_parts(mixed, described(mixed, DEFAULT))]
    assert len(parts) == -(-len(mixed) // 5) > 1
    for part in parts:  # also the first, whose axis holds whole numbers alone
        pd.testing.assert_series_equal(part.dtypes, whole.dtypes)
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    write_tables({"parts": parts, "whole": [whole]}, tmp_path)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "parts.parquet"), whole)
    assert pq.read_metadata(tmp_path / "parts.parquet").num_row_groups == len(parts)


def test_one_part_is_in_memory_at_a_time(small: list[RunRecord], tmp_path: Path) -> None:
    frame, made = cells_frame(small), list[weakref.ref[pd.DataFrame]]()

    def parts() -> Iterator[pd.DataFrame]:
        for _ in range(6):
            gc.collect()
            assert sum(one() is not None for one in made) <= 1, "the one before may still have a name"
            part = frame.copy()
            made.append(weakref.ref(part))
            yield part
            del part

    write_tables({"many": parts()}, tmp_path)
    assert len(pd.read_parquet(tmp_path / "many.parquet")) == 6 * len(frame)


def test_parts_that_fail_leave_the_tables_of_before(small: list[RunRecord], tmp_path: Path) -> None:
    write_tables({"cells": [cells_frame(small)]}, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def parts(error: Exception) -> Iterator[pd.DataFrame]:
        yield cells_frame(small[:3])
        raise error

    with pytest.raises(StoreError, match="no space left on the disk"):
        write_tables({"cells": parts(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))}, tmp_path)
    with pytest.raises(KeyError):
        write_tables({"cells": parts(KeyError("x"))}, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
