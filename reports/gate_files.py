"""What the gate writes for other machines: JUnit XML for test dashboards, Markdown for a pull request's summary."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from autoflip_secure.errors import StoreError
from reports.gate import GateResult, Line
from reports.gate_decision import Decision
from reports.gate_output import (
    WORST_FIRST,
    bounds_text,
    evidence,
    headline,
    identity,
    margin_text,
    method_text,
    more_text,
    outcome_text,
    unjudged,
    value_text,
    version_changes,
)
from reports.labels import clean_text

MOST_ROWS = 1000  # per table; a job summary holds at most 1 MiB
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")
_SIGN = {Decision.REGRESSION: "❌", Decision.CANNOT_TELL: "❔", Decision.PASS: "✅"}


def junit_xml(result: GateResult) -> str:
    """One test case per metric: a regression is a failure, "cannot tell" and what is missing an error, what has no
    baseline is skipped."""
    cases = [_case(line.algorithm, f"{line.condition}: {line.metric.title}", *_outcome(line)) for line in result.lines]
    absent = "is in the baseline and not in the sweep"
    cases += [_case(e.algorithm, e.condition, "error", "missing", absent) for e in result.missing]
    cases += [_case("no baseline", label, "skipped", "", "nothing to hold it against") for label in unjudged(result)]
    root = ET.Element("testsuites")
    suite = ET.SubElement(root, "testsuite", name="autoflip-secure gate", tests=str(len(cases)))
    for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(tag) is not None for case in cases)))
    properties = ET.SubElement(suite, "properties")
    given = {"verdict": headline(result), "baseline": result.baseline.reason, "created": result.baseline.created}
    given["outcome"] = result.baseline.outcome
    for name, value in (given | {f"margin {k}": f"{v:g}" for k, v in result.margins.items()}).items():
        ET.SubElement(properties, "property", name=name, value=clean_text(value))
    suite.extend(cases)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _outcome(line: Line) -> tuple[str, str, str]:
    tag = {Decision.REGRESSION: "failure", Decision.CANNOT_TELL: "error", Decision.PASS: ""}
    return tag[line.judgement.decision], line.judgement.decision.value, evidence(line)


def _case(classname: str, name: str, tag: str, kind: str, text: str) -> ET.Element:
    case = ET.Element("testcase", classname=clean_text(classname), name=clean_text(name))
    if tag:
        inner = ET.SubElement(case, tag, message=clean_text(text))
        if kind:
            inner.set("type", kind)
    else:
        ET.SubElement(case, "system-out").text = clean_text(text)
    return case


def summary(result: GateResult) -> str:
    """Verdict, a table of what did not pass, and folded away the rest; every text from outside is escaped."""
    open_lines = [line for decision in WORST_FIRST[:2] for line in result.of(decision)]
    told = [
        f"## {_SIGN[result.decision]} Robustness gate: {escape(headline(result))}",
        "",
        f"Baseline: {escape(result.baseline.reason)} ({escape(result.baseline.created)}); {identity(result)}; "
        f"{outcome_text(result)}.",
        "",
    ]
    told += _bullets([escape(text) for text in version_changes(result)])
    told += _bullets(
        [f"**missing**: {escape(e.label)} is in the baseline and not in the sweep" for e in result.missing]
    )
    told += _table(open_lines)
    passed = result.of(Decision.PASS)
    if passed:
        told += [f"<details><summary>{len(passed)} metrics that pass</summary>", "", *_table(passed), "</details>", ""]
    fresh = unjudged(result)
    if fresh:
        told += [f"<details><summary>{len(fresh)} without a baseline, not judged</summary>", ""]
        told += [*_bullets([escape(label) for label in fresh[:MOST_ROWS]]), "</details>", ""]
    return "\n".join(told)


def append(path: Path, text: str) -> None:
    """Add ``text`` to a file that other steps of a job write to as well.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise StoreError(f"{path} ($GITHUB_STEP_SUMMARY): cannot be written ({error.strerror})") from error


def escape(text: object) -> str:
    """Text that Markdown and HTML show as it is, on one line.

    >>> escape("<b>|*x*")
    '&lt;b&gt;\\\\|\\\\*x\\\\*'
    """
    return html.escape(_SPECIAL.sub(r"\\\1", clean_text(text)), quote=False).replace("@", "&#64;")


def _table(chosen: Sequence[Line]) -> list[str]:
    if not chosen:
        return []
    told = [
        "| | algorithm | condition | metric | baseline | new | change (95 % bounds) | margin | seeds | why |",
        "|---|---|---|---|--:|--:|--:|--:|---|---|",
    ]
    for line in chosen[:MOST_ROWS]:
        j, metric = line.judgement, line.metric
        cells = [
            _SIGN[j.decision],
            *map(escape, (line.algorithm, line.condition, metric.title)),
            value_text(metric, j.comparison.baseline),
            value_text(metric, j.comparison.new),
            bounds_text(metric, j),
            margin_text(metric, j.margin),
            method_text(j),
            j.reason + more_text(j),
        ]
        told.append(f"| {' | '.join(cells)} |")
    if len(chosen) > MOST_ROWS:
        told.append(f"\n{len(chosen) - MOST_ROWS} more are left out here; the JSON output has them all.")
    return [*told, ""]


def _bullets(texts: Sequence[str]) -> list[str]:
    return [*(f"- {text}" for text in texts), ""] if texts else []
