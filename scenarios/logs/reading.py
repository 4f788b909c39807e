"""A log on disk (YAML or JSON, its rounds there or in a CSV file) -> a :class:`.FederationLog` without faults."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoflip_secure.errors import InputError
from autoflip_secure.files.first_bytes import LENGTH, instead
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.key_paths import KeyPath
from autoflip_secure.scenarios.config.messages import explain, mistyped
from autoflip_secure.scenarios.logs.checks import check
from autoflip_secure.scenarios.logs.federation_log import MOST_PARTICIPATIONS, FederationLog
from autoflip_secure.terminal.near_names import nearby, suggest
from autoflip_secure.terminal.visible import short, visible

_MOST_BYTES = 2**29
_NUMBERS = {"round": int, "participants": int, "steps": int, "epochs": int, "clip": float, "noise_multiplier": float,
            "noise_std": float, "batch_rate": float}  # fmt: skip
_OWN = ("steps", "epochs", "batch_rate")  # of a participant; the other columns are of its round
_ALLOWED = ("round", "client", *list(_NUMBERS)[1:])


@dataclass(frozen=True)
class ReadLog:
    """A log without faults, and what it was read from."""

    log: FederationLog
    files: dict[str, str]  # name -> SHA-256


def read_log(path: Path) -> ReadLog:
    """Read and check a log.

    Raises:
        InputError: it cannot be read, or says something impossible; with place, value and way out.
    """
    if path.suffix.lower() == ".csv":
        raise InputError(
            f"{path}: is a table of rounds alone; write the other facts in a YAML file with `rounds: {path.name}`, and "
            "give that (docs/account.md has one to begin with)"
        )
    document = Document.read(path, "log")
    files = {path.name: _digest(path)}
    if isinstance(document.data.get("rounds"), str):
        if not (name := document.data["rounds"]).strip():
            raise InputError(
                f"{document.where(('rounds',))}: rounds is empty; give a CSV file beside the log, or a list"
            )
        table = path.parent / name
        document.data["rounds"] = list(_from_csv(table, document))
        files[table.name] = _digest(table)
    try:
        log = FederationLog.model_validate(document.data)
    except ValidationError as error:
        raise InputError(explain(FederationLog, error, document.where, document.written)) from error
    wrong = [f"{document.where(at)}: {text}" for at, text in mistyped(document.data, log.model_dump())]
    wrong = wrong or [f"{document.where(at)}: {text}" for at, text in check(log)]
    if wrong:
        raise InputError(wrong[0])
    return ReadLog(log, files)


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular(path, _MOST_BYTES)).hexdigest()


def _from_csv(path: Path, document: Document) -> Iterator[dict[str, Any]]:
    """The rounds of a table, in the order of their numbers; ``document`` learns on which lines they stand."""
    rounds: dict[int, dict[str, Any]] = {}
    first: dict[int, int] = {}
    for count, (line, row) in enumerate(_rows(path, document)):
        if count >= MOST_PARTICIPATIONS:
            raise InputError(
                f"{path.name}: more than {MOST_PARTICIPATIONS:,} rows; give the number of participants only"
            )
        number, place = row.pop("round"), f"{path.name}:{line}"
        entry = rounds.setdefault(
            number, {"round": number, **_shared(row), **({} if "participants" in row else _people())}
        )
        begun = first.setdefault(number, line)
        if "participants" in row and begun != line:
            raise InputError(f"{place}: round {number} appears twice (first on line {begun}); keep one")
        if _shared(row) != _shared(entry):
            raise InputError(
                f"{place}: clip or noise of round {number} differs from that on line {begun}; a round has one of each"
            )
        if "participants" in row:
            continue
        if begun != line and not ("client" in row and entry["participants"]):
            raise InputError(
                f"{place}: client: is missing here or on line {begun}; an empty one says that nobody took part in "
                f"round {number}, which has more rows"
            )
        if "client" in row:
            _add(entry, row, place)
        elif own := [key for key in _OWN if key in row]:
            raise InputError(f"{place}: client: is missing, and {own[0]} is of one; name it")
    for index, number in enumerate(sorted(rounds)):
        document.places[("rounds", index)] = f"{path.name}:{first[number]}"
        entry = rounds[number]
        yield {key: value for key, value in entry.items() if value != {}}


def _people() -> dict[str, Any]:
    return {"participants": [], **{key: {} for key in _OWN}}


def _shared(row: dict[str, Any]) -> dict[str, Any]:
    """What is said of the whole round."""
    whole = ("clip", "noise_multiplier", "noise_std", *(("participants", *_OWN) if "participants" in row else ()))
    return {key: row[key] for key in whole if key in row and not isinstance(row[key], list | dict)}


def _add(entry: dict[str, Any], row: dict[str, Any], place: str) -> None:
    client = row["client"]
    if client in entry["participants"]:
        raise InputError(f"{place}: client '{short(client)}' takes part twice in round {entry['round']}; keep one row")
    entry["participants"].append(client)
    for key in _OWN:
        if key in row:
            entry[key][client] = row[key]


def _rows(path: Path, document: Document) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) with numbers for what is one; empty fields are left out."""
    said = f"{document.where(('rounds',))}: rounds = {short(document.data['rounds'])}"
    try:
        content = read_regular(path, _MOST_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{said}: no such file{nearby(path)}; give a CSV file beside the log, or a list") from error
    except OSError as error:
        raise InputError(f"{said}: cannot be read ({error.strerror}); give another file") from error
    if (sentence := instead(content[:LENGTH], "a table of rounds", "give a CSV file", "text")) is not None:
        raise InputError(f"{visible(path)}: {sentence}")
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, _row(f"{path.name}:{reader.line_num}", header, fields)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{visible(path)}: is not a CSV file in UTF-8 ({error}); save it as one") from error


def _check_header(path: Path, header: list[str]) -> None:
    place = f"{path.name}:1"
    for name in header:
        if name not in _ALLOWED:
            raise InputError(f"{place}: unknown column '{short(name)}'; {suggest(name, _ALLOWED)}")
        if header.count(name) > 1:
            raise InputError(f"{place}: column '{name}' appears twice; keep one")
    if "round" not in header or ("client" in header) == ("participants" in header):
        raise InputError(
            f"{place}: the columns should be round, and either client (a row for each client of a round) or "
            "participants (a row for each round: how many took part)"
        )


def _number(text: str, kind: type[int | float]) -> int | float:
    """``1.0`` is whole: tables with an empty field are written so. ``1_1`` is a slip of the pen, and not 11.

    Raises:
        ValueError: it is none.
    """
    if "_" in text:
        raise ValueError(text)
    return kind(text.removesuffix(".0") if kind is int else text)


def _row(place: str, header: list[str], fields: list[str]) -> dict[str, Any]:
    if len(fields) != len(header):
        raise InputError(
            f"{place}: {len(fields)} fields, but {len(header)} columns; complete the row, or quote its commas"
        )
    row: dict[str, Any] = {}
    for name, text in zip(header, map(str.strip, fields), strict=True):
        if not text:
            continue
        try:
            row[name] = _number(text, _NUMBERS[name]) if name in _NUMBERS else text
        except ValueError:
            raise InputError(
                f"{place}: {name} = {short(text)!r}: should be a {'whole ' if _NUMBERS[name] is int else ''}number"
            ) from None
    if "round" not in row:
        raise InputError(f"{place}: round: is missing; number every row")
    if "participants" in header and "participants" not in row:
        raise InputError(f"{place}: participants: is missing; write 0 where nobody took part")
    return row


__all__ = ["KeyPath", "ReadLog", "read_log"]
