"""What the gate prints and writes: every verdict in every format, and hostile names stay text."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import at
from sizes import sized

from autoflip_secure.errors import StoreError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import effective_margins, make_baseline
from autoflip_secure.reports.gate.decision import Decision
from autoflip_secure.reports.gate.files import append, escape, junit_xml, summary
from autoflip_secure.reports.gate.gate import GateResult, run_gate
from autoflip_secure.reports.gate.output import as_data, lines
from autoflip_secure.reports.pages.fitting import MOST_CHARACTERS
from autoflip_secure.reports.study.labels import clean_text, is_clean

Make = Callable[..., RunRecord]
HOSTILE = "<script>alert('x')</script>|`a`\n**b** &amp; ]]> \x00\x1b[31m \u202e@team \ud800"
IID = {"kind": "iid"}


@pytest.fixture(scope="module")
def result(record: Make, attack: dict[str, Callable[..., dict[str, Any]]]) -> GateResult:
    """A regression, a "cannot tell", passes, something missing and something new; with a hostile algorithm name."""

    def sweep(name: str, harm: dict[str, Any], spread: float = 0.0, loss: float = 0.0) -> list[RunRecord]:
        made = [record(name, IID, harm, seed, rounds=2, label=HOSTILE) for seed in range(5)]
        return [
            at(r, 0.8 - loss + spread * (-1) ** r.seed * r.seed).model_copy(update={"versions": {"a": "|"}})
            for r in made
        ]

    clean, noise = {"kind": "none"}, attack["noise"](0.5)
    held = make_baseline(
        sweep("autoflip", clean) + sweep("autoflip", noise) + sweep("fedavg", clean),
        HOSTILE,
        "<now>",
        effective_margins({}, []),
    )
    now = sweep("autoflip", clean, spread=0.05) + sweep("autoflip", noise, loss=0.1) + sweep("fedavg", noise)
    return run_gate([r.model_copy(update={"versions": {"a": "2"}}) for r in now], held, held.margins)


def test_the_fixture_has_everything(result: GateResult) -> None:
    assert [len(result.of(d)) for d in Decision] == [1, 1, 1]
    assert (len(result.deciding), len(result.advisory)) == (3, 6)
    assert (len(result.missing), len(result.new), result.exit_code) == (1, 1, 1)
    assert is_clean(result.missing[0].config["attack"])


def test_junit_counts_its_cases_and_reads_back(result: GateResult) -> None:
    text = junit_xml(result)
    suite = ET.fromstring(text).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases)) == "11"
    assert [suite.get(k) for k in ("failures", "errors", "skipped")] == ["1", "2", "1"]
    assert [len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error", "skipped")] == [1, 2, 1]
    (failure,) = suite.findall("testcase/failure")
    assert "-0.1000" in (failure.get("message") or "")
    assert all("<script>alert('x')</script>" in (c.get("classname") or "") for c in cases[:8])
    assert "<script>" not in text


def test_markdown_escapes_and_its_tables_are_tables(result: GateResult) -> None:
    text = summary(result)
    assert text.startswith("## ❌ Robustness gate: regression")
    assert "<script" not in text
    assert "\x1b" not in text
    assert "@team" not in text
    text.encode("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 9 + 3 * 2  # three tables with two heading lines each
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {11}
    assert text.index("beyond the margin") < text.index("<details>") < text.index("metrics that pass")
    assert escape("a_b") == r"a\_b"


def test_markdown_has_no_links_formulas_or_markup_from_outside(result: GateResult) -> None:
    """Names come from scenarios and plug-ins, reasons from the neighbours that a baseline names."""
    line = result.of(Decision.REGRESSION)[0]
    judged = replace(line.judgement, reason="ε 1 -> 2; add | remove <img src=x> at δ = 1e-5")
    given = replace(line, condition="https://evil.example www.evil.example $x$", judgement=judged)
    text = summary(replace(result, lines=[given]))
    assert not re.search(r"https?:|www\.", text)
    assert "<img" not in text
    assert r"\$x\$" in text
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in text.splitlines() if row.startswith("|")} == {11}


def test_markdown_fits_into_a_comment_whatever_is_large(result: GateResult) -> None:
    """Many lines, names and reasons without end, many versions: what is worst comes first, the rest is counted."""
    worst, (_, *_), passed = (result.of(d) for d in (Decision.REGRESSION, Decision.CANNOT_TELL, Decision.PASS))
    long = {"condition": "<&@|" * 5000}
    versions = {f"library {number} {'x' * 1000}": "1" for number in range(500)}
    baseline = result.baseline.model_copy(update={"reason": "@<" * 100_000, "versions": versions})
    for lines_ in (
        [*passed * 500, *worst * 2],
        [*passed * 500, *worst * 500],
        [replace(line, **long) for line in [*passed * 60, *worst * 3]],
    ):
        large = replace(
            result,
            lines=lines_,
            missing=result.missing * 300,
            new=result.new * 300,
            new_metrics=["m"] * 9,
            baseline=baseline,
        )
        text = summary(large)
        assert len(text) <= MOST_CHARACTERS
        tables = text.split("| | algorithm")
        shown = [part.count("| ❌ |") for part in tables]
        count = len(large.of(Decision.REGRESSION))
        assert shown[1] == count or f"{count - shown[1]} of the {count} metrics that did not pass are left out" in text
        assert shown[1] >= min(count, 3)
        missing = text.count("- **missing**")
        assert missing == 300 or f"{300 - missing} of the 300 missing configurations are left out here" in text
        assert f"<summary>{len(large.of(Decision.PASS))} metrics that pass</summary>" in text
        assert text.count("<details>") == text.count("</details>") == 2
        assert re.search(r"\d+ of the 501 versions that changed are left out here; the JUnit and JSON output", text)
    assert summary(result).count("left out") == 0


@settings(max_examples=sized(8, 200))
@given(st.text(), st.text(), st.text())
def test_junit_reads_back_whatever_texts_hold(result: GateResult, name: str, condition: str, reason: str) -> None:
    lines_ = [replace(line, algorithm=name, condition=condition) for line in result.lines]
    baseline = result.baseline.model_copy(update={"reason": reason, "created": name})
    text = junit_xml(replace(result, lines=lines_, baseline=baseline))
    suite = ET.fromstring(text.encode("utf-8")).find("testsuite")
    assert suite is not None
    assert {case.get("classname") for case in suite.findall("testcase")[:8]} == {clean_text(name)}


def test_terminal_and_json(result: GateResult) -> None:
    told = "\n".join(lines(result))
    assert told.startswith(
        "gate: regression (3 metrics: 1 regression, 1 cannot tell, 1 pass; 1 of the baseline missing)"
    )
    assert "\x1b" not in told
    assert (
        len(told.splitlines()) == 3 + 1 + 1 + 1 + 1 + 1 + 1
    )  # head, version, regression, open, missing, new, advisory
    assert told.endswith("advisory: 6 metrics shown, never failing: 6 within the margin")
    assert re.search(
        r"cannot tell: .*clean accuracy: .* 5 paired seeds: .*; about \d+ more seeds would settle it", told
    )
    assert "version of a: | in the baseline, 2 now" in told
    data = json.loads(json.dumps(as_data(result), allow_nan=False))
    assert (data["decision"], data["exit_code"], data["level"]) == ("regression", 1, 0.05)
    assert [row["decision"] for row in data["metrics"]].count("pass") == 7
    (worse,) = [row for row in data["metrics"] if row["decision"] == "regression"]
    assert (worse["metric"], worse["change"]) == ("attacked_accuracy", pytest.approx(-0.1))
    assert data["margins"]["attacked_accuracy"] == 0.03


def test_append_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    append(path, "after")
    assert path.read_text() == "before\nafter\n"
    with pytest.raises(StoreError, match="GITHUB_STEP_SUMMARY"):
        append(tmp_path, "x")
