"""Entries that anybody may have written, held against the board that they say they are of. Nothing is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.board import BoardEntry, read_entry
from autoflip_secure.scenarios.boards.boards import Board, attacks_of, board_names, read_board
from autoflip_secure.scenarios.boards.parts import Outside, cards, is_algorithm, is_attack, needs, outside
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
    if entry.privacy and all(one["privacy"]["kind"] == "none" for one in terms.settings):
        raise InputError(
            f"{place}: states an epsilon, and nothing is proven of any run of {terms.name}, which has no privacy "
            "mechanism; leave `privacy` empty"
        )
    own = outside(entry.algorithm)
    _check_attacks(entry, board, place, own)
    attacks = [one.model_copy(update={"threat": cards(one.config, None) or one.threat}) for one in entry.attacks]
    known, sources = entry.needs, entry.sources
    if not own.named:
        sources = {}  # it has no code from outside, and is one defence with every entry of it
        known = needs(entry.algorithm) | {key: text for key, text in known.items() if key == "explores"}
    return entry.model_copy(update={"attacks": attacks, "outside": own.named, "needs": known, "sources": sources})


def _check_attacks(entry: BoardEntry, board: Board, place: str, own: Outside) -> None:
    """It is what it is called, and met what it had to; of a defence from outside, more than that is its author's."""
    try:
        scenario = board.scenario(own.stand_in)
    except InputError as error:
        raise InputError(f"{place}: its defence cannot be used: {str(error).splitlines()[0]}") from error
    as_run = entry.algorithm if own.named else scenario.cells[0].config["algorithm"]
    named = entry.defence == entry.algorithm.get("name")
    if not (named and is_algorithm(entry.algorithm) and as_run == entry.algorithm):
        raise InputError(
            f"{place}: its algorithm is not written as a run of {entry.defence!r:.120} has it; make the entry from a "
            "run of the board"
        )
    wanted = [canonical(one) for one in attacks_of(scenario)]
    met = [canonical(one.config) for one in entry.attacks]
    lacks = [text for text in wanted if text not in met]
    more = [one.config for one in entry.attacks if canonical(one.config) not in wanted]
    if lacks or len(set(met)) < len(met) or (more and not own.named):
        raise InputError(
            f"{place}: has other attacks than {board.terms.name} has for {entry.defence!r:.120}: {len(lacks)} are "
            f"missing and {len(more)} are not of it; make the entry from a run of the board"
        )
    for config in more:
        kind = config.get("kind")
        if not isinstance(kind, str) or kind in ("none", "several") or not is_attack(config):
            raise InputError(
                f"{place}: its attack {kind!r:.120} is no attack with options as a run has them; make the entry from a "
                "run of the board"
            )
        if any(config.get(key) != value for key, value in board.terms.shared.items()):
            raise InputError(
                f"{place}: its attack {kind!r:.120} has other malicious clients than the board "
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
