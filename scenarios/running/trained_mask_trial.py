"""What a run asks of a pruner from outside that trains its mask: the rest of its trial; see :mod:`.plugin_trial`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from autoflip_secure.interfaces import (
    FrozenStart,
    Role,
    SeedView,
    TrainedMask,
    TrainedThresholds,
    trained_thresholds,
)
from autoflip_secure.interfaces.trained_mask import coordinates
from autoflip_secure.seeds import Purpose, generator

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.plugin_trial import Stage
    from autoflip_secure.scenarios.running.trial_judge import Judge


def try_trained_mask(judge: Judge, pruner: TrainedMask, stage: Stage) -> None:
    """Ask for roles, for where a run begins, and for masks, scores and bits of a few numbers.

    Raises:
        InputError: it fails, or what it answers cannot be used.
    """
    for segment in stage.layout:
        role = judge.ask("role", partial(pruner.role, segment))
        if role not in get_args(Role):
            raise judge.refuse(f"role of {segment.name} is {role!r}; give one of {', '.join(get_args(Role))}")
    if pruner.own and pruner.kept not in pruner.client_rows:
        raise judge.refuse(
            f"kept = {pruner.kept!r} is no row of client_rows; name the row that keeps what a client trained"
        )
    if not pruner.own and bool(coordinates(pruner, stage.layout, "personal").any()):
        raise judge.refuse("role gives 'personal', and clients remember nothing; set `own: ClassVar[bool] = True`")
    if pruner.needs_accuracy:
        raise judge.refuse("needs_accuracy = True: a client's model is not known before it decides; set it to False")
    if pruner.prepares or pruner.begins_alone or pruner.keeps_masked:
        raise judge.refuse(
            "prepares, begins_alone or keeps_masked is True: these are about weights, and nobody trains any; leave "
            "them out"
        )
    epochs, lr = judge.ask("tuning", lambda: pruner.tuning)
    if not (isinstance(epochs, int) and epochs >= 0 and (epochs == 0 or lr > 0)):
        raise judge.refuse(f"tuning = {(epochs, lr)!r}: should be whole epochs from 0, and a learning rate above 0")
    view = SeedView(stage.layout, stage.weights, partial(generator, 0, Purpose.FROZEN_WEIGHTS))
    start = judge.ask("begin", partial(pruner.begin, view), stage.weights)
    if not isinstance(start, FrozenStart):
        raise judge.refuse(f"begin gives a {type(start).__name__}, expected a FrozenStart")
    judge.tensor("begin: theta", start.theta, stage.weights)
    held = judge.tensor("begin: held", start.held, stage.weights)[coordinates(pruner, stage.layout, "scored")]
    if not bool(((held >= 0) & (held <= 1)).all()):
        raise judge.refuse("begin: held should be probabilities in [0, 1] where tensors are scored")
    if (units := trained_thresholds(pruner)) is None:
        _try_masks(judge, pruner)
    else:
        _try_units(judge, units)


def _try_units(judge: Judge, pruner: TrainedThresholds) -> None:
    excess = torch.tensor([[-2.0, -0.1, 0.1, 2.0]])
    found = judge.tensor("unit_mask", judge.ask("unit_mask", partial(pruner.unit_mask, excess), excess), excess)
    if not bool(((found == 0) | (found == 1)).all()):
        raise judge.refuse("unit_mask should give 0 and 1: straight_through(hard, soft) has the gradient of soft")


def _try_masks(judge: Judge, pruner: TrainedMask) -> None:
    held, uniform = torch.linspace(0, 1, 5), torch.tensor([0.5, 0.1, 0.6, 0.2, 0.9])
    scores = judge.tensor("scores", judge.ask("scores", partial(pruner.scores, held), held), held)
    if not bool(scores.isfinite().all()):
        raise judge.refuse("scores of probabilities 0 or 1 are not finite, and could not be trained; clip them first")
    drawn = uniform if pruner.draws else None

    def made() -> tuple[Tensor, Tensor]:
        leaf = scores.clone().requires_grad_()
        found = pruner.mask_of(leaf, drawn)
        return found.detach(), torch.autograd.grad(found.sum(), leaf)[0]

    found, gradient = judge.ask("mask_of", made, uniform)
    judge.tensor("mask_of", found, held)
    judge.tensor("the gradient of mask_of", gradient, held)
    if not bool(((found == 0) | (found == 1)).all()):
        raise judge.refuse("mask_of should give 0 and 1: straight_through(hard, soft) has the gradient of soft")
    alone = pruner.mask_of(scores[1:2], None if drawn is None else drawn[1:2])
    if not torch.equal(alone.detach(), found[1:2]):
        raise judge.refuse("mask_of gives a score another mask when other scores stand beside it")
    for name, ask in (("bits", partial(pruner.bits, scores, uniform)), ("live", partial(pruner.live, held, uniform))):
        judge.tensor(name, judge.ask(name, ask, uniform), held > 0)
