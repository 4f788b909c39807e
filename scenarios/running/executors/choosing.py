"""From what the user wrote to what runs the blocks."""

from __future__ import annotations

from autoflip_secure.scenarios.running.executors.base import Executor
from autoflip_secure.scenarios.running.executors.elsewhere import Elsewhere
from autoflip_secure.scenarios.running.executors.local import Local


def chosen(executor: str | None = None) -> Executor:
    """What runs the blocks.

    Args:
        executor: ``module:function`` of --executor; None: it was not given.
    """
    return Local() if executor is None else Elsewhere(executor)
