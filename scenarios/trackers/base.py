"""What a tracker is: somewhere to show finished records; optional libraries are imported on use only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from autoflip_secure.records.outcome import DEFAULT, OutcomeRule
from autoflip_secure.records.run import RunRecord


@dataclass(frozen=True)
class Written:
    """What a tracker did."""

    kind: str
    place: str
    new: int
    kept: int  # runs that were there with the same numbers
    look: str  # how to see them

    def __str__(self) -> str:
        before = f", {self.kept} were there" if self.kept else ""
        return f"{self.kind}: {self.new} runs written{before}. See them with: {self.look}"


class Tracker(ABC):
    """Somewhere to show finished records. Making one checks that it can be written to."""

    @abstractmethod
    def write(self, sweep: str, records: Sequence[RunRecord], outcome: OutcomeRule = DEFAULT) -> Written:
        """Show ``records`` of the sweep named ``sweep``, in their order, with what they came to.

        Raises:
            StoreError: the place cannot be written; the sweep's own results are not touched.
        """


def missing(option: str, extra: str, error: ImportError) -> str:
    """The sentence for a library that is not there."""
    return (
        f"{option}: needs a library that is not installed ({error}); install it with: "
        f"pip install 'autoflip-secure[{extra}]'"
    )
