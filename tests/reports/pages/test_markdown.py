"""Markdown for a pull request: read back by a CommonMark parser with GitHub's tables, text is the text that went in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.claims.paper import claims
from autoflip_secure.reports.pages.fitting import MOST_CHARACTERS
from autoflip_secure.reports.pages.markdown import escape, summary, table
from autoflip_secure.reports.pages.report import write_report
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.summaries import tally
from autoflip_secure.reports.wording.verdict import opening

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = (
    "a|b `c` <script>alert(1)</script>\n# d\n- e [x](http://evil) ![y](z) @user #12 *f* ~g~ $h$ &amp; www.evil.org \\"
)


def plain(tokens: list[Token]) -> str:
    """The text a reader sees; anything but text is a failure of the escaping."""
    assert {t.type for t in tokens} <= {"text", "text_special"}, tokens
    return "".join(t.content for t in tokens)


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a document, as rows of cells."""
    found: list[list[list[str]]] = []
    tokens = PARSER.parse(text)
    for previous, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "table_open":
            found.append([])
        if token.type == "tr_open":
            found[-1].append([])
        if token.type == "inline" and previous is not None and previous.type in ("th_open", "td_open"):
            found[-1][-1].append(plain(token.children or []))
    return found


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
    (found,) = tables(text)
    assert [[seen(c) for c in row] for row in found] == [
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


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page with its figures takes seconds, and is not looked at."""
    monkeypatch.setattr("autoflip_secure.reports.pages.report._rendered", lambda *args, **options: "")


@pytest.mark.usefixtures("no_page")
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
    board, robust, judged = tables(text)
    hardest = {found.hardest(facet) for facet in found.facets}
    assert [row[0] for row in robust[1:]] == [
        f"{a}, {c}" for c in found.conditions if c in hardest for a in found.algorithms
    ]
    assert {"last 10 (%)", "trust amplification", "honest flagged (%)"} <= set(robust[0])
    assert (
        "4 malicious of 20 clients, cohorts of 5: at least half of a cohort is malicious with probability 3.2 %"
        in words
    )
    assert [row[0] for row in board[1:]] == [s.algorithm for s in told.standings]
    assert {len(row) for row in board} == {len(board[0])}
    weighed = claims(found)
    assert tally(weighed) in words
    tested = [claim for claim in weighed if claim.evidence]
    assert len(judged) == len(tested) + 1 > 5
    for row, claim in zip(judged[1:], tested, strict=True):
        assert row[:2] == [claim.says, claim.told]
        assert all(seen(e.where) in seen(row[2]) and seen(e.text) in seen(row[2]) for e in claim.evidence)
    for claim in weighed:
        if not claim.evidence:
            assert f"{claim.says} **not tested here**" in words
    assert len(text) < 12000


@pytest.mark.usefixtures("no_page")
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


def test_the_summary_fits_into_a_comment(small: list[RunRecord]) -> None:
    found = study(small)
    rows = compare(found)
    told = opening(found, rows, {"name": "n", "question": "?"}, 0)
    notes = [f"note {number} {'x' * 500}" for number in range(200)]
    text = summary(found, told, claims(found), name="n" * 100_000, notes=notes)
    assert len(text) <= MOST_CHARACTERS
    kept = text.count("- note ")
    assert 50 < kept < 200
    assert "lines are left out, because comments have a limit; report.html has everything" in text
    assert text.endswith("Figures, statistics and configuration: [report.html](report.html)\n")
    assert "left out, because" not in summary(found, told, claims(found), name="n", notes=notes[:3])
