"""Which clients have been sent what a local rule says, and who is sent it in a round."""

from __future__ import annotations

from collections.abc import Sequence


class Broadcasts:
    """Which clients have which of the broadcasts of a local rule."""

    def __init__(self) -> None:
        self._known = dict[int, int]()  # client -> round that its broadcast was made for

    def told(self, participants: Sequence[int], newest: int) -> list[int]:
        """Who of a round's participants is sent the broadcast that was made for round ``newest``, and has it then."""
        found = [k for k in participants if self._known.get(k, 0) < newest]
        self._known |= dict.fromkeys(found, newest)
        return found
