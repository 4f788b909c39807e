"""Callers of a party that serves in this process."""

import contextlib
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from autoflip_secure.defenses.secure_aggregation.party import Party
from autoflip_secure.defenses.secure_aggregation.wire import Address

Start = Callable[..., tuple[Party, Address]]


def call(where: Address, stack: ExitStack) -> socket.socket:
    if where.port is not None:
        return stack.enter_context(socket.create_connection(where))
    caller = stack.enter_context(socket.socket(socket.AF_UNIX))
    caller.connect(where.host)
    return caller


def is_hung_up(caller: socket.socket, within: float) -> bool:
    caller.settimeout(within)
    with contextlib.suppress(ConnectionError):
        while caller.recv(4096):
            pass
    return True


def soon(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.01)
    return what()
