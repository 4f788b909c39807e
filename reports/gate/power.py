"""How many more seeds an open verdict needs, and where they can come from: pairs need seeds that the baseline has."""

from __future__ import annotations

from dataclasses import dataclass

from autoflip_secure.reports.gate.decision import Decision
from autoflip_secure.reports.gate.gate import GateResult
from autoflip_secure.reports.statistics.sample_size import MOST
from autoflip_secure.terminal.counting import count_of


@dataclass(frozen=True)
class Power:
    """What an open verdict lacks."""

    open: int  # metrics
    needed: int | None  # seeds, by the metric that needs most; None: over ``MOST``
    there: int  # seeds that this metric was compared on
    unused: tuple[int, ...]  # seeds of the baseline that the sweep lacks

    @property
    def words(self) -> str:
        """How many, and how to get them."""
        named = count_of(self.open, "metric")
        if self.needed is None:
            many = (
                f"{named} cannot be told, and more than {MOST} seeds would be needed: widen a margin, or train longer"
            )
        else:
            seeds = count_of(self.needed, "more seed")
            many = f"{named} cannot be told: about {seeds} would settle it ({self.there + self.needed} in all)"
        if self.unused:
            lacking = count_of(len(self.unused), "seed")
            return f"{many}. {lacking} of the baseline can be added: --more-seeds runs them"
        return (
            f"{many}. All seeds of the baseline were run, and a pair needs both sides: run the code that you trust on "
            "more seeds, and make the baseline again with --update --reason"
        )


def power_of(result: GateResult) -> Power | None:
    """What is lacking; None where seeds would settle nothing, or nothing is open."""
    open_lines = [line.judgement for line in result.of(Decision.CANNOT_TELL) if line.judgement.change is not None]
    if not open_lines or result.decision is not Decision.CANNOT_TELL:
        return None
    known = [(one.more_seeds, min(one.comparison.seeds)) for one in open_lines if one.more_seeds is not None]
    needed, there = max(known, default=(0, 0))
    before, now = result.seeds
    return Power(len(open_lines), needed if len(known) == len(open_lines) else None, there, tuple(sorted(before - now)))
