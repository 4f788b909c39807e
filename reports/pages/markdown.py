"""The verdict as GitHub-flavoured Markdown for a pull request: a few sentences, the scoreboard, the claims, caveats.

Nothing that came from a scenario or a record can become markup, a link, a mention or a second line: see :func:`escape`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from autoflip_secure.records.compared import ATTACK
from autoflip_secure.reports.claims.findings import Claim, Evidence
from autoflip_secure.reports.claims.words import lost
from autoflip_secure.reports.pages.fitting import Page
from autoflip_secure.reports.pages.run_robustness import Robustness
from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.comparisons import Summary
from autoflip_secure.reports.study.labels import clean_text, percent
from autoflip_secure.reports.study.levels import against_words, level_title
from autoflip_secure.reports.study.scoreboard import Block, Standing
from autoflip_secure.reports.study.study import Study
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.study.worst_cases import WorstCases
from autoflip_secure.reports.tables.run_robustness import Cell
from autoflip_secure.reports.tables.summaries import tally
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.wording.phrases import HOLLOW, bracket, mark, points, settling, short_verdict
from autoflip_secure.reports.wording.verdict import Opening
from autoflip_secure.reports.wording.worst_case import rank
from autoflip_secure.terminal.counting import count_of, some

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$#])")
_JOINER = "\u2060"  # invisible, without width: breaks what GitHub would turn into a link or a mention
MISSING_NAMED = 10
_REMARK = 500  # characters for saying that something is left out


def escape(text: object, *, start: bool = True) -> str:
    """``text`` on one line, as Markdown that shows exactly these characters and nothing else.

    ``start``: it may stand at the start of a line, where a dash would open a list.

    >>> print(escape("a|b `c` <d>"))
    a\\|b \\`c\\` \\<d\\>
    """
    line = unlinked(_MARKUP.sub(r"\\\1", clean_text(text)))
    if not start:
        return line
    return re.sub(r"^([-+=]|\d+(?=[.)](?:\s|$)))", _first, line)


def unlinked(line: str) -> str:
    """``line`` without anything that GitHub would turn into a link or a mention; it looks the same."""
    line = re.sub(r"@(?=\w)", f"@{_JOINER}", line)
    line = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp)(?=:)", rf"\1{_JOINER}", line)
    return re.sub(r"(?i)\bwww(?=\.)", f"www{_JOINER}", line)


def _first(match: re.Match[str]) -> str:
    """What would open a list or underline a heading when a line begins with it."""
    text = match[1]
    return f"{text}{_JOINER}" if text[0].isdigit() else f"\\{text}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = True) -> list[str]:
    """A GitHub table: the first column left, the others right (or left, unless ``numbers``). Cells are escaped."""

    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(escape(cell, start=False) for cell in cells)} |"

    return [line(header), "|:--" + ("|--:" if numbers else "|:--") * (len(header) - 1) + "|", *map(line, rows)]


def summary(
    study: Study,
    opening: Opening,
    claims: Sequence[Claim],
    *,
    name: str,
    robustness: Robustness | None = None,
    backdoors: Sequence[str] = (),
    missing: Sequence[str] = (),
    notes: Sequence[str] = (),
    link: str = "report.html",
    worst: Sequence[WorstCases] = (),
    tuned: Table | None = None,
    cards: Cards | None = None,
) -> str:
    """The report's first screen as Markdown.

    Args:
        robustness: what an attack does beside accuracy.
        backdoors: sentences about them.
        missing: names of the cells that are missing, a line each.
        notes: what was left out of the folder, and why.
        link: the HTML file, beside this one.
        worst: worst cases over the suites of the sweep.
        tuned: what was chosen for every algorithm.
        cards: threat cards of the attacks.
    """
    lines = [f"### {escape(opening.headline)}", "", f"Sweep **{escape(name)}**. {escape(opening.asked)}", ""]
    if opening.question:
        lines[2:2] = [f"> {escape(opening.question)}", ""]
    for sentence in [*opening.training, *(robustness.alarms if robustness else [])]:
        lines += [f"**Note.** {escape(sentence)}", ""]
    for sentence in opening.answer:
        lines += [escape(sentence), ""]
    lines += [*_worst(worst, cards), *_scoreboard(study, opening.blocks)]
    if missing:
        lines += [f"**Not finished.** Missing: {some([*map(escape, missing)], MISSING_NAMED, '; ')}.", ""]
    lines += _robustness(robustness, cards) if robustness else []
    lines += ["**Backdoors**", "", *(f"- {escape(said)}" for said in backdoors), ""] if backdoors else []
    lines += [*_claims(claims), *_tuned(tuned), "**Keep in mind**", ""]
    lines += [f"- {escape(text)}" for text in [*notes, *opening.caveats]]
    return _fitted(lines, ["", f"Figures, statistics and configuration: [{escape(link)}]({link})", ""], link)


def _fitted(lines: Sequence[str], end: Sequence[str], link: str) -> str:
    """The whole, or as much of it as a comment on GitHub takes."""
    page = Page()
    dropped = page.add(lines, keep=sum(map(len, end)) + _REMARK)
    if dropped:
        page.add(["", f"*{dropped} lines are left out, because comments have a limit; {escape(link)} has everything.*"])
    page.add(end)
    return page.text()


def _scoreboard(study: Study, blocks: Sequence[Block]) -> list[str]:
    titles = {"attacked": "under attack", "clean": "without attack"}
    titles = {"clean": ""} if study.compared == ATTACK else titles
    kinds = [(k, title) for k, title in titles.items() if any(getattr(x, k) for b in blocks for x in b.standings)]
    header = [level_title(study.compared)]
    for _, title in kinds:
        header += [f"Accuracy {title}".rstrip()] + ([f"Difference to {against_words(study)}"] if study.baseline else [])
    header += ["Bytes sent", "FLOPs, compacted"] if study.baseline else []
    lines = []
    for block in blocks:
        lines += [f"**{escape(block.title)}**", ""] if block.title else []
        lines += [*table(header, [_line(study, block, one, kinds) for one in block.standings]), ""]
    if any(s and s.against and s.against.lost for b in blocks for x in b.standings for s in (x.clean, x.attacked)):
        lines += [escape(HOLLOW), ""]
    return lines


def _line(study: Study, block: Block, one: Standing, kinds: Sequence[tuple[str, str]]) -> list[str]:
    row = [one.algorithm]
    for kind, _ in kinds:
        found: Summary | None = getattr(one, kind)
        full = getattr(block, kind)
        over = f", {found.conditions} of {full} conditions" if found and found.conditions < full else ""
        row.append(f"{percent(found.accuracy.mean)} {_ends(found, False)}{over}" if found else "–")
        if study.baseline:
            row.append(_difference(found, one.algorithm == study.baseline))
    return [*row, *([_share(one.uplink), _share(one.flops.get("compacted"))] if study.baseline else [])]


def _robustness(found: Robustness, cards: Cards | None) -> list[str]:
    """What an attack does beside accuracy, where it costs the most; nothing where nobody attacks."""
    said = [sentence for sentence in found.said if sentence not in found.alarms]
    shown = found.hardest
    if not shown.lines:
        return []
    rows = [
        (
            f"{line.row.algorithm}, {line.row.condition}",
            *([cards.terms(line.row.condition.attack)] if cards else []),
            *(_shown(cell) for cell in line.cells),
        )
        for line in shown.lines
    ]
    head = ["**Under the attack that costs the most**, mean over seeds with 95 % intervals.", ""]
    header = ["Where", *(["Threat card"] if cards else []), *shown.columns]
    return [*head, *table(header, rows), "", *(f"- {escape(text)}" for text in said), ""]


def _shown(cell: Cell | None) -> str:
    """A number with what lies behind it."""
    return "–" if cell is None else f"{cell.value} {cell.interval}{' ALARM' if cell.alarm else ''}".rstrip()


def _worst(groups: Sequence[WorstCases], cards: Cards | None) -> list[str]:
    """A table of worst cases per setting."""
    lines = []
    for group in groups:
        rows = [
            (
                one.algorithm, f"{percent(one.worst.accuracy.mean)} {_in_brackets(one.worst.accuracy)}",
                one.worst.attack, *([cards.terms(cards.named_by(one.worst.attack))] if cards else []),
                "–" if one.clean is None else percent(one.clean.mean),
                "–" if one.cost is None else points(one.cost.difference.mean), rank(one),
            )
            for one in group.defended
        ]  # fmt: skip
        card = ["Threat card"] if cards else []
        header = ["Algorithm", "Worst case", "Attack", *card, "Without attack", "Cost (points)", "Rank"]
        lines += [f"**Worst case**: {escape(group.where)}", "", *table(header, rows), ""]
    return lines


def _tuned(tuned: Table | None) -> list[str]:
    """What was chosen for every algorithm in every setting; nothing where nothing was tuned."""
    if tuned is None or not tuned.rows:
        return []
    rows = [
        (facet, algorithm, chosen, f"{accuracy:.1f} %", edge or "–")
        for facet, algorithm, chosen, accuracy, _, _, edge in tuned.rows
    ]
    header = ["Setting", "Algorithm", "Chosen", "Accuracy on tuning seeds", "At an end"]
    return ["**Tuned**", "", *table(header, rows, numbers=False), ""]


def _claims(claims: Sequence[Claim]) -> list[str]:
    """Tested claims as a table, the others by name."""
    if not claims:
        return []
    told = [f"**Claims of the paper**, as we read it: of {len(claims)}, {tally(claims)}. {lost(claims)}".strip(), ""]
    tested = [claim for claim in claims if claim.evidence]
    if tested:
        rows = [(claim.says, claim.told, _evidence(claim)) for claim in tested]
        told += [*table(["Claim", "Here", "Evidence"], rows, numbers=False), ""]
    untested = [f"- {escape(claim.says)} **{claim.answer.value}**" for claim in claims if not claim.evidence]
    return [*told, *untested, *([""] if untested else [])]


def _evidence(claim: Claim) -> str:
    """Every place where a claim was tested, with its numbers."""
    return "; ".join(_place(found, len(claim.evidence) > 1) for found in claim.evidence)


def _place(found: Evidence, several: bool) -> str:
    answer = f" ({found.answer.value})" if several else ""
    seeds = f"{count_of(found.interval.n, 'seed')}{settling(found.seeds_needed)}"
    return f"{found.where}{answer}: {found.text}, {seeds}"


def _difference(found: Summary | None, baseline: bool) -> str:
    if found is None or found.against is None:
        return "baseline" if baseline else "–"
    hollow = f"{mark(found.against)} " if found.against.lost else ""
    return (
        f"{hollow}{short_verdict(found.against.verdict)}, {points(found.against.difference.mean)} {_ends(found, True)}"
    )


def _ends(found: Summary, difference: bool) -> str:
    return _in_brackets(found.against.difference if difference and found.against else found.accuracy, difference)


def _in_brackets(interval: Interval, signed: bool = False) -> str:
    """The interval in brackets, or why there is none."""
    return bracket(interval, signed=signed) if interval.low is not None else "(one seed)"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
