"""The ledger on disk: what a cell is about to release, written before it begins, and every attempt to run it.

``ledger/<hash>.json`` holds the planned releases and one entry per attempt. An attempt under the same conditions
(software, processor, data, source of the model) repeats the same releases bit for bit, so it counts once; under other
conditions it may release something else, and counts again.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from autoflip_secure.errors import StoreError
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.privacy_record import Release
from autoflip_secure.recording import versions
from scenarios.fingerprints import read_by
from scenarios.loading import CellSpec
from scenarios.regular import read_regular
from scenarios.store import write_atomically


@dataclass(frozen=True)
class Attempts:
    """How often a cell was begun, and under how many different conditions."""

    attempts: int
    distinct: int


def private(spec: CellSpec) -> bool:
    """Whether the cell has a ledger."""
    return isinstance(spec.settings.privacy, ClientPrivacy)


def announce(
    folder: Path, planned: Iterable[tuple[CellSpec, list[Release]]], inputs: Mapping[str, str]
) -> dict[str, Attempts]:
    """Note, for every cell that is about to run, what it will release and that it is tried.

    Args:
        folder: results folder.
        planned: cells and what they will release.
        inputs: fingerprints of what cells read.

    Raises:
        StoreError: an earlier ledger is damaged or cannot be read, so that what was released before cannot be counted.
        OSError: the ledger cannot be written.
    """
    found = {}
    for spec, releases in planned:
        path = folder / "ledger" / f"{spec.key}.json"
        own = {what: inputs[what] for what in read_by(spec.settings) if what in inputs}
        now = {"versions": conditions(), "inputs": own, "began": datetime.now(UTC).isoformat(timespec="seconds")}
        tried = [*_attempts(path), now]
        path.parent.mkdir(exist_ok=True)
        document = {"cell": spec.key, "planned": [r.model_dump(mode="json") for r in releases], "attempts": tried}
        write_atomically(path, json.dumps(document, indent=1) + "\n")
        found[spec.key] = Attempts(len(tried), len({_what_counts(attempt) for attempt in tried}))
    return found


def conditions() -> dict[str, str]:
    """Versions, and what else the last bits of a release may depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {**versions(), "opacus": version("opacus"), "cpu": cpu, "gpu": gpu}


def _what_counts(attempt: dict[str, Any]) -> str:
    return json.dumps([attempt["versions"], attempt.get("inputs")], sort_keys=True)


def _attempts(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        document = json.loads(read_regular(path))
        attempts = document["attempts"]
        assert isinstance(attempts, list)
        for attempt in attempts:
            assert isinstance(attempt["versions"], dict)
            assert isinstance(attempt.get("inputs", {}), dict)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}), so what was released before cannot be counted; make it "
            "readable, or use a new results folder and count what this one released beside it"
        ) from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise StoreError(
            f"{path} is damaged, so what was released before cannot be counted; restore it, or use a new results "
            "folder and count what this one released beside it"
        ) from error
    return attempts
