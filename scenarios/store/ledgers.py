"""The ledger on disk: what a cell is about to release, written before it begins, and every attempt to run it.

``ledger/<hash>.json`` holds one entry per attempt, with its planned releases where its conditions are new. An attempt
under the same conditions (source and versions of software, model of the processor, data) repeats the same releases bit
for bit, so it counts once. Under other conditions its noise, batches and secret cohorts are drawn anew
(:class:`~autoflip_secure.seeds.PrivateDraws`), so it is another, independent release and counts again. So is a part of
a block that did not fit into memory, unless its numbers are known to be the same to the bit. With
``privacy.noise_source: system`` no attempt can be repeated, so each has a word of its own among its conditions.

That a ledger is gone shows where its cell is there, or where the manifest says that the cell was begun.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from autoflip_secure.errors import StoreError
from autoflip_secure.federation.measures import versions
from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.files.checksums import with_checksum, without_checksum
from autoflip_secure.files.durable import write_whole
from autoflip_secure.files.regular_files import gone, parse_json, read_regular
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.records.privacy import Release
from autoflip_secure.runtime.processor import identity
from autoflip_secure.scenarios.config.loading import CellSpec
from autoflip_secure.scenarios.config.plan import Block
from autoflip_secure.scenarios.store.fingerprints import own_source, read_by
from autoflip_secure.terminal.counting import some

_UNCOUNTED = (
    "so what was released before cannot be counted; restore it, or use a new results folder and count what this one "
    "released beside it"
)

_DRAWS = "Philox, SHA-512, by cell and conditions"  # change it when private draws change: an attempt is another then
_COUNTED = ("versions", "inputs", "once", "together")


@dataclass(frozen=True)
class Attempts:
    """How often a cell was begun, and under which conditions."""

    attempts: int
    conditions: tuple[str, ...]  # each once, in the order in which they first were; those of now are among them
    planned: Mapping[str, list[Any]] = field(default_factory=dict)  # conditions -> releases, as the ledger has them


def private(spec: CellSpec) -> bool:
    """Whether the cell has a ledger."""
    return isinstance(spec.settings.privacy, ClientPrivacy)


def under_conditions(blocks: Iterable[Block], inputs: Mapping[str, str]) -> list[Block]:
    """The blocks with the conditions of now in every private cell, from which its private draws follow."""
    now = conditions()
    return [replace(b, cells=tuple(_under(spec, now, inputs, _together(b)) for spec in b.cells)) for b in blocks]


def _together(block: Block) -> dict[str, str]:
    """A part of a block may have other last bits than the block, and the noise of the one must not meet the other."""
    return {} if block.of is None else {"together": digest({"cells": block.keys})}


def tried_again(part: Block, *, same: bool) -> Block:
    """A part of a block that was begun whole and did not fit into memory, under the conditions of another attempt.

    Args:
        part: of the block, whose cells have the conditions of the first attempt.
        same: the numbers of a cell are equal to the bit whatever runs beside it: then the second attempt repeats the
            first, unless its noise is new in every run.
    """

    def anew(spec: CellSpec) -> CellSpec:
        if not private(spec):
            return spec
        attempt = {**parse_json(spec.conditions), **({} if same else _together(part))}
        if "once" in attempt:
            attempt["once"] = secrets.token_hex(16)
        return replace(spec, conditions=_what_counts(attempt))

    return replace(part, cells=tuple(map(anew, part.cells)))


def _under(spec: CellSpec, now: Mapping[str, str], inputs: Mapping[str, str], together: Mapping[str, str]) -> CellSpec:
    if not private(spec):
        return spec
    own: dict[str, Any] = {what: inputs[what] for what in read_by(spec.settings) if what in inputs}
    privacy = spec.settings.privacy
    assert isinstance(privacy, ClientPrivacy)
    if privacy.accountant == "pld" and privacy.target_epsilon is not None:  # it chose the noise
        now = {**now, "dp-accounting": version("dp-accounting")}
    attempt: dict[str, Any] = {"versions": now, "inputs": own, **together}
    if privacy.noise_source == "system":
        attempt["once"] = secrets.token_hex(16)
    return replace(spec, conditions=_what_counts(attempt))


def announce(folder: Path, planned: Iterable[tuple[CellSpec, list[Release]]]) -> dict[str, Attempts]:
    """Note, for every cell that is about to run, :func:`under_conditions`, what it will release and that it is tried.

    Raises:
        StoreError: an earlier ledger is damaged or cannot be read, so that what was released before cannot be counted.
        OSError: the ledger cannot be written.
    """
    found = {}
    for spec, releases in planned:
        path = ledger_file(folder, spec.key)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        before, now = attempts_at(path), {**parse_json(spec.conditions), "began": began}
        if spec.conditions not in map(_what_counts, before):
            now["planned"] = [release.model_dump(mode="json") for release in releases]
        tried = [*before, now]
        write_attempts(path, tried)
        found[spec.key] = counted_attempts(tried)
    return found


def write_attempts(path: Path, tried: list[dict[str, Any]]) -> None:
    """Write the ledger of a cell.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(exist_ok=True)
    document = with_checksum({"cell": path.stem, "attempts": tried})
    write_whole(path, json.dumps(document, indent=1) + "\n")


