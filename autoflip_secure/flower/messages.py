"""What travels: messages of :mod:`autoflip_secure.models.costs`, byte for byte, inside records of Flower.

An array holds one message, under a serialisation type of its own, so that Flower's mods and strategies, which take
arrays for tensors, refuse it instead of changing bytes. Beside it stand a few numbers in the open (which round, how
many samples). Sizes of a round are those that a run's record counts: live values, and the mask on the way down once
something is pruned. Nothing is pickled on either side.

| message type | down | up |
|---|---|---|
| ``query.meet`` | digest of the federation | number of the client, samples |
| ``train.explore`` | weights, phase | deviation, losses |
| ``train.prepare`` | weights | channels |
| ``train.round`` | live weights, mask, broadcast of the local rule | live update, channels, loss |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Channel
from autoflip_secure.models.channel_messages import decode_channel, encode_channel
from autoflip_secure.models.costs import decode, encode
from autoflip_secure.models.layout import Layout

MEET, EXPLORE, PREPARE, ROUND = "query.meet", "train.explore", "train.prepare", "train.round"
_ARRAYS, _NUMBERS, _SAID = "arrays", "metrics", "config"
_KIND: Final = "autoflip-secure"
_MODEL, _UPDATE, _BROADCAST, _CHANNEL = "model", "update", "broadcast", "channel."
_PROBLEM = "problem"
LARGEST_COUNT: Final = 2**31 - 1
"""Samples that a client can say it has."""


def wrapped(payload: bytes) -> Any:
    """A message as an array of Flower's."""
    return Array("uint8", (len(payload),), _KIND, payload)


def unwrapped(array: Any, name: str) -> bytes:
    """Inverse of :func:`wrapped`.

    Raises:
        InputError: it is none of ours.
    """
    if array is None or array.stype != _KIND:
        kind = "nothing" if array is None else f"an array of type {array.stype!r}"
        raise InputError(f"{name}: expected a message of this library, got {kind}; leave out mods that change arrays")
    payload: bytes = array.data
    return payload


@dataclass(frozen=True)
class Told:
    """What the server tells a participant of a round."""

    round: int  # or the number of an exploration
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]
    broadcast: Float[Tensor, " params"] | None  # new for this client; None: none, or the one that it has
    first: bool  # frozen parameters are among the weights
    ruled: bool = False  # the local rule needs a broadcast, this one or one from before


def tell(federation: str, told: Told, layout: Layout) -> RecordDict:
    """A participant's message: live weights, with the mask once something is pruned."""
    masked = not bool(told.mask.all())
    payload = encode(told.weights, told.mask, layout, bitmask=masked, first=told.first)
    arrays = {_MODEL: wrapped(payload)}
    if told.broadcast is not None:
        arrays[_BROADCAST] = wrapped(encode(told.broadcast, layout.trained, layout, bitmask=False))
    said = {"federation": federation, "round": told.round, "masked": masked, "first": told.first, "ruled": told.ruled}
    return RecordDict({_ARRAYS: ArrayRecord(arrays), _SAID: ConfigRecord(said)})


def told(content: RecordDict, layout: Layout) -> Told:
    """Inverse of :func:`tell`; frozen parameters are zero unless they are in it.

    Raises:
        InputError: the message is damaged, or of another model.
    """
    arrays, said = content[_ARRAYS], content[_SAID]
    everything = None if said["masked"] else torch.ones(layout.size, dtype=torch.bool)
    weights, mask = decode(unwrapped(arrays.get(_MODEL), _MODEL), layout, everything)
    broadcast = None
    if _BROADCAST in arrays:
        broadcast, _ = decode(unwrapped(arrays[_BROADCAST], _BROADCAST), layout, layout.trained)
    return Told(int(said["round"]), weights, mask | layout.frozen, broadcast, bool(said["first"]), bool(said["ruled"]))


@dataclass(frozen=True)
class Sent:
    """What a participant sends."""

    client: int
    samples: int
    update: Float[Tensor, " params"] | None  # or a deviation; None: before training there is none
    losses: list[float]
    channels: Mapping[str, Float[Tensor, " size"]]
    passes: int = 0  # over its data, to measure channels with


