"""Markdown for a pull request: read back by a CommonMark parser with GitHub's tables, text is the text that went in."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from autoflip_secure.record import RunRecord
from reports.comparisons import compare
from reports.html import write_report
from reports.labels import clean_text
from reports.markdown import escape, table
from reports.study import study
from reports.verdict import opening

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = (
    "a|b `c` <script>alert(1)</script>\n# d\n- e [x](http://evil) ![y](z) @user #12 *f* ~g~ $h$ &amp; www.evil.org \\"
)


def plain(tokens: list[Token]) -> str:
    """The text a reader sees; anything but text is a failure of the escaping."""
    assert {t.type for t in tokens} <= {"text", "text_special"}, tokens
    return "".join(t.content for t in tokens)


def cells(text: str) -> list[list[str]]:
    """The cells of the only table of a document."""
    rows: list[list[str]] = []
    tokens = PARSER.parse(text)
    for previous, token in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and previous.type in ("th_open", "td_open"):
            rows[-1].append(plain(token.children or []))
    return rows


def seen(text: str) -> str:
    return text.replace("\u2060", "").replace("\u00a0", " ").strip()


@given(st.one_of(st.text(), st.text(alphabet="-+=#*_`|<>[]()!\\&~$@:/.0123456789 \nahtpw", min_size=1)))
def test_escaped_text_is_one_paragraph_that_reads_the_same(text: str):
    expected = clean_text(text)
    tokens = PARSER.parse(escape(text))
    assert [t.type for t in tokens] == (["paragraph_open", "inline", "paragraph_close"] if expected else [])
    if expected:
        assert seen(plain(tokens[1].children or [])) == expected


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_cells_stay_in_their_column(rows: list[tuple[str, str]]):
    text = "\n".join(table(["left | 1", "right"], rows))
    assert [[seen(c) for c in row] for row in cells(text)] == [
        ["left | 1", "right"],
        *[[clean_text(a), clean_text(b)] for a, b in rows],
    ]


def test_the_parser_would_notice():
    assert [t.type for t in PARSER.parse(HOSTILE)] != ["paragraph_open", "inline", "paragraph_close"]
    with pytest.raises(AssertionError):
        plain(PARSER.parse("a *b* c")[1].children or [])


def test_what_github_adds_is_broken_up():
    text = escape("@user https://evil.org HTTP://x www.evil.org mail@host")
    assert "@u" not in text
    assert "@h" not in text
    assert "https:" not in text
    assert "HTTP:" not in text
    assert "www." not in text


def test_the_summary_says_what_the_report_says(
    small: list[RunRecord], scenario: dict[str, Any], tmp_path: Path, record: Callable[..., RunRecord]
):
    missing = [{"cell": "a", "algorithm": "autoflip", "seed": 9, "axes": {}, "config": None}]
    write_report(small, scenario, tmp_path / "report.html", missing=missing, notes=["One | note."])
    text = (tmp_path / "report.md").read_text()
    found = study(small)
    told = opening(found, compare(found), scenario, 1)
    words = seen(text.replace("\\", ""))
    assert all(seen(sentence) in words for sentence in [told.headline, told.question, *told.answer])
    assert all(seen(caveat) in words for caveat in told.caveats)
    assert "AutoFLIP: seed 9" in words
    assert "One | note." in words
    assert "(report.html)" in text
    board = cells(text)
    assert [row[0] for row in board[1:]] == [s.algorithm for s in told.standings]
    assert len({len(row) for row in board}) == 1
    assert len(text) < 6000


def test_hostile_names_do_not_get_out(
    record: Callable[..., RunRecord], partition: dict[str, Any], attack: dict[str, Any], tmp_path: Path
):
    runs = [
        record(name, partition["iid"], attack["noise"](0.5) | {"note": HOSTILE}, seed, rounds=2, label=label)
        for name, label in (("fedavg", "fedavg"), ("autoflip", HOSTILE))
        for seed in range(2)
    ]
    write_report(runs, {"name": HOSTILE, "question": HOSTILE}, tmp_path / "report.html", notes=[HOSTILE])
    tokens = PARSER.parse((tmp_path / "report.md").read_text())
    inline = [child for token in tokens for child in token.children or []]
    allowed = {"text", "text_special", "softbreak", "strong_open", "strong_close", "link_open", "link_close"}
    assert {t.type for t in inline} <= allowed
    assert [t.attrs["href"] for t in inline if t.type == "link_open"] == ["report.html"]
    assert not any(t.type.startswith(("html", "fence", "code")) for t in tokens)
    assert [t.tag for t in tokens if t.type == "heading_open"] == ["h3"]