def counted_attempts(tried: list[dict[str, Any]]) -> Attempts:
    """What the attempts of a ledger come to."""
    planned = {_what_counts(attempt): attempt["planned"] for attempt in tried if "planned" in attempt}
    return Attempts(len(tried), tuple(dict.fromkeys(map(_what_counts, tried))), planned)


def united(ledgers: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every attempt of several ledgers of one cell once, in the order of time.

    An attempt that stands in two of them (a folder that was copied) is the same attempt.
    """
    found = {canonical(attempt): attempt for ledger in ledgers for attempt in ledger}
    return sorted(found.values(), key=lambda attempt: (str(attempt.get("began", "")), canonical(attempt)))


def released(path: Path) -> dict[str, list[Any]]:
    """A ledger file as conditions -> the releases that were planned under them.

    Raises:
        StoreError: it is damaged or cannot be read.
    """
    return dict(counted_attempts(attempts_at(path)).planned)


def ledger_file(folder: Path, key: str) -> Path:
    """Where the ledger of a cell is."""
    return folder / "ledger" / f"{key}.json"


def refuse_without_ledger(folder: Path, begun: Iterable[str]) -> None:
    """Cells that were begun before are not begun again without their ledger.

    Raises:
        StoreError: a ledger is gone, so that what was released before cannot be counted.
    """
    for path in (ledger_file(folder, key) for key in sorted(begun)):
        if gone(path):
            raise StoreError(f"{path} is missing, and its cell was begun before, {_UNCOUNTED}")


def without_ledger(folder: Path, begun: Iterable[str]) -> list[str]:
    """A sentence if ledgers of cells that were begun are gone, and one for each that is damaged."""
    lost = [key for key in sorted(set(begun)) if gone(ledger_file(folder, key))]
    there = [ledger_file(folder, key) for key in sorted(set(begun) - set(lost))]
    found = [sentence for path in there if (sentence := _damage(path)) is not None]
    if not lost:
        return found
    cells = "1 private cell has" if len(lost) == 1 else f"{len(lost)} private cells have"
    return [
        f"{cells} no ledger file any more ({some(lost, 2)}): a record counts what had been released when it was "
        "written, and whether more was released after that cannot be said.",
        *found,
    ]


def _damage(path: Path) -> str | None:
    """One sentence about a ledger that cannot be read; None: it can."""
    try:
        attempts_at(path)
    except StoreError as error:
        why = str(error).removesuffix(f", {_UNCOUNTED}")
        return f"{why}: the record of its cell says what had been released when it was written, and no more is known."
    return None


def conditions() -> dict[str, str]:
    """What the last bits of a release may depend on: versions, and our own source, which changes between them too."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        **versions(),
        "processor": identity(),
        "source": own_source(),
        "opacus": version("opacus"),
        "gpu": gpu,
        "private draws": _DRAWS,
    }


def _what_counts(attempt: Mapping[str, Any]) -> str:
    return canonical({name: attempt[name] for name in _COUNTED if name in attempt})


def attempts_at(path: Path) -> list[dict[str, Any]]:
    """Every attempt at a cell, none if it has no ledger; a file without a checksum, from before, is taken as it is.

    Raises:
        StoreError: it is damaged or cannot be read.
    """
    if gone(path):
        return []
    try:
        document = without_checksum(parse_json(read_regular(path)))
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}), {_UNCOUNTED}") from error
    except (ValueError, StoreError) as error:
        raise StoreError(f"{path} is damaged ({error}), {_UNCOUNTED}") from error
    attempts = document.get("attempts") if isinstance(document, dict) and document.get("cell") == path.stem else None
    if not isinstance(attempts, list) or not all(map(_is_attempt, attempts)):
        raise StoreError(f"{path} is damaged (it is not the ledger of its cell), {_UNCOUNTED}")
    if attempts and "planned" in document:  # as the first edition wrote it: one list, of all its attempts
        attempts = [{**attempt, "planned": document["planned"]} for attempt in attempts]
    return attempts


def _is_attempt(attempt: Any) -> bool:
    """Whether it says under which conditions it was, and, where these were new, what was planned."""
    return (
        isinstance(attempt, dict)
        and isinstance(attempt.get("versions"), dict)
        and isinstance(attempt.get("inputs", {}), dict)
        and isinstance(attempt.get("planned", []), list)
    )
