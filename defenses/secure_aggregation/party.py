"""A party: a process of its own that holds one share of every row and helps to reveal sums, never a row.

It listens at one place. A connection is a server's (a sweep, or one of its workers) that opens a session, or another
party's that joins one; every session has a thread and links of its own, so several sweeps may use a party at once.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import socket
import threading
import time
from pathlib import Path

from autoflip_secure.defenses.secure_aggregation.greeting import Calls, Joins, greet, greeted
from autoflip_secure.defenses.secure_aggregation.party_session import PartySession
from autoflip_secure.defenses.secure_aggregation.reveal import Links
from autoflip_secure.defenses.secure_aggregation.tls import context, shows_host
from autoflip_secure.defenses.secure_aggregation.wire import UNIX, Address, Channel, GoneError, WireError, dial
from autoflip_secure.errors import InputError

PATIENCE_WITH_PEERS = 0.7
"""Share of the session's timeout after which a party gives another one up: before the server gives up this one."""
GREETING_SECONDS = 10.0
"""For a caller to show its certificate and say what it wants, all in all."""
MOST_CALLERS = 128
"""That may be about it at once; who comes then takes the place of the one that has been about it for longest …"""
A_MOMENT = 1.0
"""… and for so many seconds, which is more than an honest caller needs; until then newcomers wait."""
MOST_SESSIONS = 256
"""At once, of all sweeps and workers; further ones are refused with a sentence."""
_MOST_ARRIVED = 256  # links to sessions that have not begun
_NEXT_TRY = 0.1  # seconds, where the system has no room for another connection
_LOOK_UP = 0.5  # seconds after which a party that waits for another one looks whether the server is still there


