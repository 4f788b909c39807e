"""Messages between the engine and the parties: a padded JSON header, then raw bytes. Nothing is ever unpickled.

::

    4 bytes  length of the header     8 bytes  length of the body     header (UTF-8 JSON, spaces up to a multiple
    of 256, so that counts of bytes do not depend on how long a number is when written)     body

Both sides prove that they know the token, each by an HMAC of the other's fresh challenge; it never travels itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import struct
import time
from typing import Any, Final

from torch import Tensor

from autoflip_secure.errors import AutoflipError

PROTOCOL: Final = 2
_PREFIX: Final = struct.Struct(">IQ")
_PAD: Final = 256
_LONGEST_HEADER: Final = 1 << 24
_CHUNK: Final = 1 << 20


class WireError(AutoflipError):
    """The other side is gone, silent, or does not speak the protocol."""


class Channel:
    """One connection. ``who`` is how messages name the other side."""

    def __init__(self, connection: socket.socket, who: str, timeout: float | None) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket, self.who = connection, who
        self.sent = self.received = 0
        self.patience(timeout)

    def patience(self, timeout: float | None) -> None:
        """Seconds that the other side may be silent; None: for ever."""
        self.timeout = timeout
        self.socket.settimeout(timeout)

    def send(self, header: dict[str, Any], *bodies: memoryview) -> None:
        """Send one message whose body is all ``bodies`` in a row."""
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _PAD)
        size = sum(body.nbytes for body in bodies)
        try:
            self.socket.sendall(_PREFIX.pack(len(text), size) + text)
            for body in bodies:
                self.socket.sendall(body)
        except OSError as error:
            raise self._lost(error) from error
        self.sent += _PREFIX.size + len(text) + size

    def receive(self) -> tuple[dict[str, Any], int]:
        """The next header, and how many bytes of body are still to be read by :meth:`fill` or :meth:`skip`."""
        prefix = bytearray(_PREFIX.size)
        self.fill(memoryview(prefix))
        length, size = _PREFIX.unpack(prefix)
        if length > _LONGEST_HEADER:
            raise WireError(f"{self.who} does not speak this protocol (a header of {length} bytes)")
        text = bytearray(length)
        self.fill(memoryview(text))
        try:
            header = json.loads(text)
        except (ValueError, RecursionError):  # from whoever knocks
            header = None
        if not isinstance(header, dict):
            raise WireError(f"{self.who} does not speak this protocol (its header is not a mapping)")
        return header, size

    def fill(self, into: memoryview) -> None:
        """Read exactly ``into``."""
        rest = into.cast("B") if into.nbytes else into
        try:
            while rest.nbytes:
                count = self.socket.recv_into(rest)
                if count == 0:
                    raise WireError(f"{self.who} closed the connection")
                rest = rest[count:]
                self.received += count
        except OSError as error:
            raise self._lost(error) from error

    def skip(self, size: int) -> None:
        """Read ``size`` bytes and forget them."""
        while size > 0:
            self.fill(memoryview(bytearray(min(size, _CHUNK))))
            size -= _CHUNK

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _lost(self, error: OSError) -> WireError:
        if isinstance(error, TimeoutError):
            return WireError(f"{self.who} did not answer within {self.timeout:g} s")
        return WireError(f"{self.who} is gone ({error.strerror or error})")


def raw(values: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, to send it or to read into it."""
    assert values.is_contiguous()
    return values.numpy().data.cast("B") if values.numel() else memoryview(b"")


def dial(host: str, port: int, who: str, timeout: float, *, patient: bool = True) -> Channel:
    """Connect within ``timeout`` seconds; ``patient``: a party that is not there yet is tried again until then."""
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        try:
            return Channel(socket.create_connection((host, port), timeout=max(left, 0.05)), who, timeout)
        except socket.gaierror as error:
            raise WireError(f"{who}: no such host ({error.strerror})") from error
        except OSError as error:
            if not patient or time.monotonic() + 0.1 >= end:
                reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
                way_out = (
                    "; start it there with autoflip-secure party, then run the same command again" if patient else ""
                )
                raise WireError(f"{who} cannot be reached within {timeout:g} s ({reason}){way_out}") from error
            time.sleep(0.1)


def _proof(token: bytes, side: str, challenge: str) -> str:
    return hmac.new(token, f"{side}:{challenge}".encode(), hashlib.sha256).hexdigest()


def _same(given: object, proof: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), proof.encode())


def call(channel: Channel, token: bytes, purpose: dict[str, Any]) -> dict[str, Any]:
    """The calling side's handshake; returns what the called side says about itself.

    Args:
        channel: fresh.
        token: that both sides know.
        purpose: what the connection is for; sent once the called side knows who calls.
    """
    hello, _ = channel.receive()
    if hello.get("protocol") != PROTOCOL:
        raise WireError(
            f"{channel.who} does not speak protocol {PROTOCOL} of secure sums; use the same version of autoflip-secure "
            "everywhere"
        )
    mine = secrets.token_hex(16)
    channel.send({"proof": _proof(token, "caller", str(hello.get("challenge"))), "challenge": mine, **purpose})
    answer, _ = channel.receive()
    if not _same(answer.get("proof"), _proof(token, "party", mine)):
        raise WireError(f"{channel.who} has another token; give the same AUTOFLIP_PARTY_TOKEN to every party and here")
    return {**hello, **answer}


def answer(channel: Channel, token: bytes, about: dict[str, Any]) -> dict[str, Any]:
    """The called side's handshake; returns the caller's purpose.

    Args:
        channel: fresh.
        token: that both sides know.
        about: what this side says about itself, before it knows who calls.
    """
    mine = secrets.token_hex(16)
    channel.send({"protocol": PROTOCOL, "challenge": mine, **about})
    purpose, _ = channel.receive()
    if not _same(purpose.get("proof"), _proof(token, "caller", mine)):
        channel.send({"proof": ""})
        raise WireError(f"{channel.who} has another token")
    channel.send({"proof": _proof(token, "party", str(purpose.get("challenge")))})
    return purpose
