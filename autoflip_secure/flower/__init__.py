"""Real federations: the engine's clients and server as apps of Flower (flower.ai), for training across machines.

A layer of its own above the scenarios, because a federation is described by a scenario, and below nobody but those who
start programs: the engine knows nothing of Flower. What is decided here is who is which client, what a message carries
and what Flower cannot give; training, exploration, aggregation and pruning are calls of
:mod:`autoflip_secure.federation`.
The names below import Flower when they are first used (``pip install 'autoflip-secure[flower]'``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoflip_secure.errors import InputError
from autoflip_secure.flower.agreed import Federation

if TYPE_CHECKING:
    from autoflip_secure.flower.client_side import client_app
    from autoflip_secure.flower.strategy import AutoflipStrategy

__all__ = ["AutoflipStrategy", "Federation", "client_app"]


def __getattr__(name: str) -> Any:
    """The names that need Flower.

    Raises:
        InputError: it is not installed.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import flwr.app  # noqa: F401 - is it there?
    except ImportError as error:
        raise InputError(
            f"autoflip_secure.flower.{name} needs Flower, which is not installed: pip install 'autoflip-secure[flower]'"
        ) from error
    if name == "client_app":
        from autoflip_secure.flower.client_side import client_app

        return client_app
    from autoflip_secure.flower.strategy import AutoflipStrategy

    return AutoflipStrategy
