"""The server's post: who was asked what, and what each node has that is sent once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import Message, RecordDict
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.federation.state import ServerState
from autoflip_secure.flower.messages import Told, tell
from autoflip_secure.flower.nodes import Nodes
from autoflip_secure.flower.replies import Replies, collect
from autoflip_secure.interfaces import Channel
from autoflip_secure.models.layout import Layout


class Mail:
    """One set of messages is out at a time.

    Args:
        federation: its digest.
        layout: of the model.
        nodes: who is there.
        say: is told who is not.
    """

    def __init__(self, federation: str, layout: Layout, nodes: Nodes, say: Callable[[list[str]], None]) -> None:
        self._federation, self._layout, self._nodes, self._say = federation, layout, nodes, say
        self._some_frozen = bool(layout.frozen.any())
        self._asked = dict[int, int]()  # node -> client, of the messages that are out
        self._has_frozen = set[int]()  # nodes
        self._has_broadcast = dict[int, int]()  # node -> round that it was made for

    def messages(
        self,
        clients: Iterable[int],
        kind: str,
        number: int,
        weights: Float[Tensor, " params"],
        mask: Bool[Tensor, " params"],
        state: ServerState | None = None,
    ) -> list[Message]:
        """One for each of ``clients`` who is there.

        Args:
            clients: who is asked.
            kind: of message.
            number: of the round, or of the exploration.
            weights: the model that is sent.
            mask: which of them are alive.
            state: before a round, with what its local rule sends.
        """
        self._asked, made, absent = {}, list[Message](), list[int]()
        same = dict[tuple[bool, bool], RecordDict]()
        broadcast = None if state is None else state.broadcast
        newest = 0 if state is None else state.broadcast_round
        for client in clients:
            node = self._nodes.node(client)
            if node is None:
                absent.append(client)
                continue
            first = self._some_frozen and node not in self._has_frozen
            new = broadcast is not None and self._has_broadcast.get(node, 0) < newest
            if (first, new) not in same:
                told = Told(number, weights, mask, broadcast if new else None, first, ruled=broadcast is not None)
                same[first, new] = tell(self._federation, told, self._layout)
            self._asked[node] = client
            self._has_frozen.add(node)
            if new:
                self._has_broadcast[node] = newest
            made.append(Message(same[first, new], dst_node_id=node, message_type=kind))
        if absent:
            self._say([f"clients {', '.join(map(str, absent))} are not there, and are not asked"])
        return made

    def received(self, replies: Iterable[Message], mask: Tensor | None, channels: tuple[Channel, ...]) -> Replies:
        """The replies to what is out, as rows; who failed is taken to have lost what it was sent once."""
        found = collect(self._asked, replies, mask, self._layout, channels)
        self._asked = {}
        for node in found.failed:
            self._has_frozen.discard(node)
            self._has_broadcast.pop(node, None)
        return found
