"""Where a sweep reports to while it runs: progress, sentences, rounds and cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.running.executors.base import Rounds


@dataclass(frozen=True)
class Listener:
    """Where a sweep reports to while it runs."""

    progress: Callable[[float, int, float | None], None]
    """Cells done in this run (a part of a block counts), cells to do, seconds left where that can be said."""
    note: Callable[[str], None]  # one sentence that the user must see
    start: Callable[[int, int], None] = lambda cells, workers: None  # cells to do, workers; before the first progress
    stage: Callable[[str, int], None] = lambda name, cells: (
        None
    )  # of a sweep in two stages: which begins, all its cells
    rounds: Callable[[Sequence[tuple[CellSpec, RoundRecord]]], None] | None = None
    """Rounds that are over, of cells that still run; None: nobody wants them. Not of a tuning stage."""
    stored: Callable[[Sequence[RunRecord]], None] | None = None  # cells that were just saved; not of a tuning stage

    def hearing(self, cells: Sequence[CellSpec], known: Mapping[str, RunRecord]) -> Callable[[Rounds], None] | None:
        """Who is told of rounds of ``cells``, each once, but for those that are ``known`` already; None: nobody."""
        if self.rounds is None:
            return None
        specs, tell, told = {cell.key: cell for cell in cells}, self.rounds, dict[str, int]()

        def heard(entries: Rounds) -> None:
            new = []
            for key, entry in entries:
                if key not in known and entry.round > told.get(key, 0):  # else its block began anew
                    told[key] = entry.round
                    new.append((specs[key], entry))
            if new:
                tell(new)

        return heard
