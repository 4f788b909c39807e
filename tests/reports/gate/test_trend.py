"""The trend: lines that are read back, pages in which everything from outside is text, and pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
from gated import baseline, gate, take
from planted import moved

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.gate import GateResult
from autoflip_secure.reports.gate.history import Moment, append_moment, moment, read_history
from autoflip_secure.reports.gate.trend import MOST_RUNS, trend_page, write_trend

HOSTILE = "<script>alert('x')</script> \x1b[31m \u202e"


@pytest.fixture(scope="module")
def results(pool: dict[int, list[RunRecord]]) -> list[GateResult]:
    """A pass, a regression, a "cannot tell"."""
    records = take(pool, range(4))
    held = baseline(records)
    worse, open_ = ([moved(r, by(r)) for r in records] for by in (lambda r: -0.2, lambda r: 0.1 * (-1) ** r.seed))
    found = [gate(now, held) for now in (records, worse, open_)]
    assert [result.exit_code for result in found] == [0, 1, 2]
    return found


def history(results: list[GateResult], label: str = "run") -> list[Moment]:
    return [moment(result, f"2026-01-0{i}", f"{label} {i}") for i, result in enumerate(results, start=1)]


def test_lines_are_read_back_and_only_appended(results: list[GateResult], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trend.jsonl"
    assert read_history(path) == []
    for number, one in enumerate(history(results), start=1):
        append_moment(path, one)
        assert read_history(path) == history(results)[:number]
    first = json.loads(path.read_text().splitlines()[0])
    values = {(p["key"], p["metric"]): p["value"] for p in first["metrics"]}
    expected = {(x.key, x.metric.name): x.judgement.comparison.new for x in results[0].lines}
    assert values == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "is no history of a gate (not text)"),
        (b"{", ":1: is no line of a gate's history"),
        (b"\n\n[]\n", ":3: is no line"),
        (b'{"history_schema": 2}', ":1: is no line"),
    ],
)
def test_another_file_is_not_appended_to(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_history(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(results: list[GateResult], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="give another file with --history"):
        append_moment(tmp_path / "file" / "trend.jsonl", history(results)[0])


def test_the_page_says_what_happened_and_everything_from_outside_is_text(results: list[GateResult]) -> None:
    page = trend_page(history(results, HOSTILE))
    assert "Last run: cannot tell" in page
    assert "3 runs: 1 pass, 1 cannot tell, 1 regression" in page
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;alert" in page
    assert page.count("<svg") >= 1


@pytest.mark.slow
def test_pictures_have_their_formats(results: list[GateResult], tmp_path: Path) -> None:
    for suffix, start in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        path = tmp_path / f"trend{suffix}"
        write_trend(history(results[:1]), path)
        assert path.read_bytes().startswith(start)


@pytest.mark.slow
def test_what_a_newer_version_measures_is_drawn_by_its_name(results: list[GateResult]) -> None:
    one = history(results)[0]
    changed: Any = [p.model_copy(update={"metric": "latency"}) for p in one.metrics[:1]]
    page = trend_page([one.model_copy(update={"metrics": (*one.metrics, *changed)})])
    assert "latency" in page


@pytest.mark.slow
def test_a_long_history_says_what_is_left_out(results: list[GateResult]) -> None:
    page = trend_page(history(results) * 30)
    assert f"The last {MOST_RUNS} of 90 runs are drawn." in page


def test_what_has_no_value_has_no_point_and_is_counted(results: list[GateResult]) -> None:
    one = history(results)[0]
    gone: Any = [p.model_copy(update={"value": None, "decision": "regression"}) for p in one.metrics[:2]]
    page = trend_page([one, one.model_copy(update={"metrics": (*gone, *one.metrics[2:])})])
    assert "2 values were not measured, or are no guarantee: they have no point" in page


def test_configurations_with_one_label_have_lines_of_their_own_and_a_changed_one_goes_on(
    results: list[GateResult],
) -> None:
    before, after = history(results)[:2]
    point = before.metrics[0]
    both = tuple(point.model_copy(update={"key": key, "value": v}) for key, v in (("a" * 64, 0.8), ("b" * 64, 0.4)))
    two = [before.model_copy(update={"metrics": both}), after.model_copy(update={"metrics": both[::-1]})]
    page = trend_page(two)
    for key in ("a", "b"):
        assert f"{point.algorithm} · {point.condition} ({key * 8})" in page
    changed = [one.model_copy(update={"metrics": (p,)}) for one, p in zip((before, after), both, strict=True)]
    assert "(aaaaaaaa)" not in trend_page(changed)


def test_a_line_stays_a_line_whatever_stands_around_it(results: list[GateResult], tmp_path: Path) -> None:
    """An editor left no end of line; a commit's title has other ends of lines in it, or bytes that are no text."""
    path = tmp_path / "trend.jsonl"
    labels = ["first", "a\u2028b\x85c", "d\udcffe", "last"]
    for label in labels:
        append_moment(path, moment(results[0], "2026-01-01", label))
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert [one.label for one in read_history(path)] == ["first", "a\u2028b\x85c", "d\\udcffe", "last"]


def test_a_history_without_any_value_is_drawn(results: list[GateResult], tmp_path: Path) -> None:
    """Of runs that have no guarantee and nothing else that decides: no point, and a page that says so."""
    one = history(results)[0]
    bare = one.model_copy(update={"metrics": tuple(p.model_copy(update={"value": None}) for p in one.metrics)})
    write_trend([bare], tmp_path / "trend.svg")
    text = trend_page([bare])
    assert f"{len(one.metrics)} values were not measured, or are no guarantee" in text


def test_a_metric_of_a_newer_version_keeps_its_columns(results: list[GateResult]) -> None:
    one = history(results)[1]
    newer = one.model_copy(update={"metrics": (one.metrics[0].model_copy(update={"metric": "charm"}), *one.metrics)})
    table = trend_page([newer]).partition('id="last-title"')[2].partition("</table>")[0]
    assert {row.count("<td") for row in table.partition("<tbody>")[2].split("</tr>")[:-1]} == {7}
    assert "charm" in table
