"""The verdict as GitHub-flavoured Markdown: a few sentences, one table, the caveats, a link. For a pull request.

Nothing that came from a scenario or a record can become markup, a link, a mention or a second line: see :func:`escape`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reports.comparisons import Standing, Summary
from reports.labels import clean_text
from reports.study import Study
from reports.verdict import Opening, bracket, percent, points

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$#])")
_JOINER = "\u2060"  # invisible, without width: breaks what GitHub would turn into a link or a mention
MISSING_NAMED = 10


def escape(text: object, *, start: bool = True) -> str:
    """``text`` on one line, as Markdown that shows exactly these characters and nothing else.

    ``start``: it may stand at the start of a line, where a dash would open a list.

    >>> print(escape("a|b `c` <d>"))
    a\\|b \\`c\\` \\<d\\>
    """
    line = _MARKUP.sub(r"\\\1", clean_text(text))
    line = re.sub(r"@(?=\w)", f"@{_JOINER}", line)
    line = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp)(?=:)", rf"\1{_JOINER}", line)
    line = re.sub(r"(?i)\bwww(?=\.)", f"www{_JOINER}", line)
    if not start:
        return line
    return re.sub(r"^([-+=]|\d+(?=[.)](?:\s|$)))", _first, line)


def _first(match: re.Match[str]) -> str:
    """What would open a list or underline a heading when a line begins with it."""
    text = match[1]
    return f"{text}{_JOINER}" if text[0].isdigit() else f"\\{text}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A GitHub table: the first column left, the others right. Cells are escaped."""

    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(escape(cell, start=False) for cell in cells)} |"

    return [line(header), "|:--" + "|--:" * (len(header) - 1) + "|", *map(line, rows)]


def summary(
    study: Study,
    opening: Opening,
    *,
    name: str,
    missing: Sequence[str] = (),
    notes: Sequence[str] = (),
    link: str = "report.html",
) -> str:
    """The report's first screen as Markdown.

    Args:
        study: the records, sorted.
        opening: the texts of the report's first screen.
        name: of the sweep.
        missing: names of the cells that are missing, a line each.
        notes: what was left out of the folder, and why.
        link: the HTML file, beside this one.
    """
    lines = [f"### {escape(opening.headline)}", "", f"Sweep **{escape(name)}**. {escape(opening.asked)}", ""]
    if opening.question:
        lines[2:2] = [f"> {escape(opening.question)}", ""]
    for sentence in opening.answer:
        lines += [escape(sentence), ""]
    lines += [*_scoreboard(study, opening.standings), ""]
    if missing:
        more = f" and {len(missing) - MISSING_NAMED} more" if len(missing) > MISSING_NAMED else ""
        named = "; ".join(escape(line) for line in missing[:MISSING_NAMED])
        lines += [f"**Not finished.** Missing: {named}{more}.", ""]
    lines += ["**Keep in mind**", ""]
    lines += [f"- {escape(text)}" for text in [*notes, *opening.caveats]]
    lines += ["", f"Figures, statistics and configuration: [{escape(link)}]({link})", ""]
    return "\n".join(lines)


def _scoreboard(study: Study, standings: Sequence[Standing]) -> list[str]:
    kinds = [(k, t) for k, t in (("attacked", "under attack"), ("clean", "without attack")) if _any(standings, k)]
    header = ["Algorithm"]
    for _, title in kinds:
        header += [f"Accuracy {title}"] + ([f"Difference to {study.baseline}"] if study.baseline else [])
    header += ["Bytes sent", "FLOPs, compacted"] if study.baseline else []
    rows = []
    for standing in standings:
        row = [standing.algorithm]
        for kind, _ in kinds:
            found: Summary | None = getattr(standing, kind)
            row.append(f"{percent(found.accuracy.mean)} {_ends(found, False)}" if found else "–")
            if study.baseline:
                row.append(_difference(found, standing.algorithm == study.baseline))
        if study.baseline:
            row += [_share(standing.uplink), _share(standing.flops.get("compacted"))]
        rows.append(row)
    return table(header, rows)


def _any(standings: Sequence[Standing], kind: str) -> bool:
    return any(getattr(standing, kind) for standing in standings)


def _difference(found: Summary | None, reference: bool) -> str:
    if found is None or found.against is None:
        return "reference" if reference else "–"
    word = "equal" if found.against.verdict.name == "EQUAL" else found.against.verdict.value
    return f"{word}, {points(found.against.difference.mean)} {_ends(found, True)}"


def _ends(found: Summary, difference: bool) -> str:
    interval = found.against.difference if difference and found.against else found.accuracy
    return bracket(interval, signed=difference) if interval.low is not None else "(one seed)"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
