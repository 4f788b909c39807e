"""Messages between the engine and the parties: a padded JSON header, then raw bytes. Nothing is ever unpickled.

::

    4 bytes  length of the header     8 bytes  length of the body     header (UTF-8 JSON, spaces up to a multiple
    of 256, so that counts of bytes do not depend on how long a number is when written)     body

Who is at the other end is not for this file to know: a private socket of this machine, mutual TLS
(:mod:`autoflip_secure.defenses.secure_aggregation.tls`), or, where a scenario allows it, nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import selectors
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from torch import Tensor

from autoflip_secure.errors import AutoflipError
from autoflip_secure.files.regular_files import parse_json

UNIX: Final[socket.AddressFamily | None] = getattr(socket, "AF_UNIX", None)  # not on Windows
_PREFIX: Final = struct.Struct(">IQ")
_PAD: Final = 256
_LONGEST_HEADER: Final = 1 << 24
_CHUNK: Final = 1 << 20
_CRUMB: Final = 1 << 12  # for who has proven nothing
_LINGER: Final = 1.0  # seconds for which a refused caller may still read why
_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A machine that vanished without a word is noticed in two minutes, where the system lets a program say so."""


class WireError(AutoflipError):
    """The other side is gone, silent, or does not speak the protocol."""


class GoneError(WireError):
    """The other side is not there, not there any more, or says nothing: of a party, that it is dead or hangs."""


class Address(NamedTuple):
    """Where a party listens."""

    host: str
    port: int | None  # None: ``host`` is the path of a socket of this machine

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


