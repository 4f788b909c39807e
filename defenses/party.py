"""A party: a process of its own that holds one share of every row and helps to reveal sums, never a row.

It listens on one port. A connection is a server's (a sweep, or one of its workers) that opens a session, or another
party's that joins one; every session has a thread and links of its own, so several sweeps may use a party at once.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from typing import Any

from autoflip_secure.errors import InputError
from defenses.party_session import PartySession
from defenses.reveal import Links
from defenses.wire import Channel, WireError, answer, call, dial

PATIENCE_WITH_PEERS = 0.7
"""Share of the session's timeout after which a party gives another one up: before the server gives up this one."""
_HANDSHAKE_SECONDS = 10.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        InputError: the address is in use or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]
        raise InputError(
            f"party: cannot listen on {host}:{port} ({reason}); give an address of this machine and a port that is free"
        ) from error


class Party:
    """Accepts sessions until the process ends."""

    def __init__(self, listener: socket.socket, token: bytes) -> None:
        self.listener, self.token = listener, token
        self.identity = secrets.token_hex(8)  # tells two addresses of one process apart from two processes
        self._arrived: dict[tuple[str, int], Channel] = {}  # (session, rank) -> link that another party opened
        self._news = threading.Condition()

    def serve(self) -> None:
        """Accept connections for ever; each is served in a thread of its own."""
        while True:
            connection, (host, port, *_) = self.listener.accept()
            threading.Thread(target=self._welcome, args=(connection, f"{host}:{port}"), daemon=True).start()

    def _welcome(self, connection: socket.socket, who: str) -> None:
        channel = Channel(connection, who, _HANDSHAKE_SECONDS)
        try:
            purpose = answer(channel, self.token, {"party": self.identity})
            if purpose.get("role") == "party":
                with self._news:
                    self._arrived[str(purpose["session"]), int(purpose["rank"])] = channel
                    self._news.notify_all()
            else:
                self._session(channel, purpose)
        except (WireError, KeyError, ValueError, TypeError):
            channel.close()

    def _session(self, server: Channel, purpose: dict[str, Any]) -> None:
        timeout = float(purpose["timeout"])
        server.patience(timeout)
        server.who = "the server"
        try:
            links = self._link(purpose, PATIENCE_WITH_PEERS * timeout)
        except WireError as error:
            server.send({"error": str(error)})
            server.close()
            return
        finally:
            with self._news:
                for key in [key for key in self._arrived if key[0] == str(purpose["session"])]:
                    self._arrived.pop(key).close()
        server.send({"ready": True})
        PartySession(server, links, timeout).run()

    def _link(self, purpose: dict[str, Any], patience: float) -> Links:
        """Links to the other parties: this one calls the higher ranks and is called by the lower ones."""
        session, rank = str(purpose["session"]), int(purpose["rank"])
        end = time.monotonic() + patience
        peers: dict[int, Channel] = {}
        try:
            for other, (host, port) in enumerate(purpose["parties"]):
                who = f"party {other} ({host}:{port})"
                if other > rank:
                    peers[other] = link = dial(str(host), int(port), who, max(end - time.monotonic(), 0.1))
                    call(link, self.token, {"role": "party", "session": session, "rank": rank})
                elif other < rank:
                    peers[other] = link = self._called_by(session, other, who, end)
                else:
                    continue
                link.patience(patience)
                link.who = who
        except WireError:
            Links(rank, peers).close()
            raise
        return Links(rank, peers)

    def _called_by(self, session: str, other: int, who: str, end: float) -> Channel:
        with self._news:
            if not self._news.wait_for(lambda: (session, other) in self._arrived, max(end - time.monotonic(), 0.1)):
                raise WireError(f"{who} did not call in time")
            return self._arrived.pop((session, other))
