"""Which metrics a gate's verdict depends on, which are only shown, and which are left out.

What ``--metrics`` names decides; what ``--advisory`` names is shown, and never fails; what neither names is left out.
Unless somebody says otherwise everything decides but costs, which are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict

from autoflip_secure.errors import InputError
from autoflip_secure.reports.gate.metrics import COSTS, METRICS
from autoflip_secure.terminal.near_names import suggest

ALL: Final = "all"
NONE: Final = "none"
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(m.name for m in METRICS.values() if m.group == group)
    for group in dict.fromkeys(m.group for m in METRICS.values())
} | {ALL: tuple(METRICS)}
"""Group -> its metrics."""


class Choice(BaseModel):
    """Names of metrics and groups, as they were written; None: nobody said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: tuple[str, ...] | None = None
    advisory: tuple[str, ...] | None = None

    @property
    def deciding(self) -> frozenset[str]:
        """Metrics that the verdict depends on."""
        named = metrics_of([ALL]) - metrics_of([COSTS]) if self.metrics is None else metrics_of(self.metrics)
        return named - metrics_of(self.advisory or ())

    @property
    def shown(self) -> frozenset[str]:
        """Metrics that are compared and never fail."""
        return metrics_of([COSTS]) - self.deciding if self.advisory is None else metrics_of(self.advisory)

    def over(self, before: Choice) -> Choice:
        """This choice, and where it says nothing the one that was made before."""
        if self.metrics is None:
            return Choice(metrics=before.metrics, advisory=before.advisory if self.advisory is None else self.advisory)
        if self.advisory is not None or before.advisory is None:
            return self
        left = metrics_of(before.advisory) - metrics_of(self.metrics)
        return Choice(metrics=self.metrics, advisory=tuple(name for name in METRICS if name in left))

    @property
    def words(self) -> str:
        """For people."""
        advisory = ", ".join([COSTS] if self.advisory is None and self.shown else self.advisory or ())
        decides = "everything else" if advisory and self.metrics is None else ", ".join(self.metrics or ["everything"])
        return f"{decides} decides" + (f"; advisory: {advisory}" if advisory else "")


def choice_of(metrics: str | None, advisory: str | None) -> Choice:
    """The choice that two options make.

    Args:
        metrics: names of metrics and groups, separated by commas; None: not given.
        advisory: the same, or ``none``.

    Raises:
        InputError: an unknown name, none at all, or a metric that is named by both.

    >>> sorted(choice_of("accuracy,bytes", None).shown)
    ['flops_compacted', 'flops_sparse']
    """
    decides = None if metrics is None else _names("--metrics", metrics)
    shown = None if advisory is None else () if advisory.strip() == NONE else _names("--advisory", advisory)
    both = metrics_of(decides or ()) & metrics_of(shown or ())
    if both:
        first = next(name for name in METRICS if name in both)
        raise InputError(
            f"--advisory {advisory}: '{first}' is in --metrics too, and what is advisory never fails; keep one"
        )
    found = Choice(metrics=decides, advisory=shown)
    if not found.deciding:
        raise InputError(f"--advisory {advisory}: leaves no metric that could fail; name what decides with --metrics")
    return found


def metrics_of(names: Iterable[str]) -> frozenset[str]:
    """The metrics that names of metrics and groups stand for."""
    return frozenset(metric for name in names for metric in GROUPS.get(name, (name,)))


def check_names(names: Iterable[str], place: str) -> None:
    """Every name is a metric or a group.

    Raises:
        InputError: one is not.
    """
    known = [*GROUPS, *METRICS]
    for name in names:
        if name not in known:
            raise InputError(f"{place}: there is no metric or group '{name}'; {suggest(name, known)}")


def _names(option: str, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(f"{option} '{text}': names no metric; write for example {option} accuracy,detection")
    check_names(names, f"{option} {text}")
    return names