def send(sent: Sent, mask: Tensor, layout: Layout, channels: tuple[Channel, ...]) -> RecordDict:
    """A participant's reply: live values of its update, and its rows of ``channels``."""
    arrays = {_CHANNEL + one.name: wrapped(encode_channel(sent.channels[one.name], one.bits)) for one in channels}
    if sent.update is not None:
        arrays[_UPDATE] = wrapped(encode(sent.update, mask, layout, bitmask=False))
    numbers = {"client": sent.client, "num-examples": sent.samples, "losses": sent.losses, "passes": sent.passes}
    return RecordDict({_ARRAYS: ArrayRecord(arrays), _NUMBERS: MetricRecord(numbers)})


def sent(content: RecordDict, mask: Tensor | None, layout: Layout, channels: tuple[Channel, ...]) -> Sent:
    """Inverse of :func:`send`. What it gives can be anything that the message has room for: NaN, too.

    Args:
        content: of the reply.
        mask: what it is an update of; None: it carries none.
        layout: of the model.
        channels: that were asked for.

    Raises:
        InputError: something is missing, of another length or kind, or the participant says that it cannot.
    """
    if (problem := problem_of(content)) is not None:
        raise InputError(problem)
    arrays, numbers = content.array_records.get(_ARRAYS), content.metric_records.get(_NUMBERS)
    if arrays is None or numbers is None:
        raise InputError("sent a reply without arrays or metrics; run a client_app of this package there")
    samples, losses = numbers.get("num-examples"), numbers.get("losses")
    if not isinstance(samples, int) or not 1 <= samples <= LARGEST_COUNT:
        raise InputError(f"says that it has {samples!r:.40} samples; a whole number from 1 to {LARGEST_COUNT:,}")
    update = None if mask is None else decode(unwrapped(arrays.get(_UPDATE), _UPDATE), layout, mask)[0]
    rows = dict[str, Tensor]()
    for one in channels:
        rows[one.name] = decode_channel(unwrapped(arrays.get(_CHANNEL + one.name), one.name))
        if len(rows[one.name]) != one.size:
            raise InputError(f"sent {one.name} of {len(rows[one.name])} numbers, expected {one.size}")
    history = [float(loss) for loss in losses] if isinstance(losses, list) else []
    client, passes = (found if isinstance(found := numbers.get(key), int) else -1 for key in ("client", "passes"))
    return Sent(client, samples, update, history, rows, passes)


def greeting(client: int, samples: int) -> RecordDict:
    """Who a node is."""
    return RecordDict({_NUMBERS: MetricRecord({"client": client, "num-examples": samples})})


def greeted(content: RecordDict) -> tuple[int, int]:
    """Number of a client, and its samples.

    Raises:
        InputError: it says that it cannot take part, or says nothing of the kind.
    """
    if (problem := problem_of(content)) is not None:
        raise InputError(problem)
    numbers = content.metric_records.get(_NUMBERS, MetricRecord())
    client, samples = numbers.get("client"), numbers.get("num-examples")
    if not isinstance(client, int) or not isinstance(samples, int) or not 1 <= samples <= LARGEST_COUNT:
        raise InputError("does not say which client it is and how many samples it has; run a client_app there")
    return client, samples


def question(federation: str) -> RecordDict:
    """What a node is asked first."""
    return RecordDict({_SAID: ConfigRecord({"federation": federation})})


def federation_of(content: RecordDict) -> str:
    """The digest of the federation that a message is of; "": it names none."""
    said = content.config_records.get(_SAID, ConfigRecord())
    return str(said.get("federation", ""))


def complaint(sentence: str) -> RecordDict:
    """A reply of a client that cannot do what it was asked."""
    return RecordDict({_SAID: ConfigRecord({_PROBLEM: sentence})})


def problem_of(content: RecordDict) -> str | None:
    """What a client complains of; None: nothing."""
    said = content.config_records.get(_SAID, ConfigRecord())
    return str(said[_PROBLEM])[:500] if _PROBLEM in said else None
