"""Which node of a grid is which client: nodes are asked once, and may come and go."""

from __future__ import annotations

import time
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from autoflip_secure.errors import InputError
from autoflip_secure.flower import messages

_PAUSE = 1.0  # seconds between two looks for nodes


class Nodes:
    """Who is there.

    Args:
        federation: its digest, which a node has to know too.
        clients: how many there are, numbered from 0.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, federation: str, clients: int, timeout: float) -> None:
        self._federation, self._clients, self._timeout = federation, clients, timeout
        self.samples = dict[int, int]()  # of clients that were met, as they said last
        self.refused = dict[int, str]()  # nodes that cannot take part, and why
        self._client_of = dict[int, int]()
        self._node_of = dict[int, int]()

    def node(self, client: int) -> int | None:
        """Where a client runs; None: nobody who is there is this client."""
        return self._node_of.get(client)

    @property
    def missing(self) -> list[int]:
        """Clients whom nobody is."""
        return [client for client in range(self._clients) if client not in self._node_of]

    def look(self, grid: Grid) -> list[str]:
        """Forget nodes that went, and ask those that came who they are; gives a sentence for each that is refused."""
        here = {int(node) for node in grid.get_node_ids()}
        gone = [node for node in self._client_of if node not in here]
        for node in gone:
            del self._node_of[self._client_of.pop(node)]
        # a number that was taken may be free now: a node that is started again is there before the old one is missed
        self.refused = {} if gone else {node: why for node, why in self.refused.items() if node in here}
        new = sorted(node for node in here if node not in self._client_of and node not in self.refused)
        if not new:
            return []
        content = messages.question(self._federation)
        asked = [Message(content, dst_node_id=node, message_type=messages.MEET) for node in new]
        replies = sorted(grid.send_and_receive(asked, timeout=self._timeout), key=lambda one: one.metadata.src_node_id)
        said = [self._met(reply) for reply in replies]
        return [sentence for sentence in said if sentence is not None]

    def _met(self, reply: Any) -> str | None:
        node = int(reply.metadata.src_node_id)
        if reply.has_error():
            return f"node {node}: does not answer ({reply.error.reason or reply.error.code})"  # asked again later
        try:
            client, samples = messages.greeted(reply.content)
            if not 0 <= client < self._clients:
                raise InputError(f"says that it is client {client}; clients are 0 to {self._clients - 1}")
            if client in self._node_of:
                raise InputError(f"says that it is client {client}, and so does node {self._node_of[client]}")
        except InputError as error:
            self.refused[node] = f"node {node}: {error}"
            return self.refused[node]
        self._client_of[node], self._node_of[client], self.samples[client] = client, node, samples
        return None

    def wait(self, grid: Grid, count: int, patience: float) -> list[str]:
        """Look until ``count`` clients are there; gives what :meth:`look` did.

        Raises:
            InputError: they are not after ``patience`` seconds; says who is missing, and who was refused and why.
        """
        until, said = time.monotonic() + patience, self.look(grid)
        while len(self._node_of) < count:
            if time.monotonic() >= until:
                who = ", ".join(map(str, self.missing[:20]))
                why = "".join(f"; {sentence}" for sentence in self.refused.values())
                raise InputError(
                    f"{len(self._node_of)} of {count} clients came in {patience:g} s, missing are {who}{why}: start "
                    "their nodes, wait longer (patience), or for fewer (wait_for)"
                )
            time.sleep(min(_PAUSE, patience))
            said += self.look(grid)
        return said
