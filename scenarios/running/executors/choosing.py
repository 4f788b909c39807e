"""From what the user wrote to what runs the blocks."""

from __future__ import annotations

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.running.executors.base import Executor
from autoflip_secure.scenarios.running.executors.elsewhere import Elsewhere
from autoflip_secure.scenarios.running.executors.local import Local
from autoflip_secure.scenarios.running.executors.ray_engine import Ray


def chosen(engine: str | None = None, address: str | None = None, executor: str | None = None) -> Executor:
    """What runs the blocks.

    Args:
        engine: ``local`` or ``ray``; None: it was not given.
        address: of a Ray cluster.
        executor: ``module:function`` of --executor.

    Raises:
        InputError: they do not go together.
    """
    if executor is not None and (engine is not None or address is not None):
        raise InputError("--executor: runs the blocks itself; leave out --engine and --ray-address")
    if address is not None and engine != "ray":
        raise InputError(f"--ray-address {address:.60}: names a Ray cluster; give --engine ray too")
    if executor is not None:
        return Elsewhere(executor)
    return Ray(address) if engine == "ray" else Local()
