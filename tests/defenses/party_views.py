"""Helpers: the bodies of share messages that each party received, told apart by connection."""

import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from json import loads
from struct import calcsize, unpack_from

import numpy as np
import torch
from party_pools import Tap
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.shares import Seed
from autoflip_secure.defenses.secure_aggregation.wire import Address

PREFIX = ">IQ"


class Recorder:
    """A socket that keeps what is read from it."""

    def __init__(self, source: socket.socket, into: bytearray) -> None:
        self.source, self.into = source, into

    def recv(self, size: int) -> bytes:
        """Read and keep."""
        data = self.source.recv(size)
        self.into += data
        return data

    def shutdown(self, how: int) -> None:
        """Of the socket."""
        self.source.shutdown(how)


class StreamTap(Tap):
    """As a tap, with one stream per caller: messages of several callers do not get mixed up."""

    def __init__(self, target: Address) -> None:
        self.streams: list[bytearray] = []
        super().__init__(target)

    def _pump(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        if keep:
            self.streams.append(stream := bytearray())
            super()._pump(Recorder(source, stream), sink, keep)  # type: ignore[arg-type]
        else:
            super()._pump(source, sink, keep)


@contextmanager
def watched(where: Parties) -> Iterator[tuple[Parties, list[StreamTap]]]:
    """The same parties behind taps with streams."""
    taps = [StreamTap(address) for address in where.addresses]
    try:
        yield replace(where, addresses=tuple(tap.address for tap in taps)), taps
    finally:
        for tap in taps:
            tap.close()


@dataclass
class Received:
    """What one party received of clients: per operation, bodies in order."""

    bodies: dict[str, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))

    def words(self, op: str) -> dict[int, Tensor]:
        """The integers that each client sent, joined."""
        joined: dict[int, bytes] = defaultdict(bytes)
        for client, body in self.bodies[op]:
            joined[client] += body
        return {k: torch.from_numpy(np.frombuffer(bytearray(v), "<i8")) for k, v in joined.items()}


def received(tap: StreamTap) -> Received:
    """Messages with a ``client``: what clients sent to the party behind ``tap``."""
    found = Received()
    for stream in tap.streams:
        place, data = 0, bytes(stream)
        while place + calcsize(PREFIX) <= len(data):
            length, size = unpack_from(PREFIX, data, place)
            place += calcsize(PREFIX)
            header = loads(data[place : place + length])
            body = data[place + length : place + length + size]
            if "expand" in header:
                body = Seed(body, header["expand"]).words().numpy().astype("<i8").tobytes()
            place += length + size
            if "client" in header:
                found.bodies[str(header["op"])].append((int(header["client"]), body))
    return found


def coalitions(parties: int) -> list[tuple[int, ...]]:
    """All but one."""
    return list(combinations(range(parties), parties - 1))
