"""A cell's file that was changed by hand, and one that was only laid out anew."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizes import crossed

from autoflip_secure.errors import StoreError
from autoflip_secure.files.checksums import sealed, unsealed
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.results import read_results
from autoflip_secure.scenarios.store.store import Store

SCENARIO = """
name: sealed
rounds: 2
clients: 4
cohort: 2
seeds: [3]
sweep: {product: {algorithm: [fedavg, autoflip]}}
"""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
Swept = tuple[Plan, Path]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "sealed.yaml").write_text(SCENARIO)
    work = plan(load(folder / "sealed.yaml"))
    run_sweep(work, folder / "run", 1, Listener(lambda *_: None, print))
    return work, folder / "run"


@pytest.fixture
def swept(original: Swept, tmp_path: Path) -> Swept:
    return original[0], Path(shutil.copytree(original[1], tmp_path / "run"))


def cell(folder: Path) -> Path:
    return min((folder / "cells").glob("*.json"))


def rewrite(path: Path, change: Callable[[dict[str, object]], object], indent: int | None = None) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=indent))


@given(st.dictionaries(st.text().filter(lambda key: key != "checksum"), JSON))
def test_what_is_sealed_comes_back(document: dict[str, object]) -> None:
    assert json.loads(unsealed(sealed(json.dumps(document)).encode())) == document


CHANGES: dict[str, Callable[[Any], object]] = {
    "accuracy": lambda d: d.update(final_accuracy=0.999),
    "nan": lambda d: d.update(final_accuracy=float("nan")),
    "round-gone": lambda d: d["rounds"].pop(),
    "round": lambda d: d["rounds"][0].update(accuracy=0.5),
    "checksum": lambda d: d.update(checksum="0" * 64),
    "no-text": lambda d: d.update(checksum=None),
}


@pytest.mark.parametrize("change", crossed(2, CHANGES))
def test_a_changed_number_is_named_and_left_out(swept: Swept, change: Callable[[dict[str, object]], object]) -> None:
    _, folder = swept
    rewrite(cell(folder), change)
    with pytest.raises(StoreError, match="changed after the sweep wrote it"):
        read_record(cell(folder))
    found = read_results(folder)
    assert (len(found.records), len(found.missing)) == (1, 1)
    assert [cell(folder).name in note for note in found.notes] == [True]


def test_the_next_sweep_keeps_the_changed_file_aside_and_runs_the_cell_again(swept: Swept) -> None:
    work, folder = swept
    path = cell(folder)
    before = read_record(path)
    rewrite(path, lambda d: d.update(final_accuracy=0.999))
    again = run_sweep(work, folder, 1, Listener(lambda *_: None, print))
    assert (again.reused, len(again.damaged)) == (1, 1)
    assert read_record(path).numbers() == before.numbers()
    assert json.loads(path.with_name(f"{path.name}.damaged-1").read_text())["final_accuracy"] == 0.999


def test_another_layout_and_a_file_from_before_checksums_are_intact(swept: Swept) -> None:
    path = cell(swept[1])
    before = read_record(path)
    rewrite(path, lambda d: None, indent=4)
    assert read_record(path) == before
    rewrite(path, lambda d: d.pop("checksum"))
    assert read_record(path) == before


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[" * 100_000, b"[1]", b"null"])
def test_what_is_no_record_is_damaged(swept: Swept, content: bytes) -> None:
    cell(swept[1]).write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        read_record(cell(swept[1]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(swept: Swept) -> None:
    work, folder = swept
    (folder / "cells").chmod(0)
    try:
        with pytest.raises(StoreError, match=r"cells: cannot be read \(Permission denied\)"):
            read_results(folder)
        folder.chmod(0)
        with pytest.raises(StoreError, match="cannot be written"), Store(folder) as store:
            store.accept(work)
    finally:
        folder.chmod(0o700)
        (folder / "cells").chmod(0o700)


def test_cells_that_are_no_folder_are_named(swept: Swept) -> None:
    shutil.rmtree(swept[1] / "cells")
    (swept[1] / "cells").write_text("")
    with pytest.raises(StoreError, match=r"cells: cannot be read \(Not a directory\)"):
        read_results(swept[1])
