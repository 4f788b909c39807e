"""What a plug-in from outside answers in the middle of a run: held to its contract, or the run ends with its name.

It was tried before anything ran, on made-up rows of round 1. What it does with a round that no trial could show (all
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
from jaxtyping import Bool
from torch import Tensor

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.interfaces import Aggregate, Aggregator, Plugin, Pruner, PruneView, RoundView
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
    with _blamed(aggregator, f"aggregator.kind = {_kind(aggregator)}: aggregate", views[0].round):
        found = list(aggregator.aggregate_cells(states, views))
    for view, one in zip(views, found, strict=True):
        fault = _fault(aggregator, one, view)
        if fault is not None:
            raise InputError(f"aggregator.kind = {_kind(aggregator)}: in round {view.round} {fault}")
    return found


def mask_of(pruner: Pruner, view: PruneView) -> Bool[Tensor, " params"]:
    """The mask that it wants.

    Raises:
        InputError: it is from outside, and fails, or gives no mask.
    """
    if not pruner.foreign:
        return pruner.mask(view)
    with _blamed(pruner, f"pruner.kind = {_kind(pruner)}: mask", view.round):
        mask: object = pruner.mask(view)
    if isinstance(mask, Tensor) and mask.shape == view.mask.shape and mask.dtype == torch.bool:
        return mask
    given = f"shape {tuple(mask.shape)} and {mask.dtype}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
    raise InputError(
        f"pruner.kind = {_kind(pruner)}: in round {view.round} mask gives {given}, expected a tensor of shape "
        f"{tuple(view.mask.shape)} and torch.bool"
    )


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
def _blamed(plugin: Plugin, doing: str, round_: int) -> Iterator[None]:
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


def _kind(plugin: Plugin) -> str:
    return repr(getattr(plugin, "kind", type(plugin).__name__))


def _shown(values: Tensor) -> str:
    return short([round(float(value), 4) for value in values.reshape(-1)])
