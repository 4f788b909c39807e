"""What a run asks of a pruner from outside with which one client begins alone; see :mod:`.plugin_trial`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from autoflip_secure.interfaces import LoneStage, LoneView, Pruner

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.plugin_trial import Stage
    from autoflip_secure.scenarios.running.trial_judge import Judge

_STAGES = 3


def uses(stage: Stage) -> dict[str, float]:
    """Made-up multiply-adds per weight and sample."""
    return {segment.name: 1.0 for segment in stage.layout if segment.kind == "weight"}


def try_lone_training(judge: Judge, pruner: Pruner, stage: Stage) -> None:
    """The first stages of one client, on made-up sums of gradients.

    Raises:
        InputError: an answer cannot be used.
    """
    mask, weights = torch.ones_like(stage.weights, dtype=torch.bool), stage.weights
    view = LoneView(
        stage.layout, stage.units, weights, mask, 0, {}, None, stage.data.num_classes, lambda: 0.5,
        partial(uses, stage),
    )  # fmt: skip
    samples = pruner.lone_samples
    if samples is not None and samples < 1:
        raise judge.refuse(f"lone_samples is {samples}; give a number from 1, or None for all rows of the client")
    for _ in range(_STAGES):
        found = judge.ask("lone_stage", partial(pruner.lone_stage, view), view.weights, view.mask, *view.sums.values())
        if not isinstance(found, LoneStage):
            raise judge.refuse(f"lone_stage gives a {type(found).__name__}, expected a LoneStage")
        if not bool(judge.tensor("lone_stage: mask", found.mask, mask).any()):
            raise judge.refuse("lone_stage prunes everything; leave some weights")
        if not isinstance(found.passes, int) or found.passes < 0 or not found.accumulate <= {"gradients", "squares"}:
            raise judge.refuse(
                f"lone_stage wants {found.passes!r} passes and sums of {', '.join(sorted(found.accumulate)) or 'none'};"
                " give a whole number from 0, and 'gradients' or 'squares'"
            )
        if found.passes == 0:
            return
        rows = stage.rows(1)[0]
        sums = {name: rows if name == "gradients" else rows.square() for name in sorted(found.accumulate)}
        view = LoneView(
            stage.layout, stage.units, torch.where(found.mask, weights, 0.0), found.mask, view.passes + found.passes,
            sums, found.memory, stage.data.num_classes, lambda: 0.5, partial(uses, stage),
        )  # fmt: skip
