"""Baselines as files: read back, damaged, changed by hand, and their margins."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gated import DEFAULTS, baseline, gate, take
from hypothesis import given
from hypothesis import strategies as st
from older_baselines import older

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import Baseline, effective_margins, make_baseline, read_baseline
from autoflip_secure.reports.gate.choice import Choice
from autoflip_secure.reports.gate.readable_json import readable


def test_baseline_file_round_trip(pool: dict[int, list[RunRecord]], tmp_path: Path) -> None:
    held = baseline(take(pool, range(3)), bytes=0.1)
    path = tmp_path / "b.json"
    path.write_text(held.text(), encoding="utf-8")
    again = read_baseline(path)
    assert again.text() == held.text()
    for key, entry in held.entries.items():
        assert again.entries[key].model_copy(update={"metrics": entry.metrics}) == entry
        for name, values in entry.metrics.items():
            assert again.entries[key].metrics[name] == pytest.approx(values, rel=1e-12)
    assert held.text() == baseline(take(pool, reversed(range(3))), bytes=0.1).text()  # order of cells leaves no trace


def test_damaged_baselines_are_told_from_each_other(pool: dict[int, list[RunRecord]], tmp_path: Path) -> None:
    held = baseline(take(pool, range(2)))
    good = older(held, 3)  # without a checksum, which would be the first to complain
    path = tmp_path / "b.json"
    key = next(k for k, e in good["entries"].items() if not e["curve"])
    good_text = json.dumps(good)

    def with_(change: Callable[[dict[str, Any]], object]) -> str:
        data = json.loads(json.dumps(good))
        change(data)
        return json.dumps(data)

    for text, expected in (
        (None, "there is no baseline"),
        ("", "is empty, not a baseline"),
        (json.dumps(good)[:-200], "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("name: robustness\nrounds: 3\n", "is not a baseline, which is JSON; give a file that --update has written"),
        (good_text.replace('"reason":', '"reason": "another", "reason":'), "the key 'reason' appears twice"),
        ("[1]", "is not a baseline"),
        ("{}", "is not a baseline"),
        (with_(lambda d: d.update(baseline_schema=5)), "is a baseline of format 5"),
        (with_(lambda d: d.update(baseline_schema=[2])), "is a baseline of format [2]"),
        (with_(lambda d: d.update(checksum="0" * 64)), "changed after --update wrote it: its checksum does not match"),
        (with_(lambda d: d.pop("reason")), "reason: Field required"),
        (with_(lambda d: d["entries"][key]["config"].update(rounds=99)), "has another hash"),
        (with_(lambda d: d["entries"][key]["metrics"].update(bytes={"1": -4})), "bytes must be positive"),
        (with_(lambda d: d["entries"][key]["metrics"].update(bytes={"1": float("nan")})), "finite number"),
        (with_(lambda d: d["entries"][key]["metrics"].update(speed={"1": 4})), "no metric 'speed'"),
        (with_(lambda d: d["margins"].update(bytes=7)), "margins.bytes"),
    ):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError) as error:
            read_baseline(path)
        assert expected in str(error.value)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


def test_damage_of_the_present_format_is_told(pool: dict[int, list[RunRecord]], tmp_path: Path) -> None:
    good, path = json.loads(baseline(take(pool, range(2))).text()), tmp_path / "b.json"
    del good["checksum"]

    def first(document: dict[str, Any]) -> dict[str, Any]:
        return next(block for block in document["configurations"] if "curve" not in block)

    changes: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda d: d["configurations"].clear(), ""),
        (lambda d: first(d)["metrics"]["bytes"].update(mean=1), "bytes: mean 1.0 is not that of its seeds"),
        (lambda d: first(d)["metrics"]["bytes"].update(seeds={}), "is not that of its seeds"),
        (lambda d: first(d)["settings"].update(rounds=99), "its configuration has another hash"),
        (lambda d: first(d).pop("digests"), "digests: Field required"),
        (lambda d: d["margins"].update(bytes="often %"), "margins.bytes: Input should be a valid number"),
        (lambda d: d["margins"].update(bytes="500 %"), "margins.bytes: Input should be less than 1"),
        (lambda d: d["choice"].update(metrics=["speed"]), "choice: there is no metric or group 'speed'"),
        (lambda d: d.pop("settings"), "settings: Field required"),
        (lambda d: d.update(configurations=3), "configurations: Input should be a valid tuple"),
    ]
    for change, expected in changes:
        document = json.loads(json.dumps(good))
        change(document)
        path.write_text(json.dumps(document))
        if not expected:
            assert read_baseline(path).entries == {}
            continue
        with pytest.raises(InputError) as error:
            read_baseline(path)
        assert str(error.value).startswith(f"{path}: is damaged (")
        assert expected in str(error.value)
        assert "\n" not in str(error.value)


def test_people_read_it(pool: dict[int, list[RunRecord]]) -> None:
    """What was decided comes first; settings that all share stand once; a metric is its mean, then its seeds."""
    text = baseline(take(pool, range(12)), bytes=0.1).text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert [line.split('"')[1] for line in lines if re.match(' "', line)] == [
        "baseline_schema", "reason", "created", "outcome", "choice", "margins", "versions", "inputs", "settings",
        "configurations", "checksum",
    ]  # fmt: skip
    assert '  "bytes": "10 %",' in lines
    assert text.count('"rounds": 2') == 1
    assert len(lines) < 450  # 8 configurations and curves of 12 seeds
    document = json.loads(text)
    labels = [(block["algorithm"], block["condition"]) for block in document["configurations"]]
    assert labels == sorted(labels)
    for block in document["configurations"]:
        for values in block["metrics"].values():
            assert values["mean"] == pytest.approx(sum(values["seeds"].values()) / len(values["seeds"]), rel=1e-5)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=90),
        lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=40), inner, max_size=30),
        max_leaves=120,
    )
)
def test_readable_json_is_json(value: Any) -> None:
    assert json.loads(readable(value)) == value


def test_a_baseline_that_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    """``baseline_3.json`` is of version 0.1.0 with format 3; it says nothing of a choice, so costs are advisory."""
    held = read_baseline(Path(__file__).with_name("baseline_3.json"))
    assert held.choice == Choice()
    assert held.margins["bytes"] == 0.07
    path = tmp_path / "b.json"
    path.write_text(held.model_copy(update={"baseline_schema": 4}).text())
    again = read_baseline(path)
    assert again.entries.keys() == held.entries.keys()
    for key, entry in held.entries.items():
        assert again.entries[key].digests == entry.digests
        for name, values in entry.metrics.items():
            assert again.entries[key].metrics[name] == pytest.approx(values, rel=1e-12)


def test_a_baseline_carries_a_checksum_of_its_content(pool: dict[int, list[RunRecord]], tmp_path: Path) -> None:
    held, path = baseline(take(pool, range(2))), tmp_path / "b.json"
    document = json.loads(held.text())
    path.write_text(json.dumps(dict(reversed(document.items()))))
    assert read_baseline(path).text() == held.text()  # another layout of the same content
    path.write_text(held.text().replace('"reason": "test"', '"reason": "another"'))
    with pytest.raises(InputError, match="is damaged \\(it was changed after --update wrote it"):
        read_baseline(path)
    del document["checksum"]
    path.write_text(json.dumps(document))
    assert read_baseline(path).text() == held.text()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_baseline_that_is_no_file_is_not_waited_for(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "b.json")
    with pytest.raises(InputError, match=r"b\.json: cannot be read"):
        read_baseline(tmp_path / "b.json")


def test_a_baseline_whose_numbers_were_changed_is_not_compared(pool: dict[int, list[RunRecord]]) -> None:
    """The digest says that the record is the same, the number that it is not."""
    records = take(pool, range(3))
    document = baseline(records).model_dump(mode="json")
    for entry in document["entries"].values():
        if "attacked_accuracy" in entry["metrics"]:
            entry["metrics"]["attacked_accuracy"]["1"] += 0.01
            break
    with pytest.raises(InputError, match=r"seed 1: attacked_accuracy = .* changed by hand"):
        gate(records, Baseline.model_validate(document))
    assert gate(take(pool, range(5, 8)), Baseline.model_validate(document)).lines  # other seeds: nothing contradicts it


def test_margins() -> None:
    assert effective_margins({}, []) == DEFAULTS
    mixed = effective_margins({"bytes": 0.1, "detection_auc": 0.2}, ["bytes=0.3", " clean_accuracy = 1 %"])
    assert (mixed["bytes"], mixed["detection_auc"], mixed["clean_accuracy"]) == (0.3, 0.2, 0.01)
    for override, expected in (
        ("byte=1", "no metric 'byte'"), ("bytes", "is not a number"), ("bytes=-1", "from 0 to below 1"),
        ("bytes=nan", "is not a number"), ("bytes=1", "below 1"), ("bytes=inf", "below 1"), ("=3", "no metric ''"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=expected):
            effective_margins({}, [override])
    with pytest.raises(InputError, match="--reason: is empty"):
        make_baseline([], "  ", "now", DEFAULTS)
