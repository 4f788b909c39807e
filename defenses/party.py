"""A party: a process of its own that holds one share of every row and helps to reveal sums, never a row.

It listens at one place. A connection is a server's (a sweep, or one of its workers) that opens a session, or another
party's that joins one; every session has a thread and links of its own, so several sweeps may use a party at once.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from pathlib import Path

from autoflip_secure.errors import InputError
from defenses.greeting import Calls, Joins, greet, greeted
from defenses.party_session import PartySession
from defenses.reveal import Links
from defenses.tls import context, shows_host
from defenses.wire import Address, Channel, WireError, dial

PATIENCE_WITH_PEERS = 0.7
"""Share of the session's timeout after which a party gives another one up: before the server gives up this one."""
GREETING_SECONDS = 10.0
"""For a caller to show its certificate and say what it wants."""
MOST_CALLERS = 256
"""That may be about it at once; who comes then is hung up on."""
_MOST_ARRIVED = 256  # links to sessions that have not begun
_NEXT_TRY = 0.1  # seconds, where the system has no room for another connection


def listen(address: Address) -> socket.socket:
    """A listening socket; port 0 takes a free one, None is a socket of this machine.

    Raises:
        InputError: the address is in use or not this machine's.
    """
    host, port = address
    try:
        if port is None:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(host)
            listener.listen(64)
            return listener
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]
        raise InputError(
            f"party: cannot listen on {address} ({reason}); give an address of this machine and a port that is free"
        ) from error


class Party:
    """Accepts sessions until the process ends."""

    def __init__(self, listener: socket.socket, certificates: Path | None = None) -> None:
        """Be ready.

        Args:
            listener: of :func:`listen`.
            certificates: folder of this machine's; None: without TLS, on a private socket or where that is wanted.

        Raises:
            InputError: the certificates cannot be used.
        """
        self.listener = listener
        self.identity = secrets.token_hex(8)  # tells two addresses of one process apart from two processes
        self._called = None if certificates is None else context(certificates, "is called")
        self._calls = None if certificates is None else context(certificates, "calls")
        self._callers = threading.BoundedSemaphore(MOST_CALLERS)
        self._arrived: dict[tuple[str, int], Channel] = {}  # (session, rank) -> link that another party opened
        self._news = threading.Condition()

    def serve(self) -> None:
        """Accept connections for ever; each is served in a thread of its own, so a slow caller keeps nobody waiting."""
        while True:
            try:
                connection, who = self.listener.accept()
            except OSError:  # gone before it was accepted, or too many files are open
                time.sleep(_NEXT_TRY)
                continue
            if not self._callers.acquire(blocking=False):
                connection.close()
                continue
            name = f"{who[0]}:{who[1]}" if isinstance(who, tuple) else "a caller"
            threading.Thread(target=self._welcome, args=(connection, name), daemon=True).start()

    def _welcome(self, connection: socket.socket, who: str) -> None:
        channel: Channel | None = None
        try:
            channel = Channel(connection, who, GREETING_SECONDS)
            if self._called is not None:
                channel.encrypt(self._called, None)
            channel.hurry(GREETING_SECONDS)
            purpose = greeted(channel, self.identity)
        except (WireError, OSError):
            (channel or connection).close()
            return
        finally:
            self._callers.release()
        if isinstance(purpose, Joins):
            self._arrives(purpose, channel)
        else:
            self._session(channel, purpose)

    def _arrives(self, purpose: Joins, channel: Channel) -> None:
        with self._news:
            while len(self._arrived) >= _MOST_ARRIVED:  # of sessions that never began
                self._arrived.pop(next(iter(self._arrived))).close()
            earlier = self._arrived.pop((purpose.session, purpose.rank), None)
            self._arrived[purpose.session, purpose.rank] = channel
            self._news.notify_all()
        if earlier is not None:
            earlier.close()

    def _session(self, server: Channel, purpose: Calls) -> None:
        server.patience(purpose.timeout)
        server.who = "the server"
        try:
            links = self._link(purpose, PATIENCE_WITH_PEERS * purpose.timeout)
        except WireError as error:
            with contextlib.suppress(WireError):
                server.send({"error": str(error)})
            server.close()
            return
        finally:
            with self._news:
                for key in [key for key in self._arrived if key[0] == purpose.session]:
                    self._arrived.pop(key).close()
        PartySession(server, links, purpose.timeout).run()

    def _link(self, purpose: Calls, patience: float) -> Links:
        """Links to the other parties: this one calls the higher ranks and is called by the lower ones."""
        end = time.monotonic() + patience
        peers: dict[int, Channel] = {}
        try:
            for other, address in enumerate(purpose.parties):
                who = f"party {other} ({address})"
                if (address.port is None) != (self.listener.family == socket.AF_UNIX):
                    raise WireError(f"{who} is another kind of address than this one")
                if other > purpose.rank:
                    left = max(end - time.monotonic(), 0.1)
                    peers[other] = link = dial(address, who, left, self._calls)
                    greet(link, Joins(session=purpose.session, rank=purpose.rank))
                elif other < purpose.rank:
                    peers[other] = link = self._called_by(purpose.session, other, address, end)
                else:
                    continue
                link.patience(patience)
                link.who = who
        except WireError:
            Links(purpose.rank, peers).close()
            raise
        return Links(purpose.rank, peers)

    def _called_by(self, session: str, other: int, address: Address, end: float) -> Channel:
        who = f"party {other} ({address})"
        with self._news:
            if not self._news.wait_for(lambda: (session, other) in self._arrived, max(end - time.monotonic(), 0.1)):
                raise WireError(f"{who} did not call in time")
            channel = self._arrived.pop((session, other))
        if not shows_host(channel.certificate, address.host):
            channel.close()
            raise WireError(f"who called as {who} shows the certificate of another machine")
        return channel
