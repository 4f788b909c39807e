"""Finished records -> TensorBoard or MLflow, where people already look. Optional libraries, imported on use only.

A cell is one run. What is there already, with the same numbers, is left alone; a run that was cut short or has other
numbers is written anew. So the same command twice, or a resumed sweep, never shows a cell twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoflip_secure.outcome import DEFAULT, OutcomeRule
from autoflip_secure.record import RunRecord


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


def trackers(tensorboard: Path | None, mlflow: str | None, sweep: str) -> list[Tracker]:
    """Those that were asked for, for the sweep of that name.

    Raises:
        InputError: the library is not installed (says how to install it).
        StoreError: the place cannot be used, or not for that sweep.
    """
    from scenarios.trackers_mlflow import Mlflow
    from scenarios.trackers_tensorboard import TensorBoard

    found: list[Tracker] = []
    if tensorboard is not None:
        found.append(TensorBoard(tensorboard))
    if mlflow is not None:
        found.append(Mlflow(mlflow, sweep))
    return found


def missing(option: str, extra: str, error: ImportError) -> str:
    """The sentence for a library that is not there."""
    return (
        f"{option}: needs a library that is not installed ({error}); install it with: "
        f"pip install 'autoflip-secure[{extra}]'"
    )
