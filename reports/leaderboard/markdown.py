"""A board as Markdown tables, for documentation: a file of its own, or between two marks of a page that is there."""

from __future__ import annotations

from pathlib import Path

from autoflip_secure.errors import InputError
from autoflip_secure.files.regular_files import gone, read_regular
from autoflip_secure.reports.leaderboard import wording
from autoflip_secure.reports.leaderboard.ranking import Leaderboard, Standing, View
from autoflip_secure.reports.pages.markdown import escape
from autoflip_secure.reports.pages.writing import write
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.wording.phrases import bracket

LAST = "<!-- end of the board -->"
_MARK = "<!-- board "  # with which that of any board begins


def first_mark(board: str) -> str:
    """The mark before the tables of a board."""
    return f"{_MARK}{board}: autoflip-secure leaderboard -->"


def write_markdown(board: Leaderboard, path: Path) -> None:
    """Write the tables to ``path``; where it is a page with the marks of this board, between them and nothing else.

    Raises:
        InputError: it is a file without the marks, or cannot be read.
        StoreError: it cannot be written.
    """
    text, mark = markdown(board), first_mark(board.terms.name)
    if gone(path):
        write(path, f"{mark}\n\n{text}\n\n{LAST}\n")
        return
    try:
        page = read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--markdown {path}: cannot be read; give a Markdown page, or a new file") from error
    before, found, rest = page.partition(mark)
    inside, end, after = rest.partition(LAST)
    if not found or not end or _MARK in inside:
        raise InputError(
            f"--markdown {path}: is there, without the lines {mark} and {LAST} between which the board goes; add them, "
            "or give a new file"
        )
    write(path, f"{before}{mark}\n\n{text}\n\n{LAST}{after}")


def markdown(board: Leaderboard) -> str:
    """A sentence, the table over all settings, and one that has a column for each setting."""
    lines = [*(escape(text) for text in wording.answer(board)[:1]), "", *_table(board.views[0])]
    if len(board.settings) > 1:
        lines += ["", *_settings(board)]
    return "\n".join(lines)


def _table(view: View) -> list[str]:
    return [
        "| rank | defence | worst case | worst attack | it knows | without attack | MB | GFLOP | epsilon "
        "| server must see |",
        "|---|---|--:|---|---|--:|--:|--:|---|---|",
        *map(_row, view.standings),
    ]


def _row(one: Standing) -> str:
    cells = [
        one.tie, escape(one.name), f"{percent(one.worst.accuracy.mean)} {bracket(one.worst.accuracy)}",
        escape(f"{one.worst.attack} · {one.where}"), one.met.threat.knowledge, percent(one.clean.mean),
        wording.mega(one.costs.uplink_bytes + one.costs.downlink_bytes), wording.giga(one.costs.flops_sparse),
        escape(wording.epsilon(one.entry)), escape(wording.sees(one.entry)),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _settings(board: Leaderboard) -> list[str]:
    """Worst case, attack and rank of each defence in each setting."""
    lines = [f"| defence | {' | '.join(escape(view.title) for view in board.settings)} |"]
    lines.append("|---" * (len(board.settings) + 1) + "|")
    found = [{one.name: one for one in view.standings} for view in board.settings]
    for standing in board.overall.standings:
        own = [view[standing.name] for view in found]
        cells = [f"{percent(one.worst.accuracy.mean)} ({escape(one.worst.attack)}), rank {one.tie}" for one in own]
        lines.append(f"| {escape(standing.name)} | {' | '.join(cells)} |")
    return lines
