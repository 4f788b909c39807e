"""Helpers of the secure-sum tests: parties of real party processes, and wire taps before a party's port."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.party import listen
from autoflip_secure.defenses.secure_aggregation.wire import Address, connected


class Tap:
    """Stands before one party's socket, passes everything on, and keeps what went towards the party."""

    numbers = itertools.count()

    def __init__(self, target: Address) -> None:
        self.target, self.heard = target, bytearray()
        here = Address(target.host, 0) if target.port else Address(f"{target.host}.tap{next(self.numbers)}", None)
        self.listener = listen(here)
        self.address = Address(here.host, self.listener.getsockname()[1] if target.port else None)
        self._ends: list[socket.socket] = []
        self._pumps: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            ends = caller, connected(self.target, 10)
            self._pumps += [
                threading.Thread(target=self._pump, args=(*ends, True), daemon=True),
                threading.Thread(target=self._pump, args=(*reversed(ends), False), daemon=True),
            ]
            self._ends += ends
            for pump in self._pumps[-2:]:
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if keep:
                    self.heard += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Pass nothing on any more."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for pump in self._pumps:
            pump.join()
        for end in self._ends:
            end.close()


@contextmanager
def tapped(where: Parties) -> Iterator[tuple[Parties, list[Tap]]]:
    """The same parties behind taps; what parties say to each other passes through the taps too."""
    taps = [Tap(address) for address in where.addresses]
    try:
        yield replace(where, addresses=tuple(tap.address for tap in taps)), taps
    finally:
        for tap in taps:
            tap.close()


def byte_counts(data: bytes) -> np.ndarray:
    """How often each byte value occurs."""
    return np.bincount(np.frombuffer(data, np.uint8), minlength=256)
