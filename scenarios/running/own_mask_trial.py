"""What a run asks of a plug-in from outside that works with masks of the clients' own: the rest of its trial."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autoflip_secure.federation.client_states import MASK, StateRow
from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    ChannelSource,
    ClientEndView,
    ClientPruneView,
    OwnMask,
    Pruner,
    RoundView,
)
from autoflip_secure.seeds import Purpose, generator

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.plugin_trial import Stage
    from autoflip_secure.scenarios.running.trial_judge import Judge


def remembered_rows(judge: Judge, source: ChannelSource, size: int) -> dict[str, StateRow]:
    """What a client is to remember, by name.

    Raises:
        InputError: a row has a name or kind that cannot be kept.
    """
    for name, kind in source.rows_kept.items():
        if name == MASK or kind not in ("bits", "numbers"):
            raise judge.refuse(
                f"client_rows has {name!r}: {kind!r}; give rows names other than {MASK!r}, and 'bits' or 'numbers'"
            )
    return {name: StateRow(kind, size) for name, kind in source.rows_kept.items()}


def try_client_masks(judge: Judge, pruner: Pruner, stage: Stage) -> None:
    """Two rounds of one client, the first by nobody's help, the second with what it kept of the first.

    Raises:
        InputError: a row has a name or kind that cannot be kept, or an answer cannot be used.
    """
    size, weights = stage.layout.size, stage.weights
    rows = remembered_rows(judge, pruner, size)
    mask, states = torch.ones(size, dtype=torch.bool), {name: row.fresh() for name, row in rows.items()}
    for number in dict.fromkeys((1, stage.rounds)):
        view = ClientPruneView(
            stage.layout, stage.units, 0, weights, weights, mask, 1.0 if pruner.needs_accuracy else None, states,
            number, stage.rounds, lambda *address, n=number: generator(0, Purpose.CLIENT_MASK, n, 0, *address),
        )  # fmt: skip
        found = judge.ask("client_mask", partial(pruner.client_mask, view), weights, mask, *states.values())
        if not isinstance(found, OwnMask):
            raise judge.refuse(f"client_mask gives a {type(found).__name__}, expected an OwnMask")
        judge.tensor("client_mask: start", found.start, weights)
        if not bool(judge.tensor("client_mask: mask", found.mask, mask).any()):
            raise judge.refuse(f"client_mask prunes everything in round {number}; leave some weights")
        if unknown := [name for name in found.states if name not in rows]:
            raise judge.refuse(f"client_mask keeps {unknown[0]!r}, which client_rows does not name; add it there")
        for name, row in found.states.items():
            judge.tensor(f"client_mask: {name}", row, states[name])
        mask, states = found.mask, {**states, **found.states}
        if pruner.decides_after:
            mask = _try_after(judge, pruner, stage, mask, number)


def _try_after(judge: Judge, pruner: Pruner, stage: Stage, mask: Tensor, number: int) -> Tensor:
    """What it decides after local training."""
    start, noted = stage.weights * mask, pruner.snapshot(2)
    view = ClientEndView(
        stage.layout, stage.units, 0, mask, start, None if noted is None else 0.9 * start, 0.8 * start,
        1.0 if pruner.needs_end_accuracy else None, number, stage.rounds,
        lambda *address: generator(0, Purpose.CLIENT_MASK, number, 0, 0, *address),
    )  # fmt: skip
    found: Tensor = judge.ask("client_mask_after", partial(pruner.client_mask_after, view), start, mask)
    if not bool(judge.tensor("client_mask_after", found, mask).any()):
        raise judge.refuse(f"client_mask_after prunes everything in round {number}; leave some weights")
    return found


def try_coverage(judge: Judge, aggregator: Aggregator, view: RoundView, state: Any) -> None:
    """An aggregate of clients that hold different coordinates, and one that nobody holds.

    Raises:
        InputError: what nobody holds is moved.
    """
    masks = torch.rand(view.updates.shape, generator=generator(0, Purpose.CLIENT_MASK)) < 0.5
    masks[:, 0] = False
    own = RoundView(**{**vars(view), "updates": view.updates * masks, "masks": masks})
    found = judge.ask("aggregate of own masks", partial(aggregator.aggregate, state, own), own.updates, masks)
    if not isinstance(found, Aggregate):
        raise judge.refuse(f"aggregate gives a {type(found).__name__}, expected an Aggregate")
    if bool((judge.tensor("aggregate: delta", found.delta, view.weights)[~masks.any(0)] != 0).any()):
        raise judge.refuse(
            "aggregate moves a coordinate that no client holds (view.masks), and it should keep its value; give 0 "
            "there, or set `own_masks: ClassVar[bool] = False`"
        )
