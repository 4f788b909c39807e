"""An index never says a word about cells that their JSON does not say, whatever happens to either."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from many_cells import files, opened, rows
from sizes import every

from autoflip_secure.errors import StoreError
from autoflip_secure.files.checksums import sealed, with_checksum, without_checksum
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.stored import PLAIN, TEXTS, is_whole
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.store.index import FILE
from autoflip_secure.scenarios.store.reading import read_record
from autoflip_secure.scenarios.store.results import read_results
from autoflip_secure.scenarios.store.store import Store


def other_number(path: Path) -> None:
    """An edit of the same length, with the times of before."""
    times, text = path.stat(), path.read_text()
    path.write_text(text.replace('"rounds":4', '"rounds":5', 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [other_number, cut, one_bit])
def test_the_index_hides_no_damage(damage: Callable[[Path], None], large_copy: Path, large_plan: Plan):
    victim = files(large_copy)[5]
    damage(victim)
    with pytest.raises(StoreError, match="damaged"):
        read_record(victim, opened(large_copy))
    found = read_results(large_copy)
    assert [entry["cell"] for entry in found.missing] == [victim.stem]
    assert victim.stem in found.notes[0]
    with Store(large_copy) as store:
        assert victim.stem not in store.load(large_plan.keys)
        assert "moved to" in store.damaged[0]
    assert rows(large_copy) == len(large_plan.keys) - 1


def test_a_cell_that_was_replaced_is_read_anew(large_copy: Path, large_plan: Plan):
    victim = files(large_copy)[5]
    document = without_checksum(json.loads(victim.read_text()))
    document["final_accuracy"] = 0.125
    victim.write_text(json.dumps(with_checksum(document), separators=(",", ":")))
    index = opened(large_copy)
    assert read_record(victim, index).final_accuracy == 0.125
    found = {record.cell: record for record in read_results(large_copy, keep_index=True).records}
    assert found[victim.stem].final_accuracy == 0.125
    row = pq.read_table(large_copy / FILE).to_pandas().set_index("cell").loc[victim.stem]
    assert row["final_accuracy"] == 0.125
    assert rows(large_copy) == len(large_plan.keys)


def test_a_cell_that_changes_while_a_report_reads_is_said(large_copy: Path):
    victim = files(large_copy)[5]
    record = read_record(victim, opened(large_copy))
    document = without_checksum(json.loads(victim.read_text()))
    victim.write_text(sealed(json.dumps({**document, "final_accuracy": 0.125})))
    with pytest.raises(StoreError, match="was changed while it was being read; run the same command again"):
        _ = record.rounds
    victim.unlink()
    with pytest.raises(StoreError, match="cannot be read any more"):
        _ = record.rounds


def of_another_folder(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 3), path)


def not_parquet(path: Path) -> None:
    path.write_bytes(b"PAR1 and no more")


def other_columns(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["axes"]), path)


def other_format(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"format": "autoflip-secure cells 0, records 1"}), path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "spoil", every(2, [gone, of_another_folder, not_parquet, other_columns, a_pipe, other_format, a_folder])
)
def test_a_bad_index_is_none_and_is_written_anew(spoil: Callable[[Path], None], large_copy: Path, large: Path):
    spoil(large_copy / FILE)
    found = read_results(large_copy, keep_index=True)
    assert (found.missing, found.notes) == ([], [])
    assert [r.final_accuracy for r in found.records] == [r.final_accuracy for r in read_results(large).records]
    if spoil is not a_folder:  # that stays, as anything that is not ours
        assert rows(large_copy) == len(found.records)


@pytest.mark.parametrize("place", every(12, list(range(0, 1000, 8))))
def test_no_flipped_bit_in_an_index_changes_what_is_read(place: int, large_copy: Path):
    content = bytearray((large_copy / FILE).read_bytes())
    content[place * len(content) // 1000] ^= 1 << (place % 8)
    (large_copy / FILE).write_bytes(content)
    index = opened(large_copy)
    for path in files(large_copy)[::29]:
        truth, read = read_record(path), read_record(path, index)
        for name in (*PLAIN, *TEXTS):
            assert getattr(read, name) == getattr(truth, name), name
        assert read.curve == truth.curve
        assert [read.has(name) for name in RunRecord.model_fields] == [
            truth.has(name) for name in RunRecord.model_fields
        ]


def test_text_of_an_index_that_no_record_can_have_is_read_from_the_file(large_copy: Path):
    table = pq.read_table(large_copy / FILE)
    for name, text in (("config", "{"), ("trainer", "[1]")):
        column = pa.array([text] * table.num_rows)
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    pq.write_table(table, large_copy / FILE)
    path = files(large_copy)[2]
    for name in ("config", "trainer"):
        read = read_record(path, opened(large_copy))
        assert not is_whole(read)
        assert getattr(read, name) == getattr(read_record(path), name)
