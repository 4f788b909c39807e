"""Which trackers a command asks for: those of this package, an entry point's, or a class of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoflip_secure.errors import AutoflipError, InputError, StoreError
from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.config import tables
from autoflip_secure.scenarios.config.plugin_families import UnknownKindError, outside
from autoflip_secure.scenarios.trackers.base import Tracker, Written
from autoflip_secure.scenarios.trackers.flattened import Begun
from autoflip_secure.terminal.visible import short


def trackers(
    tensorboard: Path | None, mlflow: str | None, sweep: str, others: Sequence[str] = (), wandb: Path | None = None
) -> list[Tracker]:
    """Those that were asked for, for the sweep of that name.

    Args:
        tensorboard: folder; None: not asked for.
        mlflow: URI; None: not asked for.
        sweep: name of the sweep.
        others: ``KIND=PLACE`` or ``KIND`` each, as ``--tracker`` takes them.
        wandb: folder of offline runs; None: not asked for.

    Raises:
        InputError: there is no such tracker, it cannot be used, or its library is not installed (says what to do).
        StoreError: the place cannot be used, or not for that sweep.
    """
    found: list[Tracker] = []
    if tensorboard is not None:
        found.append(tables.TRACKERS["tensorboard"](str(tensorboard), sweep))
    if mlflow is not None:
        found.append(tables.TRACKERS["mlflow"](mlflow, sweep))
    if wandb is not None:
        found.append(tables.TRACKERS["wandb"](str(wandb), sweep))
    return [*found, *(_opened(text, sweep) for text in others)]


def _opened(text: str, sweep: str) -> Tracker:
    kind, _, place = text.partition("=")
    if kind in tables.TRACKERS and not place:
        raise InputError(f"--tracker {short(text)}: needs a place; write --tracker {kind}=PLACE")
    try:
        cls = outside("tracker", kind, "--tracker") or tables.TRACKERS[kind]
    except UnknownKindError as error:
        raise InputError(f"--tracker {short(text)}: {error}; or package.module:Class for one of your own") from error
    if kind in tables.TRACKERS:
        return tables.TRACKERS[kind](place, sweep)
    try:
        return _Foreign(cls(place, sweep), kind)
    except AutoflipError:
        raise
    except Exception as error:  # it is the user's code: it can fail in any way
        why = f"{type(error).__name__}: {error}"
        raise InputError(
            f"--tracker {short(text)}: cannot be opened ({why}); mend {cls.__name__}, or give it another place"
        ) from error


@dataclass
class _Foreign(Tracker):
    """A tracker from outside, whose failures are said in one sentence."""

    tracker: Tracker
    kind: str

    @property
    def live(self) -> bool:  # type: ignore[override]
        """As the tracker says."""
        return bool(self.tracker.live)

    def rounds(self, sweep: str, entries: Sequence[tuple[Begun, RoundRecord]]) -> None:
        """Its own."""
        try:
            self.tracker.rounds(sweep, entries)
        except AutoflipError:
            raise
        except Exception as error:  # as above
            raise self._failed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Its own; what fails by then is of no use to anybody."""
        with contextlib.suppress(Exception):
            self.tracker.close()

    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        """What it writes, and whether it says what it did."""
        try:
            written = self.tracker.write(sweep, records, outcome)
        except AutoflipError:
            raise
        except Exception as error:  # as above
            raise self._failed(f"{type(error).__name__}: {error}") from error
        if not isinstance(written, Written):
            raise self._failed(
                f"its write gave a {type(written).__name__}, expected autoflip_secure.scenarios.trackers.base.Written"
            )
        return written

    def _failed(self, why: str) -> StoreError:
        return StoreError(
            f"--tracker {short(self.kind)}: failed ({why}); finished cells are kept, run the same command again when "
            "it is mended, or without it"
        )
