"""What came back of what was asked: replies as rows, in the order of the clients.

A client that answers with an error, complains, or does not answer at all is not among the participants. One that sends
what cannot be read is, with a row of NaN, which the engine's filter rejects and the record names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from flwr.app import MetricRecord
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.federation.channels import Measured
from autoflip_secure.flower import messages
from autoflip_secure.interfaces import Channel
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.run import RoundRecord

_MOST_PASSES = 2  # over its data, that a client may have measured channels with


@dataclass(frozen=True)
class Replies:
    """Of those that took part, in ascending order."""

    clients: Int[Tensor, " clients"]
    updates: Float[Tensor, "clients params"]  # zero where none were asked for
    losses: list[list[float]]
    measured: Measured
    samples: dict[int, int]  # as they state it now
    events: list[str] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)  # nodes that did not do what they were asked


def collect(
    asked: Mapping[int, int],
    replies: Iterable[Any],
    mask: Bool[Tensor, " params"] | None,
    layout: Layout,
    channels: tuple[Channel, ...],
) -> Replies:
    """The replies to one set of messages.

    Args:
        asked: node -> client.
        replies: messages of Flower; of nodes that were not asked, too.
        mask: what updates are of; None: there are none, before training.
        layout: of the model.
        channels: that were asked for.
    """
    events, failed, found = list[str](), list[int](), dict[int, messages.Sent]()
    answered = set[int]()
    for reply in replies:
        node = int(reply.metadata.src_node_id)
        client = asked.get(node)
        if client is None and reply.has_error():  # of the SuperLink, in place of a node that is gone
            events.append(f"a message {_failure(reply.error)}")
            continue
        if client is None or node in answered:
            events.append(f"node {node} sent a reply that nobody waits for: left out")
            continue
        answered.add(node)
        problem = _problem(reply)
        if problem is not None:
            events.append(f"client {client} {problem}: left out")
            failed.append(node)
            continue
        try:
            own = messages.sent(reply.content, mask, layout, channels)
            if own.client != client:
                raise InputError(f"now says that it is client {own.client}")
        except InputError as error:
            events.append(f"client {client} sent what cannot be read ({error})")
            own = _unreadable(client, mask, channels)
        found[client] = own
    silent = sorted(client for node, client in asked.items() if node not in answered)
    if silent:
        events.append(f"clients {', '.join(map(str, silent))} did not answer: left out")
    failed += [node for node in asked if node not in answered]
    order = [found[client] for client in sorted(found)]
    rows = {one.name: _stacked([own.channels[one.name] for own in order], one.size) for one in channels}
    return Replies(
        clients=torch.tensor([own.client for own in order], dtype=torch.long),
        updates=_stacked([own.update for own in order if own.update is not None], layout.size)
        if mask is not None
        else torch.zeros(len(order), layout.size),
        losses=[own.losses for own in order],
        measured=Measured(channels, rows, max([min(max(own.passes, 0), _MOST_PASSES) for own in order], default=0)),
        samples={own.client: own.samples for own in order if own.samples},
        events=events,
        failed=failed,
    )


def _problem(reply: Any) -> str | None:
    """Why a client did not do what it was asked; None: it says that it did."""
    return _failure(reply.error) if reply.has_error() else messages.problem_of(reply.content)


def _failure(error: Any) -> str:
    reason = str(error.reason or "").strip().splitlines()
    return f"failed with error {error.code}" + (f" ({reason[-1][:200]})" if reason else "")


def _unreadable(client: int, mask: Tensor | None, channels: tuple[Channel, ...]) -> messages.Sent:
    nan = float("nan")
    rows = {one.name: torch.full((one.size,), nan) for one in channels}
    return messages.Sent(client, 0, None if mask is None else torch.full(mask.shape, nan), [], rows)


def _stacked(rows: list[Tensor], size: int) -> Tensor:
    return torch.stack(rows) if rows else torch.zeros(0, size)


def round_metrics(found: RoundRecord) -> MetricRecord:
    """The record of a round as Flower's, as far as numbers go; lists run over ``clients``."""
    numbers: dict[str, Any] = {
        "clients": found.participants,
        "rejected": found.rejected,
        "trust": found.trust,
        "density": found.density,
        "step-norm": found.step_norm,
        "bytes-up": found.bytes.uplink_values,
        "bytes-down": found.bytes.downlink_bitmask if found.density < 1 else found.bytes.downlink_values,
    }
    named: Mapping[str, Any] = {
        "train-loss": found.train_loss, "scores": found.scores, "accuracy": found.test_accuracy,
        "loss": found.test_loss,
    }  # fmt: skip
    return MetricRecord({**numbers, **{name: value for name, value in named.items() if value is not None}})
