"""The ledger on disk: what a cell is about to release, written before it begins, and every attempt to run it.

``ledger/<hash>.json`` holds the planned releases and one entry per attempt. An attempt under the same versions repeats
the same releases bit for bit, so it counts once; under other versions it may release something else, and counts again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoflip_secure.errors import StoreError
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.privacy_record import Release
from autoflip_secure.recording import versions
from scenarios.loading import CellSpec
from scenarios.store import write_atomically


@dataclass(frozen=True)
class Attempts:
    """How often a cell was begun, and under how many different versions."""

    attempts: int
    distinct: int


def private(spec: CellSpec) -> bool:
    """Whether the cell has a ledger."""
    return isinstance(spec.settings.privacy, ClientPrivacy)


def announce(folder: Path, planned: Iterable[tuple[CellSpec, list[Release]]]) -> dict[str, Attempts]:
    """Note, for every cell that is about to run, what it will release and that it is tried.

    Raises:
        StoreError: an earlier ledger is damaged, so that what was released before cannot be counted.
    """
    found = {}
    for spec, releases in planned:
        path = folder / "ledger" / f"{spec.key}.json"
        earlier = _attempts(path)
        tried = [*earlier, {"versions": versions(), "began": datetime.now(UTC).isoformat(timespec="seconds")}]
        path.parent.mkdir(exist_ok=True)
        document = {"cell": spec.key, "planned": [r.model_dump(mode="json") for r in releases], "attempts": tried}
        write_atomically(path, json.dumps(document, indent=1) + "\n")
        distinct = len({json.dumps(attempt["versions"], sort_keys=True) for attempt in tried})
        found[spec.key] = Attempts(len(tried), distinct)
    return found


def _attempts(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        attempts = document["attempts"]
        assert isinstance(attempts, list)
        for attempt in attempts:
            assert isinstance(attempt["versions"], dict)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise StoreError(
            f"{path} is damaged, so what was released before cannot be counted; restore it, or use a new results "
            "folder and count what this one released beside it"
        ) from error
    return attempts
