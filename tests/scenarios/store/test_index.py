"""The index of a large results folder: what it says, who writes it, and that nobody needs it."""

import copy
import gc
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from many_cells import BASE, files, opened, rows, small_cells
from processes import PATIENCE

from autoflip_secure import api
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.stored import PLAIN, TEXTS, is_whole
from autoflip_secure.reports.study.learning import findings
from autoflip_secure.reports.study.study import study
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store import index as index_file
from autoflip_secure.scenarios.store.index import FILE, LEAST
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.results import read_results

QUIET = Listener(lambda *_: None, lambda text: None)


def told(records: list[RunRecord]) -> list[dict[str, Any]]:
    return [record.numbers() for record in records]


def test_the_writer_leaves_an_index_that_says_what_the_files_say(large: Path, large_plan: Plan):
    index, paths = opened(large), files(large)
    assert rows(large) == len(paths) == len(large_plan.keys) > LEAST
    for path in paths[::7]:
        truth, read = read_record(path), read_record(path, index)
        assert not is_whole(read)
        for name in (*PLAIN, *TEXTS):
            assert getattr(read, name) == getattr(truth, name), name
        assert read.curve == truth.curve
        for name in RunRecord.model_fields:
            assert read.has(name) == (getattr(truth, name) is not None), name
        assert not is_whole(read), "nothing of this needs the file"
        assert read.layers == truth.layers
        assert type(read) is RunRecord
        assert read == truth


USES: dict[str, Callable[[RunRecord], Any]] = {
    "rounds": lambda record: record.rounds,
    "equal": lambda record: [record],
    "dump": lambda record: record.model_dump(),
    "json": lambda record: record.model_dump_json(),
    "numbers": lambda record: record.numbers(),
    "copy": lambda record: record.model_copy(update={"seed": 7}),
    "shallow copy": copy.copy,
    "deep copy": copy.deepcopy,
    "pickled and back": lambda record: pickle.loads(pickle.dumps(record)),
    "fields": dict,
    "repr": repr,
    "no such field": lambda record: hasattr(record, "nothing"),
    "property": lambda record: record.detection_auc,
}


@pytest.mark.parametrize("use", USES)
def test_whatever_is_done_to_an_unread_record_is_as_with_a_whole_one(use: str, large: Path):
    path = files(large)[3]
    assert USES[use](read_record(path, opened(large))) == USES[use](read_record(path))


def test_small_folders_have_none(tmp_path: Path):
    few = small_cells(1)
    run_sweep(few, tmp_path / "few", 1, QUIET)
    assert not (tmp_path / "few" / FILE).exists()
    assert all(is_whole(record) for record in read_results(tmp_path / "few").records)


def test_reading_writes_nothing_unless_it_may(large_copy: Path):
    (large_copy / FILE).unlink()
    before = {path.name for path in large_copy.iterdir()}
    read_results(large_copy)
    assert {path.name for path in large_copy.iterdir()} == before


def test_where_an_index_cannot_be_written_everything_else_goes_on(large_copy: Path):
    (large_copy / FILE).unlink()
    (large_copy / FILE).mkdir()  # for root no folder is read-only; over a full one nobody can rename a file
    (large_copy / FILE / "something").touch()
    assert read_results(large_copy, keep_index=True).missing == []
    assert not [path for path in large_copy.iterdir() if path.name.endswith(".tmp")]


def test_without_pyarrow_there_is_none(large_copy: Path, monkeypatch: pytest.MonkeyPatch):
    truth = [record.final_accuracy for record in read_results(large_copy).records]
    monkeypatch.setattr(index_file, "find_spec", lambda name: None)
    assert [record.final_accuracy for record in read_results(large_copy, keep_index=True).records] == truth


def test_a_finished_sweep_is_taken_up_without_reading_it_and_judged_the_same(large_copy: Path, large_plan: Plan):
    (large_copy / FILE).unlink()
    plain = [read_record(path) for path in files(large_copy)]
    run_sweep(large_plan, large_copy, 1, QUIET)  # reads the files, writes the index
    again = run_sweep(large_plan, large_copy, 1, QUIET)
    assert again.reused == len(large_plan.keys)
    by_cell = {record.cell: record for record in plain}
    whole = findings(study([by_cell[key] for key in large_plan.keys], large_plan.outcome))
    assert findings(study(again.records, large_plan.outcome)) == whole
    assert not any(is_whole(record) for record in again.records)
    assert told(again.records[:9]) == told([by_cell[key] for key in large_plan.keys[:9]])


def test_what_is_missing_is_run_and_joins_the_index(large_copy: Path, large: Path, large_plan: Plan):
    gone = large_plan.blocks[0].keys
    for key in gone:
        (large_copy / "cells" / f"{key}.json").unlink()
    done = run_sweep(large_plan, large_copy, 1, QUIET)
    assert done.reused == len(large_plan.keys) - len(gone)
    assert rows(large_copy) == len(large_plan.keys)
    index = opened(large_copy)
    for key in gone:
        path = large_copy / "cells" / f"{key}.json"
        assert not is_whole(read_record(path, index))
        assert read_record(path, index) == read_record(path)


def test_records_of_a_temporary_folder_outlive_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_file, "LEAST", 2)
    results = api.run({**copy.deepcopy(BASE), "seeds": [10]}, workers=1)
    records, place = results.records, results.folder
    del results
    gc.collect()
    assert not place.exists()
    assert [len(record.rounds) for record in records] == [4] * 4


def test_records_are_found_from_another_folder(large_copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(large_copy.parent)
    record = read_results(Path(large_copy.name)).records[0]
    assert not is_whole(record)
    monkeypatch.chdir("/")
    assert len(record.rounds) == 4


READER = """
import sys
from pathlib import Path
from autoflip_secure.scenarios.store.results import read_results
for _ in range(4):
    (Path(sys.argv[1]) / "index.parquet").unlink(missing_ok=True)
    print(sum(record.final_accuracy for record in read_results(Path(sys.argv[1]), keep_index=True).records))
"""


@pytest.mark.slow
def test_two_processes_at_once_read_the_same(large_copy: Path):
    truth = sum(record.final_accuracy for record in read_results(large_copy).records)
    others = [
        subprocess.Popen([sys.executable, "-c", READER, str(large_copy)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for other in others:
        answer, _ = other.communicate(timeout=PATIENCE)
        assert other.returncode == 0
        assert [float(line) for line in answer.splitlines()] == [truth] * 4
    assert rows(large_copy) == len(files(large_copy))
