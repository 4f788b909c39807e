"""``leaderboard``: defences on a board beside each other, from results folders and from entries of others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.session import Json, exit_codes, prepare, tell, this_command
from autoflip_secure.errors import InputError
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.records.board import BoardEntry
    from autoflip_secure.reports.leaderboard.ranking import Leaderboard
    from autoflip_secure.scenarios.boards.boards import Board

BoardFile = Annotated[
    Path | None,
    typer.Option("--board", metavar="FILE", help="A board of your own: its scenario file. Default: the package's."),
]
_MOST_FILES = 10_000  # entries of a folder


def leaderboard(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="DIR|ENTRY…", help="Results folders of a board, entries, or folders of entries."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page.")] = Path("leaderboard.html"),
    entries: Annotated[
        Path | None, typer.Option("--entries", metavar="DIR", help="Also write an entry for each defence here.")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Also write Markdown tables; into a page, between its marks."),
    ] = None,
    board_file: BoardFile = None,
    as_json: Json = False,
) -> None:
    """Rank defences that were run on one board by what the attack that is worst for each leaves of it.

    A board is a scenario in which nothing but the defence may differ: `autoflip-secure sweep board-digits-1 --set
    'sweep.algorithm=[{name: mine, pruner: none, aggregator: {kind: "my_rules:Mine"}}]'`. Runs of other scenarios are
    refused, and so are entries that do not fit.
    """
    with exit_codes(None, as_json):
        for place in places:
            _check_there(place)
        prepare()
        from autoflip_secure.reports.leaderboard.markdown import write_markdown
        from autoflip_secure.reports.leaderboard.page import write_leaderboard
        from autoflip_secure.reports.leaderboard.ranking import leaderboard as rank
        from autoflip_secure.reports.pages.writing import write
        from autoflip_secure.scenarios.boards.boards import read_board
        from autoflip_secure.scenarios.boards.checking import one_each

        board = None if board_file is None else read_board(board_file)
        found: list[tuple[str, BoardEntry]] = []
        for place in places:
            board, own = _entries(place, board)
            found += own
        assert board is not None, "every place has an entry, and every entry a board"
        made = rank(board.terms, board.question, one_each(found))
        files = _files(made, entries) if entries is not None else {}
        write_leaderboard(made, out, command=this_command())
        for path, entry in files.items():
            write(path, entry.text())
        if markdown is not None:
            write_markdown(made, markdown)
        lines = [*_lines(made), f"Leaderboard: {out.resolve().as_uri()}"]
        lines += [f"Entries: {len(files)} in {entries}"] if files else []
        tell({**_summary(made), "page": str(out), "entries": [str(path) for path in files]}, as_json, lines)


def _check_there(place: Path) -> None:
    """Something that may be a results folder, an entry or a folder of entries; said before torch is there."""
    try:
        if place.is_file() or any(True for _ in place.iterdir()):
            return
        why = "is an empty folder"
    except FileNotFoundError:
        why = "no such file or folder"
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
    raise InputError(f"{place}: {why}; give results folders of a board, entries, or folders of entries")


def _entries(place: Path, board: Board | None) -> tuple[Board, list[tuple[str, BoardEntry]]]:
    """What one argument gives, all of one board: the one that is given, or that the first is of."""
    from autoflip_secure.scenarios.boards.checking import checked_entry
    from autoflip_secure.scenarios.boards.entries import folder_entries

    if place.is_file():
        board, entry = checked_entry(place, board)
        return board, [(str(place), entry)]
    if (place / "manifest.json").exists() or (place / "cells").is_dir():
        read = folder_entries(place, board)
        for text in read.unfinished:
            remark(text)
        return read.board, [(str(place), entry) for entry in read.entries]
    files = sorted(place.glob("*.json"))
    if not files or len(files) > _MOST_FILES:
        raise InputError(
            f"{place}: is neither a results folder nor a folder of entries (it has {len(files)} files .json, of 1 to "
            f"{_MOST_FILES:,}); run a board first: autoflip-secure sweep board-digits-1"
        )
    found = []
    for path in files:
        board, entry = checked_entry(path, board)
        found.append((str(path), entry))
    assert board is not None, "there is a file"
    return board, found


def _files(made: Leaderboard, folder: Path) -> dict[Path, BoardEntry]:
    """A file for each defence, named after it; where that file is of something else, its key is part of the name.

    Raises:
        InputError: there is an entry of another board.
    """
    found: dict[Path, BoardEntry] = {}
    taken: set[str] = set()  # small letters: some file systems know no others
    for one in made.overall.standings:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", one.entry.defence)[:100].strip("._") or "defence"
        path = folder / f"{stem}.json"
        if path.name.lower() in taken or not _may_be(path, one.entry):
            path = folder / f"{stem}-{one.entry.key}.json"
            if not _may_be(path, one.entry):
                raise InputError(f"{path}: is there, and is not an entry of {stem}; give another folder with --entries")
        taken.add(path.name.lower())
        found[path] = one.entry
    return found


def _may_be(path: Path, entry: BoardEntry) -> bool:
    """Whether an entry may be written there: nothing is, or an entry of the same defence.

    Raises:
        InputError: what is there is of another board.
    """
    from autoflip_secure.files.regular_files import gone
    from autoflip_secure.records.board import read_entry

    if gone(path):
        return True
    try:
        there = read_entry(path)
    except InputError:
        return False
    if (there.board, there.terms) != (entry.board, entry.terms):
        raise InputError(f"{path}: is an entry of {there.board:.120}; give a folder for each board with --entries")
    return there.key == entry.key


def _lines(made: Leaderboard) -> Sequence[str]:
    from autoflip_secure.reports.leaderboard import wording

    view = made.views[0]
    width = max(len(one.name) for one in view.standings)
    return [
        wording.headline(made),
        *(
            f"  {one.tie:>7}  {one.name:<{width}}  {wording.accuracy(one)}  {one.worst.attack} ({one.where})"
            for one in view.standings
        ),
    ]


def _summary(made: Leaderboard) -> dict[str, Any]:
    """The board as data."""
    return {
        "board": made.terms.name,
        "digest": made.terms.digest,
        "views": [
            {
                "setting": view.title,
                "defences": [
                    {
                        "defence": one.name, "best_rank": one.rank[0], "worst_rank": one.rank[1],
                        "worst_case": one.worst.accuracy.mean, "low": one.worst.accuracy.low,
                        "high": one.worst.accuracy.high, "worst_attack": one.worst.attack, "in_setting": one.where,
                        "attacks": one.worst.attacks, "clean": one.clean.mean,
                        "privacy": [proven.model_dump(mode="json") for proven in one.entry.privacy],
                    }
                    for one in view.standings
                ],
            }
            for view in made.views
        ],
    }  # fmt: skip
