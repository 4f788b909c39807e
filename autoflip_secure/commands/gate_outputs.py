"""What ``gate`` writes besides its answer: files for dashboards, pull requests, trends and trackers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoflip_secure.commands.session import tell
from autoflip_secure.errors import InputError

if TYPE_CHECKING:
    from autoflip_secure.reports.gate.gate import GateResult

_COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA")
_COMMIT_DIGITS = 9


@dataclass(frozen=True)
class Outputs:
    """Files that were asked for."""

    junit: Path | None
    markdown: Path | None
    history: Path | None
    label: str | None
    trend: Path | None
    exports: list[str]

    @property
    def named(self) -> list[str]:
        """Options that were given."""
        options = {
            "--junit": self.junit, "--markdown": self.markdown, "--history": self.history, "--label": self.label,
            "--trend": self.trend, "--export": self.exports,
        }  # fmt: skip
        return [option for option, value in options.items() if value]

    def check(self) -> None:
        """Everything can be written, as far as that can be known before; the history is one.

        Raises:
            InputError: an option lacks another, or a file is not what it should be.
        """
        from autoflip_secure.reports.gate.benchmarks import exports
        from autoflip_secure.reports.gate.history import read_history

        if self.history is None and self.trend is not None:
            raise InputError(f"--trend {self.trend}: plots the trend file; give that with --history FILE")
        if self.history is None and self.label is not None:
            raise InputError("--label: names this run in the trend file; give that with --history FILE")
        exports(self.exports)
        if self.history is not None:
            read_history(self.history)
        if self.trend is not None:
            from autoflip_secure.reports.gate.trend import check_trend

            check_trend(self.trend)

    def write(self, result: GateResult, as_json: bool) -> None:
        """Write all of it, then say what was found: what is printed may fail, and what others read is there by then.

        Raises:
            StoreError: a file cannot be written; the answer is printed all the same.
        """
        from autoflip_secure.reports.gate.benchmarks import exports
        from autoflip_secure.reports.gate.files import append, junit_xml, summary
        from autoflip_secure.reports.gate.output import as_data, lines
        from autoflip_secure.reports.pages.writing import write

        try:
            if self.junit:
                write(self.junit, junit_xml(result))
            if self.markdown:
                write(self.markdown, summary(result))
            if os.environ.get("GITHUB_STEP_SUMMARY"):
                append(Path(os.environ["GITHUB_STEP_SUMMARY"]), summary(result))
            for path, text in exports(self.exports).items():
                write(path, text(result))
            self._remember(result)
        finally:
            tell(as_data(result), as_json, lines(result))

    def _remember(self, result: GateResult) -> None:
        """Append to the history, and plot it."""
        if self.history is None:
            return
        from datetime import UTC, datetime

        from autoflip_secure.reports.gate.history import append_moment, moment, read_history

        now = datetime.now(UTC).isoformat(timespec="seconds")
        commit = next((found[:_COMMIT_DIGITS] for name in _COMMITS if (found := os.environ.get(name))), now)
        append_moment(self.history, moment(result, now, self.label or commit))
        if self.trend is not None:
            from autoflip_secure.reports.gate.trend import write_trend

            write_trend(read_history(self.history), self.trend)
