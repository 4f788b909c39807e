"""What a plug-in from outside answers in the middle of a run: held to its contract, or the run ends with its name.

Aggregators and their pre-aggregators, pruners and local rules here, attacks in :mod:`.outside_attacks`. They were tried
before anything ran, on made-up rows of round 1. What they do with a round that no trial could show (all
rows equal, nobody left, weights that have grown) is judged here: else a record would hold its NaN as a client's trust,
or say of a missing answer that nobody had sent what can be used.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    BroadcastView,
    ClientJob,
    ClientRows,
    LocalRule,
    Mixture,
    Plugin,
    PreAggregator,
    Pruner,
    PruneView,
    RoundView,
    RowsView,
)
from autoflip_secure.interfaces.base import called
from autoflip_secure.runtime.memory import out_of_memory
from autoflip_secure.terminal.visible import short

_CLOSE = 1e-3  # of the sum of trust to 1


def aggregates(aggregator: Aggregator, states: Sequence[Any], views: Sequence[RoundView]) -> list[Aggregate]:
    """What it makes of the rounds of several cells.

    Raises:
        InputError: it is from outside, and fails, or gives what cannot be recorded.
    """
    if not aggregator.foreign:
        return aggregator.aggregate_cells(states, views)
    with blamed(aggregator, f"aggregator.kind = {called(aggregator)!r}: aggregate", views[0].round):
        found = list(aggregator.aggregate_cells(states, views))
    for view, one in zip(views, found, strict=True):
        fault = _fault(aggregator, one, view)
        if fault is not None:
            raise InputError(f"aggregator.kind = {called(aggregator)!r}: in round {view.round} {fault}")
    return found


def mask_of(pruner: Pruner, view: PruneView) -> Bool[Tensor, " params"]:
    """The mask that it wants.

    Raises:
        InputError: it is from outside, and fails, or gives no mask.
    """
    if not pruner.foreign:
        return pruner.mask(view)
    with blamed(pruner, f"pruner.kind = {called(pruner)!r}: mask", view.round):
        mask: object = pruner.mask(view)
    if isinstance(mask, Tensor) and mask.shape == view.mask.shape and mask.dtype == torch.bool:
        return mask
    given = f"shape {tuple(mask.shape)} and {mask.dtype}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
    raise InputError(
        f"pruner.kind = {called(pruner)!r}: in round {view.round} mask gives {given}, expected a tensor of shape "
        f"{tuple(view.mask.shape)} and torch.bool"
    )


def remembered_rows(
    one: PreAggregator, memory: Any, here: ClientRows, mask: Bool[Tensor, " params"], round_: int
) -> tuple[ClientRows, Any]:
    """The rows of a round with those that it remembers, and its memory.

    Raises:
        InputError: it is from outside, and fails, or gives no such rows.
    """
    if not one.foreign:
        return one.recall(memory, here, mask)
    place = f"aggregator.before.kind = {called(one)!r}"
    with blamed(one, f"{place}: recall", round_):
        answer: object = one.recall(memory, here, mask)
    place = f"{place}: in round {round_} recall"
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], ClientRows)):
        raise InputError(f"{place} gives a {type(answer).__name__}, expected (ClientRows, memory)")
    found: ClientRows = answer[0]
    count = len(found.clients)
    for name in ("clients", "updates", "samples", "shrinkage"):
        like: Tensor = getattr(here, name)
        like_expected(getattr(found, name), like.new_empty(count, *like.shape[1:]), f"{place}: {name}")
    if count < len(here.clients) or not torch.equal(found.clients[: len(here.clients)], here.clients):
        raise InputError(f"{place}: does not begin with the clients of the round, which are {_shown(here.clients)}")
    return found, answer[1]


def mixture_of(one: PreAggregator, view: RowsView, round_: int) -> Mixture:
    """What it makes of rows.

    Raises:
        InputError: it is from outside, and fails, or gives no mixture of them.
    """
    if not one.foreign:
        return one.mix(view)
    place = f"aggregator.before.kind = {called(one)!r}"
    with blamed(one, f"{place}: mix", round_):
        found: object = one.mix(view)
    place = f"{place}: in round {round_} mix"
    if not isinstance(found, Mixture):
        raise InputError(f"{place} gives a {type(found).__name__}, expected a Mixture")
    count = one.rows_after(len(view.updates))
    like_expected(found.rows, view.updates.new_empty(count, view.updates.shape[1]), f"{place}: rows")
    mixing = like_expected(found.mixing, view.updates.new_empty(count, len(view.updates)), f"{place}: mixing")
    if not is_mixing(mixing):
        raise InputError(
            f"{place}: mixing is {_shown(mixing)}, expected numbers from 0, each row of a sum above 0 to 1"
        )
    return found


def broadcast_of(rule: LocalRule, view: BroadcastView, like: Float[Tensor, " params"]) -> Tensor | None:
    """What the server sends for it.

    Raises:
        InputError: it is from outside, and fails, or gives what cannot be sent.
    """
    if not rule.foreign:
        return rule.broadcast(view)
    with blamed(rule, f"local_rule.kind = {called(rule)!r}: broadcast", view.round):
        found: object = rule.broadcast(view)
    return (
        None
        if found is None
        else like_expected(found, like, f"local_rule.kind = {called(rule)!r}: in round {view.round} broadcast")
    )


@contextmanager
def blaming_rule(jobs: Sequence[ClientJob]) -> Iterator[None]:
    """While ``jobs`` train: what fails is said of their local rule, where that is from outside.

    Raises:
        InputError: training failed.
    """
    rule = next((job.rule for job in jobs if job.rule is not None and job.rule.rule.foreign), None)
    if rule is None:
        yield
        return
    with blamed(rule.rule, f"local_rule.kind = {called(rule.rule)!r}: training by it", rule.round):
        yield


def is_mixing(mixing: Float[Tensor, "mixed rows"]) -> bool:
    """Whether these are the parts that rows have in others: non-negative, and of a sum above 0 and at most 1."""
    sums = mixing.sum(1)
    return bool((mixing >= 0).all()) and float(sums.min()) > 0 and float(sums.max()) < 1 + _CLOSE


def like_expected(given: object, like: Tensor, place: str) -> Tensor:
    """``given``, where it has the shape and the type of ``like``.

    Raises:
        InputError: it has not.
    """
    if isinstance(given, Tensor) and given.shape == like.shape and given.dtype == like.dtype:
        return given
    said = f"{tuple(given.shape)}, {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
    raise InputError(f"{place} gives {said}, expected {tuple(like.shape)}, {like.dtype}")


def _fault(aggregator: Aggregator, found: object, view: RoundView) -> str | None:
    if not isinstance(found, Aggregate):
        return f"aggregate gives a {type(found).__name__}, expected an Aggregate"
    for name, given, like in (("delta", found.delta, view.weights), ("trust", found.trust, view.samples)):
        if not isinstance(given, Tensor) or given.shape != like.shape or given.dtype != like.dtype:
            said = f"{tuple(given.shape)}, {given.dtype}" if isinstance(given, Tensor) else type(given).__name__
            return f"aggregate: {name} is {said}, expected {tuple(like.shape)}, {like.dtype}"
    if not found.delta.isfinite().all():
        return None  # there is no step, and the record says so
    return _fault_of_trust(found.trust) or _fault_of_scores(aggregator, found.scores, len(view.samples))


def is_trust(values: Tensor) -> bool:
    """Whether ``values``, (n,), are the parts that clients have in a step, or all zero where there is none."""
    total = float(values.sum())
    return bool((values >= 0).all()) and min(abs(total - 1), total) < _CLOSE


def _fault_of_trust(trust: Tensor) -> str | None:
    if is_trust(trust):
        return None
    return f"aggregate: trust is {_shown(trust)}, expected numbers from 0 that sum to 1, or all 0 for no step"


def _fault_of_scores(aggregator: Aggregator, scores: Tensor | None, clients: int) -> str | None:
    if aggregator.scores_clients != (scores is not None):
        return f"aggregate gives {'no' if scores is None else 'some'} scores, unlike what its scores_clients says"
    if scores is None or (scores.shape == (clients,) and bool(((scores >= 0) & (scores <= 1)).all())):
        return None
    return f"aggregate: scores are {_shown(scores)}, expected {clients} numbers in [0, 1]"


@contextmanager
def blamed(plugin: Plugin, doing: str, round_: int) -> Iterator[None]:
    """What fails inside is said of the plug-in, with the line of its file."""
    try:
        yield
    except AutoflipError:
        raise
    except Exception as error:  # it is code from outside: it can fail in any way
        if out_of_memory(error):
            raise
        raise InputError(
            f"{doing} failed in round {round_} with {type(error).__name__}: {short(error, 300)}{_line(plugin, error)}; "
            "mend it"
        ) from error


def _line(plugin: Plugin, error: Exception) -> str:
    """The last line of the plug-in's own file that an error went through."""
    file = getattr(sys.modules.get(type(plugin).__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" (line {lines[-1]} of {Path(str(file)).name})" if lines else ""


def _shown(values: Tensor) -> str:
    return short([round(float(value), 4) for value in values.reshape(-1)])
