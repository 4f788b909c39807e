"""What a tracker is: somewhere to show finished records; optional libraries are imported on use only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.trackers.flattened import Begun


@dataclass(frozen=True)
class Written:
    """What a tracker did."""

    kind: str
    place: str
    new: int
    kept: int  # runs that were there with the same numbers
    look: str  # how to see them

    def __str__(self) -> str:
        before = f", {self.kept} already there" if self.kept else ""
        return f"{self.kind}: {self.new} runs written{before}. See them with: {self.look}"


class Tracker(ABC):
    """Somewhere to show finished records. One of your own is named by ``--tracker package.module:Class=PLACE``."""

    live: ClassVar[bool] = False
    """Whether it is told of rounds and cells while the sweep runs, from a thread beside it: then :meth:`rounds` is
    called with what has ended, and :meth:`write` with the cells of each block as they are saved, besides the last time
    with all of them."""

    @abstractmethod
    def __init__(self, place: str, sweep: str) -> None:
        """Check that the place can be written to; this is called before the sweep runs.

        Args:
            place: a folder, a URI or whatever the tracker takes, as the command line gives it; "" when it gives none.
            sweep: the name of the sweep that will be written.

        Raises:
            InputError: a library is not installed; says how to install it.
            StoreError: the place cannot be used, or not for that sweep.
        """

    @abstractmethod
    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        """Show ``records`` of the sweep named ``sweep``, in their order, with what they came to.

        Called when the sweep is complete, if ``live`` with parts of it before, and again when the same command runs
        again: what is there already should not be written twice. :func:`.flattened.track` has a record's parameters,
        series and digest.

        Raises:
            StoreError: the place cannot be written; the sweep's own results are not touched.
        """

    def rounds(self, sweep: str, entries: Sequence[tuple[Begun, RoundRecord]]) -> None:  # noqa: B027 - may be nothing
        """Show rounds of cells that still run, each once, the rounds of a cell in their order.

        Raises:
            StoreError: the place cannot be written.
        """

    def close(self) -> None:  # noqa: B027 - likewise
        """The sweep has ended, or was interrupted; nothing comes after this."""


def missing(option: str, extra: str, error: ImportError) -> str:
    """The sentence for a library that is not there."""
    return (
        f"{option}: needs a library that is not installed ({error}); install it with: "
        f"pip install 'autoflip-secure[{extra}]'"
    )
