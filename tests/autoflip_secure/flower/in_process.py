"""A grid of Flower without network: nodes in this process, and messages that pass through Flower's bytes both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as MessageBytes
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from autoflip_secure.defenses.aggregators.flower import _identified

Answer = Callable[[Message, Context], Message]
FIRST = 100  # number of the first node


def through_bytes(message: Message) -> tuple[Message, int]:
    """A message as the other side has it, and how long it is."""
    data = message_to_proto(message).SerializeToString()
    return message_from_proto(MessageBytes.FromString(data)), len(data)


class InProcess(Grid):
    """Node ``FIRST + k`` is client k, with an app of its own.

    Args:
        apps: per node, or one for all of so many.
        config: of a node, by its place.
    """

    def __init__(self, apps: Iterable[Answer], config: Callable[[int], Mapping[str, Any]] | None = None) -> None:
        _identified()
        config = config or (lambda place: {"partition-id": place})
        self.nodes: dict[int, tuple[Answer, Context]] = {}
        for place, app in enumerate(apps):
            node = FIRST + place
            self.nodes[node] = app, Context(1, node, dict(config(place)), RecordDict(), {})
        self.seen: list[tuple[Message, Message]] = []  # asked and answered, as each side got it

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        found = []
        for message in messages:
            asked, _ = through_bytes(message)
            if asked.metadata.dst_node_id not in self.nodes:
                continue  # a node that is gone does not answer
            app, context = self.nodes[asked.metadata.dst_node_id]
            TaskIdentity.node_id = asked.metadata.dst_node_id  # as a node's own process has it
            try:
                reply = app(asked, context)
            except Exception as error:
                reply = Message(Error(code=2, reason=f"{type(error).__name__}: {error}"), reply_to=asked)
            finally:
                TaskIdentity.node_id = 1
            answered, _ = through_bytes(reply)
            self.seen.append((asked, answered))
            found.append(answered)
        return found[::-1]  # in whatever order

    def _missing(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    set_run = create_message = push_messages = pull_messages = _missing
    run = property(_missing)
