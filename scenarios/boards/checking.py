"""Entries that anybody may have written, held against the board that they say they are of. Nothing is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.board import BoardEntry, read_entry
from autoflip_secure.scenarios.boards.boards import Board, board_names, read_board
from autoflip_secure.scenarios.boards.entries import expected
from autoflip_secure.scenarios.boards.parts import cards, needs, outside
from autoflip_secure.terminal.counting import listed


def board_of(entry: BoardEntry, place: str) -> Board:
    """The board of this package that an entry is of.

    Raises:
        InputError: there is none of that name.
    """
    if entry.board not in board_names():
        known = listed(board_names())
        raise InputError(
            f"{place}: is an entry of {entry.board!r:.120}, which is no board of this package ({known}); give its "
            "scenario with --board FILE"
        )
    return read_board(entry.board)


def checked_entry(path: Path, board: Board | None = None) -> tuple[Board, BoardEntry]:
    """Read an entry and hold it against its board; what its author says of built-in parts is put as it is known here.

    Args:
        path: its file.
        board: of which it has to be; None: the one of this package that it names.

    Raises:
        InputError: it cannot be read, or is not of the board.
    """
    entry, place = read_entry(path), str(path)
    board = board or board_of(entry, place)
    return board, checked(entry, board, place)


def checked(entry: BoardEntry, board: Board, place: str) -> BoardEntry:
    """See :func:`checked_entry`."""
    terms = board.terms
    if (entry.board, entry.terms) != (terms.name, terms.digest):
        raise InputError(
            f"{place}: is of {entry.board} with digest {entry.terms}, not of {terms.name} with digest {terms.digest}; "
            "entries of two boards are never compared"
        )
    if entry.seeds != terms.seeds or len(entry.settings) != len(terms.settings):
        raise InputError(
            f"{place}: has {len(entry.seeds)} seeds in {len(entry.settings)} settings, where {terms.name} has "
            f"{len(terms.seeds)} in {len(terms.settings)}; an entry has all of a board"
        )
    for one in entry.settings:
        if [tried.values for tried in one.tried] != terms.candidates or any(
            len(tried.accuracies) != len(terms.tuning_seeds) for tried in one.tried
        ):
            raise InputError(
                f"{place}: setting {one.setting} was not tuned as {terms.name} says; make the entry from a run of it"
            )
    own = outside(entry.algorithm)
    _check_attacks(entry, board, place, foreign=bool(own.named))
    attacks = [one.model_copy(update={"threat": cards(one.config, None) or one.threat}) for one in entry.attacks]
    known = entry.needs
    if not own.named:
        known = needs(entry.algorithm) | {key: text for key, text in known.items() if key == "explores"}
    return entry.model_copy(update={"attacks": attacks, "outside": own.named, "needs": known})


def _check_attacks(entry: BoardEntry, board: Board, place: str, *, foreign: bool) -> None:
    """It met what it had to meet: of a defence from outside, more than that is its author's."""
    try:
        wanted = [canonical(one) for one in expected(board, entry.algorithm)]
    except InputError as error:
        raise InputError(f"{place}: its defence cannot be used: {str(error).splitlines()[0]}") from error
    met = [canonical(one.config) for one in entry.attacks]
    lacks = [text for text in wanted if text not in met]
    more = [one.config for one in entry.attacks if canonical(one.config) not in wanted]
    if lacks or len(set(met)) < len(met) or (more and not foreign):
        raise InputError(
            f"{place}: has other attacks than {board.terms.name} has for {entry.defence!r:.120}: {len(lacks)} are "
            f"missing and {len(more)} are not of it; make the entry from a run of the board"
        )
    for config in more:
        if any(config.get(key) != value for key, value in board.terms.shared.items()):
            raise InputError(
                f"{place}: its attack {config.get('kind')!r:.120} has other malicious clients than the board "
                f"({', '.join(board.terms.shared)}); make the entry from a run of the board"
            )


def one_each(found: Sequence[tuple[str, BoardEntry]]) -> list[BoardEntry]:
    """Every defence once, of entries with the places that they are from.

    Raises:
        InputError: two entries of one defence have other numbers, or two entries were made from other data.
    """
    kept: dict[str, tuple[str, BoardEntry]] = {}
    for place, entry in found:
        other = kept.setdefault(entry.key, (place, entry))
        if [one.runs for one in other[1].settings] != [one.runs for one in entry.settings]:
            raise InputError(
                f"{place}: is the same defence as in {other[0]} with other numbers; find out which is right with "
                "`autoflip-secure verify`, and leave the other out"
            )
        first = found[0]
        if entry.data != first[1].data:
            raise InputError(
                f"{place}: was made from other data than {first[0]} (fingerprints {entry.data[:16]} and "
                f"{first[1].data[:16]}), so the two cannot be ranked together; leave one out"
            )
    return [entry for _, entry in kept.values()]
