"""What Ray carries to a node by value: it has to open where this package is another one, or not there at all.

Nothing here may need anything but the standard library before versions are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Mailbox:
    """An actor: what blocks in flight have to say, until the sweep asks for it."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, bytes]] = []

    def put(self, block: str, message: bytes) -> None:
        """From a node; ``block``: key of its first cell."""
        self._messages.append((block, message))

    def take(self) -> list[tuple[str, bytes]]:
        """Everything that is new, oldest first."""
        taken, self._messages = self._messages, []
        return taken


def opened(
    version: str, folder: str, places: Sequence[str], parcel: bytes, data: list[Any], mailbox: Any
) -> tuple[str, bytes]:
    """A task: run a parcelled block on this node.

    Args:
        version: of this package, where the sweep was started.
        folder: the current folder there; where it exists here, it is the current one here too.
        places: where modules were found there; those that exist here are looked at last.
        parcel: a :class:`.ray_node.Parcel`, which is opened by this version of the package alone.
        data: one reference to the data set, not fetched yet.
        mailbox: an actor of :class:`Mailbox`.

    Returns:
        ``("answer", pickled)`` of :func:`.ray_node.run`, or ``("refused", why)`` in UTF-8.
    """
    import os
    import platform
    import sys

    if os.path.isdir(folder):
        os.chdir(folder)
    sys.path += [place for place in places if place not in sys.path and os.path.exists(place)]
    try:
        from autoflip_secure.version import __version__

        if __version__ != version:
            why = f"{platform.node()} has autoflip-secure {__version__}, and the sweep was started with {version}"
            return "refused", why.encode()
        from autoflip_secure.scenarios.running.executors.ray_node import run
    except ImportError as error:
        return "refused", f"{platform.node()} cannot import autoflip-secure {version} ({error})".encode()
    return "answer", run(parcel, data[0], mailbox)
