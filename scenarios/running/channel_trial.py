"""What a run asks of a plug-in from outside about channels, done on small numbers; see :mod:`.plugin_trial`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autoflip_secure.interfaces import (
    UPDATE,
    Channel,
    ChannelRequest,
    ChannelSource,
    ClientView,
    Received,
)
from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.scenarios.running.own_mask_trial import remembered_rows

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.plugin_trial import Stage
    from autoflip_secure.scenarios.running.trial_judge import Judge


def try_channels(judge: Judge, source: ChannelSource, stage: Stage, number: int) -> dict[str, Received]:
    """What clients would send beside their updates in a round, as the server gets it in the open."""
    asked, found = ChannelRequest(number, stage.rounds, stage.layout, stage.units), dict[str, Received]()
    wanted = judge.ask("wants", lambda: source.wants(asked))
    if not isinstance(wanted, tuple) or not all(isinstance(one, Channel) for one in wanted):
        raise judge.refuse("wants should give a tuple of Channel, () for none")
    rows, count = stage.rows(3), 3
    gradients = {at: stage.rows(3) * scale for at, scale in (("start", -1.0), ("end", -0.5))}
    start, samples = stage.weights.repeat(count, 1), torch.full((count,), 10.0)
    sums = _sums(judge, source, asked, rows)
    kept = {name: row.fresh().repeat(count, 1) for name, row in remembered_rows(judge, source, rows.shape[1]).items()}
    seen = ClientView(
        number, stage.rounds, torch.arange(count), samples, start, rows, torch.ones_like(rows, dtype=torch.bool),
        stage.layout, stage.units, gradients.__getitem__, sums, kept,
    )  # fmt: skip
    alone = replace(
        seen, clients=seen.clients[1:2], samples=samples[1:2], start=start[1:2], updates=rows[1:2],
        mask=seen.mask[1:2], gradients_at=lambda at: gradients[at][1:2],
        sums={name: each[1:2] for name, each in sums.items()}, states={n: each[1:2] for n, each in kept.items()},
    )  # fmt: skip
    if kept:
        _try_memory(judge, source, seen, alone)
    for channel in wanted:
        if channel.name in (UPDATE, *found) or channel.size < 1 or (channel.bound is not None and channel.bound <= 0):
            raise judge.refuse(
                f"wants: channel {channel.name!r} of size {channel.size} and bound {channel.bound}; give each a name "
                f"of its own that is not {UPDATE!r}, at least one number, and a bound above 0 or None"
            )
        what = f"measure of the channel {channel.name}"
        own = judge.ask(what, partial(source.measure, channel, seen), rows, start, samples, *gradients.values())
        own = judge.tensor(what, own, rows[:, :1].expand(-1, channel.size))
        if not torch.allclose(source.measure(channel, alone)[0], own[1], rtol=1e-4, atol=1e-6):
            raise judge.refuse(f"{what}: a client's row depends on other clients; a client knows its own data alone")
        shown = (own, torch.arange(count), samples) if channel.needs == "rows" else ()
        found[channel.name] = Received(own.mean(0), *shown)
    return found


def _sums(judge: Judge, source: ChannelSource, asked: ChannelRequest, rows: Tensor) -> dict[Accumulated, Tensor]:
    """What clients would have summed up in a round."""
    wishes = judge.ask("accumulates", lambda: source.accumulates(asked))
    if not isinstance(wishes, frozenset) or not wishes <= {"gradients", "squares"}:
        raise judge.refuse("accumulates should give a frozenset of 'gradients' and 'squares', frozenset() for none")
    return {name: rows * -3.0 if name == "gradients" else rows.square() for name in sorted(wishes)}


def _try_memory(judge: Judge, source: ChannelSource, seen: ClientView, alone: ClientView) -> None:
    """What clients are to remember: rows that it named, each from its own client's alone."""
    found = judge.ask("next_rows", partial(source.next_rows, seen), *seen.states.values(), *seen.sums.values())
    if not isinstance(found, Mapping) or (unknown := [name for name in found if name not in seen.states]):
        what = f"gives {unknown[0]!r}" if isinstance(found, Mapping) else f"gives a {type(found).__name__}"
        raise judge.refuse(f"next_rows {what}; give a mapping from names in client_rows to a row per client")
    one = source.next_rows(alone)
    for name, row in found.items():
        judge.tensor(f"next_rows: {name}", row, seen.states[name])
        if not torch.allclose(one[name][0].float(), row[1].float(), rtol=1e-4, atol=1e-6):
            raise judge.refuse(f"next_rows: {name}: a client's row depends on other clients")


def rounds_with_channels(source: ChannelSource, stage: Stage) -> list[int]:
    """The first round in which it asks for something, where there is one."""
    asked = (ChannelRequest(n, stage.rounds, stage.layout, stage.units) for n in range(1, stage.rounds + 1))
    return [one.round for one in asked if source.wants(one) or source.accumulates(one) or source.rows_kept][:1]


def of_participants(received: Received, count: int) -> Received:
    """As so many clients would have sent it: rows are those of the participants."""
    if received.rows is None:
        return received
    rows = received.rows[:1].repeat(count, 1)
    return Received(rows.mean(0), rows, torch.arange(count), torch.full((count,), 10.0))
