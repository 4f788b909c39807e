"""Markdown for places that take so many characters and no more: a comment on GitHub has at most 65,536."""

from __future__ import annotations

from collections.abc import Sequence

MOST_CHARACTERS = 60_000


class Page:
    """Lines, as long as they fit. What comes first is kept first; what no longer fits is counted."""

    def __init__(self, most: int = MOST_CHARACTERS) -> None:
        self.lines: list[str] = []
        self.left = most

    def add(self, lines: Sequence[str], keep: int = 0) -> int:
        """Add those of ``lines`` that fit while ``keep`` characters stay free; how many did not."""
        dropped = 0
        for line in lines:
            if len(line) + 1 <= self.left - keep:
                self.lines.append(line)
                self.left -= len(line) + 1
            else:
                dropped += 1
        return dropped

    def text(self) -> str:
        """What is there."""
        return "\n".join(self.lines)
