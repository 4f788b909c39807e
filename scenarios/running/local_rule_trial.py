"""What a run asks of a local rule from outside, done on three made-up models before a folder is made."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autoflip_secure.interfaces import BroadcastView, LocalRule, LocalView
from autoflip_secure.seeds import Purpose, generator

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.plugin_trial import Stage
    from autoflip_secure.scenarios.running.trial_judge import Judge


def try_local_rule(judge: Judge, rule: LocalRule, stage: Stage) -> None:
    """Ask for what is sent before round 1, then every hook, of three models and of the first of them alone.

    Raises:
        InputError: it fails, what it answers cannot be used, or a model's numbers depend on the others.
    """
    exploration = stage.exploration if rule.needs_exploration else None

    def sent() -> Tensor | None:
        return rule.broadcast(BroadcastView(stage.layout, exploration, partial(generator, 0, Purpose.LOCAL_RULE)))

    broadcast, renewing = judge.ask("broadcast", sent), rule.broadcasts and rule.renews(2, stage.rounds)
    if renewing:
        again = BroadcastView(stage.layout, exploration, lambda *a: generator(0, Purpose.LOCAL_RULE, *a, 2), 2,
                              stage.rows(1)[0], broadcast)  # fmt: skip
        broadcast = judge.ask("broadcast", partial(rule.broadcast, again))
    if broadcast is not None:
        judge.tensor("broadcast", broadcast, stage.weights)
        if rule.broadcast_bits == 2 and not bool(torch.isin(broadcast, torch.tensor([-1.0, 0.0, 1.0])).all()):
            raise judge.refuse("broadcast gives other numbers than -1, 0 and 1, and broadcast_bits = 2; say 32")
    elif rule.broadcasts and not renewing:
        raise judge.refuse("broadcast gives None; give a tensor, or leave the method out")
    view, gradients = _three_models(stage, broadcast)
    shown = [*view.weights, *view.starts, *gradients]
    for hook in sorted(rule.hooks):
        ask = partial(_asked, rule, hook)
        found = judge.ask(hook, partial(ask, view, gradients), *shown)
        if hook == "proximal":
            if not isinstance(found, int | float) or not 0 <= found < inf:
                raise judge.refuse(f"proximal = {found!r}: should be a number, 0 or more")
            continue
        like = gradients if hook != "mask" else [gradient > 0 for gradient in gradients]
        if hook == "penalty":
            found, like = [found], [torch.zeros(len(gradients[0]))]
        if not isinstance(found, list) or len(found) != len(like):
            raise judge.refuse(f"{hook} should give a list of {len(like)} tensors, one for each of view.segments")
        for one, other in zip(found, like, strict=True):
            judge.tensor(hook, one, other)
        alone = judge.ask(hook, partial(ask, *_first(view, gradients)), *shown)
        alone = [alone] if hook == "penalty" else alone
        if not all(torch.allclose(a[0].float(), b[0].float()) for a, b in zip(alone, found, strict=True)):
            raise judge.refuse(
                f"{hook} gives a model other numbers when other models stand beside it; reduce over each model's own "
                "dimensions, never over the first"
            )


def _asked(rule: LocalRule, hook: str, view: LocalView, gradients: list[Tensor]) -> Any:
    gradients = [gradient.clone() for gradient in gradients]  # they are the rule's own
    if hook == "proximal":
        return rule.proximal
    if hook == "penalty":
        return rule.penalty(view)
    if hook == "mask":
        return rule.mask(view, gradients, torch.ones(len(gradients[0]), dtype=torch.long), 2)
    return (rule.gradient if hook == "gradient" else rule.step)(view, gradients)


def _three_models(stage: Stage, broadcast: Tensor | None) -> tuple[LocalView, list[Tensor]]:
    segments = tuple(segment for segment in stage.layout if segment.trained)

    def tensors(rows: Tensor) -> list[Tensor]:
        named = stage.layout.tensors(rows)
        return [named[segment.name] for segment in segments]

    rows = stage.rows(3)
    masks = tensors((rows > rows.min() / 3).float())
    sent = None if broadcast is None else tensors(broadcast.expand(3, -1))
    weights, starts = tensors(stage.weights + rows.flip(0)), tensors(stage.weights.expand(3, -1))
    return LocalView(segments, weights, starts, masks, sent, 1, stage.rounds), tensors(rows)


def _first(view: LocalView, gradients: list[Tensor]) -> tuple[LocalView, list[Tensor]]:
    """The first of the models alone."""
    first: dict[str, Any] = {
        key: [one[:1] for one in value] for key, value in vars(view).items() if isinstance(value, list)
    }
    return replace(view, **first), [gradient[:1] for gradient in gradients]