def listen(address: Address) -> socket.socket:
    """A listening socket; port 0 takes a free one, None is a socket of this machine.

    Raises:
        InputError: the address is in use or not this machine's.
    """
    host, port = address
    try:
        if port is None:
            if UNIX is None:
                raise InputError(
                    "party: this system has no sockets between processes of one machine; give host and port"
                )
            listener = socket.socket(UNIX, socket.SOCK_STREAM)
            listener.bind(host)
            listener.listen(64)
            return listener
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]
        raise InputError(
            f"party: cannot listen on {address} ({reason}); give an address of this machine and a free port"
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
        self._callers: dict[int, tuple[float, Channel]] = {}  # who has proven nothing yet, and since when; in order
        self._places = threading.BoundedSemaphore(MOST_CALLERS)
        self._arrived: dict[tuple[str, int], Channel] = {}  # (session, rank) -> link that another party opened
        self._news = threading.Condition()
        self._sessions: dict[int, PartySession | None] = {}  # None: its links are being made
        self._numbers = itertools.count()

    def serve(self) -> None:
        """Accept connections for ever; each is served in a thread of its own, so a slow caller keeps nobody waiting."""
        while True:
            try:
                connection, who = self.listener.accept()
            except OSError:  # gone before it was accepted, or too many files are open
                time.sleep(_NEXT_TRY)
                continue
            self._place()
            name = f"{who[0]}:{who[1]}" if isinstance(who, tuple) else "a caller"
            try:
                threading.Thread(target=self._welcome, args=(connection, name), daemon=True).start()
            except RuntimeError:  # the system has no room for another thread
                self._places.release()
                connection.close()

    def _place(self) -> None:
        """Room for a caller, which somebody who takes longer than honest ones has to make if there is none."""
        while not self._places.acquire(blocking=False):
            with self._news:
                since, slowest = next(iter(self._callers.values()), (time.monotonic(), None))
                if slowest is not None and time.monotonic() - since >= A_MOMENT:
                    slowest.cut()
            if self._places.acquire(timeout=_NEXT_TRY):
                return

    def _welcome(self, connection: socket.socket, who: str) -> None:
        channel: Channel | None = None
        number = next(self._numbers)
        try:
            channel = Channel(connection, who, GREETING_SECONDS)
            channel.hurry(GREETING_SECONDS)
            with self._news:
                self._callers[number] = time.monotonic(), channel
            if self._called is not None:
                channel.encrypt(self._called, None)
            purpose = greeted(channel, self.identity)
        except (WireError, OSError):
            (channel or connection).close()
            return
        finally:
            with self._news:
                self._callers.pop(number, None)
            self._places.release()
        if isinstance(purpose, Joins):
            self._arrives(purpose, channel)
        else:
            self._session(number, channel, purpose)

    def _arrives(self, purpose: Joins, channel: Channel) -> None:
        """Hold a link until its session begins here, or the other party has given it up."""
        key = (purpose.session, purpose.rank)
        with self._news:
            while len(self._arrived) >= _MOST_ARRIVED:
                self._arrived.pop(next(iter(self._arrived))).close()
            earlier = self._arrived.pop(key, None)
            if earlier is not None:
                earlier.close()
            self._arrived[key] = channel
            self._news.notify_all()
            if not self._news.wait_for(lambda: self._arrived.get(key) is not channel, purpose.patience):
                self._arrived.pop(key).close()

    def _session(self, number: int, server: Channel, purpose: Calls) -> None:
        server.patience(purpose.timeout)
        server.who = "the server"
        with self._news:
            full = len(self._sessions) >= MOST_SESSIONS
            if not full:
                self._sessions[number] = None
        try:
            if full:
                raise WireError(
                    f"already serves {MOST_SESSIONS} sessions; wait for other sweeps to end, or take fewer --workers"
                )
            links = self._link(server, purpose, PATIENCE_WITH_PEERS * purpose.timeout)
            session = PartySession(server, links, purpose.timeout, self._held)
            self._sessions[number] = session
            self._forget(purpose.session)
            session.run()
        except WireError as error:
            with contextlib.suppress(WireError):
                server.send({"error": str(error), "gone": isinstance(error, GoneError)})
            server.close()
        finally:
            self._forget(purpose.session)
            self._sessions.pop(number, None)

    def _held(self) -> int:
        """Bytes that all sessions hold together."""
        return sum(session.bytes for session in list(self._sessions.values()) if session is not None)

    def _forget(self, session: str) -> None:
        """Hang up on links that came twice, or too late."""
        with self._news:
            for key in [key for key in self._arrived if key[0] == session]:
                self._arrived.pop(key).close()
            self._news.notify_all()

    def _link(self, server: Channel, purpose: Calls, patience: float) -> Links:
        """Links to the other parties: this one calls the higher ranks and is called by the lower ones."""
        end = time.monotonic() + patience
        peers: dict[int, Channel] = {}
        try:
            for other, address in enumerate(purpose.parties):
                who = f"party {other} ({address})"
                if (address.port is None) != (self.listener.family == UNIX):
                    raise WireError(f"{who} is another kind of address than this one")
                if other > purpose.rank:
                    left = max(end - time.monotonic(), 0.1)
                    link = dial(address, who, left, self._calls, patient=lambda: not server.hung_up)
                    peers[other] = link
                    greet(link, Joins(session=purpose.session, rank=purpose.rank, patience=left))
                elif other < purpose.rank:
                    peers[other] = link = self._called_by(server, purpose.session, other, address, end)
                else:
                    continue
                link.patience(patience)
                link.who = who
        except WireError:
            Links(purpose.rank, peers).close()
            raise
        return Links(purpose.rank, peers)

    def _called_by(self, server: Channel, session: str, other: int, address: Address, end: float) -> Channel:
        who = f"party {other} ({address})"
        with self._news:
            while (session, other) not in self._arrived:
                left = end - time.monotonic()
                if left <= 0 or server.hung_up:
                    raise GoneError(f"{who} did not connect in time")
                self._news.wait(min(left, _LOOK_UP))
            channel = self._arrived.pop((session, other))
            self._news.notify_all()
        if not shows_host(channel.certificate, address.host):
            channel.close()
            raise WireError(f"who called as {who} shows the certificate of another machine")
        return channel
