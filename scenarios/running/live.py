"""Trackers while a sweep runs: rounds of cells that still run, and cells as they are saved, each in its own thread.

What is live: every second or so the rounds that have ended, of all cells in flight, and each cell as soon as its block
is saved. Training waits for none of it, nor does one tracker for another: each is written in a thread beside it, which
takes at most a twentieth of a core for rounds (after t seconds of them it rests for 19 t). A tracker that fails is left
alone until the end, where it is written as a whole, as are those that do not ask to be live.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from autoflip_secure.errors import AutoflipError
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.running.listening import Listener
from autoflip_secure.scenarios.trackers.base import Tracker, Written
from autoflip_secure.scenarios.trackers.flattened import Begun, begun

EVERY = 1.0
"""Seconds between two looks at what is new, at least."""
SHARE = 0.05
"""Of a core that rounds may take, for each tracker."""
_LINGER = 10.0  # seconds that an interrupted sweep waits for a write that is under way


class _Stream:
    """One tracker, and what it is still to be told."""

    def __init__(self, tracker: Tracker, sweep: str, outcome: OutcomeRule) -> None:
        self.tracker, self._sweep, self._outcome = tracker, sweep, outcome
        self.new = 0  # cells that were written while the sweep ran
        self.failed = ""  # why it was left alone
        self._rounds: list[tuple[Begun, RoundRecord]] = []
        self._records: list[RunRecord] = []
        self._guard, self._wake, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, rounds: Sequence[tuple[Begun, RoundRecord]] = (), records: Sequence[RunRecord] = ()) -> None:
        """To be written soon; returns at once."""
        if self.failed or self._ended.is_set():
            return
        with self._guard:
            self._rounds += rounds
            self._records += records
        if records:
            self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
            self._thread.start()

    def stop(self, wait: float | None) -> None:
        """End the thread; what it was writing is finished first, if that takes no longer than ``wait`` seconds."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(wait)
            self._thread = None

    def _work(self) -> None:
        rest = EVERY
        while not self._ended.is_set() and not self.failed:
            self._wake.wait(rest)
            self._wake.clear()
            with self._guard:
                rounds, self._rounds = self._rounds, []
                records, self._records = self._records, []
            try:
                rest = max(EVERY, self._write(rounds, records) * (1 / SHARE - 1))
            except Exception as error:  # of a library or of the user's own: the sweep goes on
                self.failed = str(error) if isinstance(error, AutoflipError) else f"{type(error).__name__}: {error}"

    def _write(self, rounds: Sequence[tuple[Begun, RoundRecord]], records: Sequence[RunRecord]) -> float:
        """Seconds that rounds took."""
        done = {record.cell for record in records}
        fresh = [(cell, entry) for cell, entry in rounds if cell.cell not in done]
        began = time.monotonic()
        if fresh and not self._ended.is_set():
            self.tracker.rounds(self._sweep, fresh)
        took = time.monotonic() - began
        if records:
            self.new += self.tracker.write(self._sweep, records, self._outcome).new
        return took


class Live:
    """The trackers of one sweep, written while it runs."""

    def __init__(self, trackers: Sequence[Tracker], sweep: str, outcome: OutcomeRule) -> None:
        self._sweep, self._outcome = sweep, outcome
        self._all = [_Stream(tracker, sweep, outcome) for tracker in trackers]
        self._live = [stream for stream in self._all if stream.tracker.live]
        self._cells: dict[str, Begun] = {}

    def listening(self, listener: Listener) -> Listener:
        """``listener``, and the trackers beside it."""
        return replace(listener, rounds=self._hear, stored=self._take) if self._live else listener

    def finish(self, records: Sequence[RunRecord], note: Callable[[str], None]) -> Iterator[Written]:
        """Everything that is still to be written, and what each tracker did; ``note``: which was left alone by then.

        Raises:
            StoreError: a tracker cannot be written; the sweep's own results are not touched.
        """
        for stream in self._all:
            stream.stop(None)
            if stream.failed:
                note(f"not shown while the sweep ran: {stream.failed}")
            written = stream.tracker.write(self._sweep, records, self._outcome)
            yield replace(written, new=written.new + stream.new, kept=max(0, written.kept - stream.new))

    def close(self) -> None:
        """Nothing is written after this."""
        for stream in self._all:
            stream.stop(_LINGER)
            stream.tracker.close()

    def _hear(self, entries: Sequence[tuple[CellSpec, RoundRecord]]) -> None:
        rounds = [(self._cell(spec), entry) for spec, entry in entries]
        for stream in self._live:
            stream.tell(rounds=rounds)

    def _take(self, records: Sequence[RunRecord]) -> None:
        for stream in self._live:
            stream.tell(records=records)

    def _cell(self, spec: CellSpec) -> Begun:
        if spec.key not in self._cells:
            name = spec.settings.algorithm.name
            self._cells[spec.key] = begun(name, spec.axes, spec.seed, spec.key, spec.config)
        return self._cells[spec.key]


@contextmanager
def live(trackers: Sequence[Tracker], sweep: str, outcome: OutcomeRule) -> Iterator[Live]:
    """The trackers of a sweep; whatever happens, their threads have ended when the context does."""
    found = Live(trackers, sweep, outcome)
    try:
        yield found
    finally:
        found.close()
