"""What the gate writes for other machines: JUnit XML for test dashboards, Markdown for a pull request's summary."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from autoflip_secure.errors import StoreError
from autoflip_secure.files.durable import unwritable
from autoflip_secure.reports.gate.decision import Decision
from autoflip_secure.reports.gate.gate import GateResult, Line
from autoflip_secure.reports.gate.output import (
    WORST_FIRST,
    advisory_text,
    bounds_text,
    changes,
    evidence,
    headline,
    identity,
    margin_text,
    method_text,
    more_text,
    open_advisory,
    outcome_text,
    unjudged,
    value_text,
    version_changes,
)
from autoflip_secure.reports.gate.power import power_of
from autoflip_secure.reports.pages.fitting import Page
from autoflip_secure.reports.pages.markdown import unlinked
from autoflip_secure.reports.study.labels import clean_text, shorten

_LONGEST = 300  # characters of a name or a reason
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!$])")
_SIGN = {Decision.REGRESSION: "❌", Decision.CANNOT_TELL: "❔", Decision.PASS: "✅"}


def junit_xml(result: GateResult) -> str:
    """One test case per metric: a regression is a failure, "cannot tell" and what is missing an error, what has no
    baseline is skipped; what is advisory passes, with what was found as its output."""
    cases = [_case(line.algorithm, _named(line), *_outcome(line)) for line in result.lines]
    absent = "is in the baseline and not in the sweep"
    cases += [_case(e.algorithm, e.condition, "error", "missing", absent) for e in result.missing]
    cases += [_case("no baseline", label, "skipped", "", "nothing to compare it with") for label in unjudged(result)]
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


def _named(line: Line) -> str:
    return f"{line.condition}: {line.metric.title}{' (advisory)' if line.advisory else ''}"


def _outcome(line: Line) -> tuple[str, str, str]:
    if line.advisory:
        return "", "", f"advisory, {line.judgement.decision.value}: {evidence(line)}"
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
    """Verdict, what did not pass, and folded away the rest, in at most :data:`~.MOST_CHARACTERS`.

    What matters most comes first, and what finds no room is counted. Every text from outside is escaped.
    """
    page = Page()
    told = f"{escape(result.baseline.reason)} ({escape(result.baseline.created)})"
    page.add(
        [
            f"## {_SIGN[result.decision]} Robustness gate: {escape(headline(result))}", "",
            f"Baseline: {told}; {identity(result)}; {outcome_text(result)}.", "",
            *((f"Advisory: {escape(advisory_text(result))}.", "") if result.advisory else ()),
            *((f"{escape(power.words)}.", "") if (power := power_of(result)) is not None else ()),
        ]
    )  # fmt: skip
    sections = [
        _Section(
            "settings that it was compared across", bullets=[f"compared across {escape(x)}" for x in result.across]
        ),
        _Section("metrics that did not pass", rows=[_row(line) for d in WORST_FIRST[:2] for line in result.of(d)]),
        _Section(
            "missing configurations",
            bullets=[f"**missing**: {escape(e.label)} is in the baseline and not in the sweep" for e in result.missing],
        ),
        _Section("inputs that changed", bullets=[escape(text) for text in changes(result)]),
        _Section("versions that changed", bullets=[escape(text) for text in version_changes(result)]),
        _Section("metrics that pass", rows=[_row(line) for line in result.of(Decision.PASS)], folded=True),
        _Section("advisory metrics", rows=[_row(line) for line in _advisory(result)], folded=True),
        _Section("without a baseline, not judged", bullets=[escape(text) for text in unjudged(result)], folded=True),
    ]
    for number, section in enumerate(sections, start=1):
        _write(page, section, keep=_HEADING * (len(sections) - number))
    return page.text()


def _advisory(result: GateResult) -> list[Line]:
    """Worst first."""
    first = open_advisory(result)
    return [*first, *(line for line in result.advisory if line not in first)]


@dataclass(frozen=True)
class _Section:
    what: str  # its items are, in the plural
    rows: Sequence[str] = ()
    bullets: Sequence[str] = ()
    folded: bool = False


_HEADING = 500  # characters that every section may need even without its items
_TABLE = (
    "| | algorithm | condition | metric | baseline | new | change (95 % bounds) | margin | seeds | why |",
    "|---|---|---|---|--:|--:|--:|--:|---|---|",
)


def _write(page: Page, section: _Section, keep: int) -> None:
    """One section, with as many of its items as leave ``keep`` characters and room for its own end."""
    items = [*section.rows, *(f"- {text}" for text in section.bullets)]
    if not items:
        return
    fits = Page(page.left - keep - _HEADING)
    dropped = fits.add(items)
    if section.folded:
        page.add([f"<details><summary>{len(items)} {section.what}</summary>", ""])
    page.add([*(_TABLE if section.rows and fits.lines else ()), *fits.lines, *([""] if fits.lines else [])])
    if dropped:
        of = f"{dropped} of the {len(items)} {section.what}"
        are = "is" if dropped == 1 else "are"
        page.add([f"{of} {are} left out here; the JUnit and JSON output have them all.", ""])
    if section.folded:
        page.add(["</details>", ""])


def append(path: Path, text: str) -> None:
    """Add ``text`` to a file that other steps of a job write to as well.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        way_out = "set GITHUB_STEP_SUMMARY to another file, or to nothing"
        raise StoreError(f"{path} ($GITHUB_STEP_SUMMARY): {unwritable(error, way_out)}") from error


def escape(text: object) -> str:
    """Text that Markdown and HTML show as it is, on one line and not longer than a name should be; no link, no formula.

    >>> escape("<b>|*x*")
    '&lt;b&gt;\\\\|\\\\*x\\\\*'
    """
    line = unlinked(_SPECIAL.sub(r"\\\1", shorten(clean_text(text), _LONGEST)))
    return html.escape(line, quote=False).replace("@", "&#64;")


def _row(line: Line) -> str:
    j, metric = line.judgement, line.metric
    cells = [
        "ⓘ" if line.advisory else _SIGN[j.decision],
        *map(escape, (line.algorithm, line.condition, metric.title)),
        value_text(metric, j.comparison.baseline),
        value_text(metric, j.comparison.new),
        bounds_text(metric, j),
        margin_text(metric, j.margin),
        method_text(j),
        escape(j.reason) + more_text(j),
    ]
    return f"| {' | '.join(cells)} |"