class Channel:
    """One connection. ``who`` is how messages name the other side."""

    def __init__(self, connection: socket.socket, who: str, timeout: float | None) -> None:
        if connection.family != UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _ALIVE.items():
                if hasattr(socket, name):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.socket, self.who = connection, who
        self.sent = self.received = 0
        self._end: float | None = None
        self.patience(timeout)

    def patience(self, timeout: float | None) -> None:
        """Seconds that the other side may be silent; None: for ever."""
        self.timeout, self._end = timeout, None
        self.socket.settimeout(timeout)

    def hurry(self, seconds: float) -> None:
        """All that happens from now on has to be over within ``seconds``, until :meth:`patience` says otherwise."""
        self.patience(seconds)
        self._end = time.monotonic() + seconds

    def _on_time(self) -> None:
        """What comes next may take what is left of :meth:`hurry`."""
        if self._end is not None:
            self.socket.settimeout(max(self._end - time.monotonic(), 1e-3))

    def encrypt(self, context: ssl.SSLContext, host: str | None) -> None:
        """Go on in TLS, as the one who calls ``host``, or (None) as the one who was called."""
        try:
            self.socket = context.wrap_socket(
                self.socket, server_side=host is None, server_hostname=host, do_handshake_on_connect=False
            )
            self._on_time()
            self.socket.do_handshake()
        except (OSError, ValueError) as error:  # ValueError: of a name that no certificate can have
            self._part()
            raise self._lost(error) from error

    def _part(self) -> None:
        """Hang up so that the other side hears the alert that went before: what it still sends is read, not reset."""
        with contextlib.suppress(OSError):
            end = min(time.monotonic() + _LINGER, math.inf if self._end is None else self._end)
            self.socket.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(_CRUMB):
                    break
        self.close()

    @property
    def hung_up(self) -> bool:
        """Whether the other side is known to have closed the connection, with nothing left to read."""
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(self.socket, selectors.EVENT_READ)
                return bool(waiting.select(0)) and socket.socket.recv(self.socket, 1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    @property
    def certificate(self) -> dict[str, Any] | None:
        """What the other side's certificate says, which was verified; None: the link has none."""
        return self.socket.getpeercert() if isinstance(self.socket, ssl.SSLSocket) else None

    @property
    def pending(self) -> bool:
        """Whether something is there that was decrypted already, of which the operating system does not know."""
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def send(self, header: dict[str, Any], *bodies: memoryview) -> None:
        """Send one message whose body is all ``bodies`` in a row."""
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _PAD)
        size = sum(body.nbytes for body in bodies)
        try:
            self._on_time()
            self.socket.sendall(_PREFIX.pack(len(text), size) + text)
            for body in bodies:
                self.socket.sendall(body)
        except OSError as error:
            raise self._lost(error) from error
        self.sent += _PREFIX.size + len(text) + size

    def receive(self, longest: int = _LONGEST_HEADER) -> tuple[dict[str, Any], int]:
        """The next header, of at most ``longest`` bytes, and how many bytes of body the other side says will follow.

        Of the body nothing has been read, and no memory has been taken for it: :meth:`fill` and :meth:`skip` do.
        """
        prefix = bytearray(_PREFIX.size)
        self.fill(memoryview(prefix))
        length, size = _PREFIX.unpack(prefix)
        if length > longest:
            raise WireError(f"{self.who} does not speak this protocol (a header of {length} bytes)")
        text = bytearray(length)
        self.fill(memoryview(text))
        try:
            header = parse_json(bytes(text))
        except ValueError:  # from whoever knocks
            header = None
        if not isinstance(header, dict):
            raise WireError(f"{self.who} does not speak this protocol (its header is not a mapping)")
        return header, size

    def fill(self, into: memoryview) -> None:
        """Read exactly ``into``."""
        rest = into.cast("B") if into.nbytes else into
        try:
            while rest.nbytes:
                self._on_time()
                count = self.socket.recv_into(rest)
                if count == 0:
                    raise GoneError(f"{self.who} closed the connection")
                rest = rest[count:]
                self.received += count
        except OSError as error:
            raise self._lost(error) from error

    def skip(self, size: int) -> None:
        """Read ``size`` bytes and forget them."""
        while size > 0:
            self.fill(memoryview(bytearray(min(size, _CHUNK))))
            size -= _CHUNK

    def cut(self) -> None:
        """Hang up while another thread reads or writes: it hears of it at once, and closes."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # of the connection: TLS belongs to the other thread

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _lost(self, error: OSError | ValueError) -> WireError:
        match error:
            case TimeoutError():
                return GoneError(f"{self.who} did not answer within {self.timeout:g} s")
            case ssl.SSLCertVerificationError():
                why = error.verify_message.rstrip(".")
                return WireError(f"{self.who} shows a certificate that is not accepted ({why}); {_CERTIFICATES}")
            case ssl.SSLError() if "ALERT" in str(error.reason):
                why = str(error.reason).partition("ALERT_")[2].replace("_", " ").lower()
                return WireError(f"{self.who} does not accept the certificate shown to it ({why}); {_CERTIFICATES}")
            case ssl.SSLError():
                return WireError(
                    f"{self.who} does not speak TLS ({error.reason or error}); start it with --certificates"
                )
            case OSError():
                return GoneError(f"{self.who} is gone ({error.strerror or error})")
        return WireError(f"{self.who}: {error}")


_CERTIFICATES: Final = "create those of all machines in one go with autoflip-secure certificates"


def raw(values: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, to send it or to read into it."""
    assert values.is_contiguous()
    return values.numpy().data.cast("B") if values.numel() else memoryview(b"")


def dial(
    address: Address, who: str, timeout: float, context: ssl.SSLContext | None = None, *,
    patient: Callable[[], bool] = lambda: True,
) -> Channel:  # fmt: skip
    """Connect within ``timeout`` seconds.

    Args:
        address: of the party.
        who: it is, in messages.
        timeout: seconds for all of it, and for each answer afterwards.
        context: for TLS; None: without.
        patient: whether a party that is not there yet is tried again, until the time is over.

    Raises:
        GoneError: nobody is there.
        WireError: somebody else is, or there is no such place.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            channel = Channel(connected(address, max(end - time.monotonic(), 0.05)), who, timeout)
            break
        except socket.gaierror as error:
            raise WireError(f"{who}: no such host ({error.strerror})") from error
        except OSError as error:
            again = patient()
            if not again or time.monotonic() + 0.1 >= end:
                reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
                way_out = (
                    "; start it there with autoflip-secure party, then run the same command again" if again else ""
                )
                raise GoneError(f"{who} cannot be reached within {timeout:g} s ({reason}){way_out}") from error
            time.sleep(0.1)
    if context is not None:
        channel.encrypt(context, address.host)
    return channel


def connected(address: Address, timeout: float) -> socket.socket:
    """A connection, as long as somebody listens there."""
    if address.port is not None:
        return socket.create_connection(address, timeout=timeout)
    assert UNIX is not None, "nobody listens there on such a system"
    connection = socket.socket(UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(address.host)
    except BaseException:
        connection.close()
        raise
    return connection
