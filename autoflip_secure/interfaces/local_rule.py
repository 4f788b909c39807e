r"""Local rules: what a client does besides plain steps (penalties, other gradients, other steps, masks that move).

.. math::
    g \leftarrow m \odot \mathrm{gradient}\big(\nabla L + \mu (w - w_t) + \nabla\,\mathrm{penalty}(w)\big), \qquad
    w \leftarrow w + m \odot \mathrm{step}(\text{what the optimiser would add}), \qquad
    m \leftarrow \mathrm{mask}(w, g) \text{ at the end of an epoch}

A rule is written once for all trainers: models stand side by side on a leading dimension (of length 1 for one at a
time), and no model's numbers may depend on the models beside it. Rules see no data, only weights and mini-batch
gradients; under DP-SGD those are clipped and noised before a rule sees them, so whatever it does is post-processing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoflip_secure.interfaces.base import Plugin
from autoflip_secure.interfaces.landscape import Exploration
from autoflip_secure.models.layout import Layout, Segment

WorksOn = Literal["weights", "scores", "thresholds", "both"]
HOOKS = ("proximal", "penalty", "gradient", "step", "mask")


@dataclass(frozen=True)
class LocalView:
    """Models while they train. Each list has one tensor (models, *shape) per segment; change none of them in place.

    A scalar parameter has shape (models,): ``tensor.reshape(len(tensor), -1)`` is (models, numbers) of any.
    """

    segments: tuple[Segment, ...]  # trained parameters that the forward pass uses, in the order of the layout
    weights: list[Tensor]  # before the step that is made
    starts: list[Tensor]  # where local training began
    masks: list[Tensor] | None  # 1 where a coordinate is live, 0 where it is pruned; None: all are live
    broadcast: list[Tensor] | None  # what :meth:`LocalRule.broadcast` gave
    round: int  # from 1
    rounds: int


@dataclass(frozen=True)
class BroadcastView:
    """What the server may look at before round 1, and before later rounds that :meth:`LocalRule.renews` names."""

    layout: Layout
    exploration: Exploration | None  # None unless :attr:`LocalRule.needs_exploration`
    generator: Callable[..., torch.Generator]  # generator(*address below LOCAL_RULE, and after round 1 the round)
    round: int = 1  # that it is for
    step: Float[Tensor, " params"] | None = None  # of the server in the round before, before it pruned; None: no round
    before: Float[Tensor, " params"] | None = None  # what :meth:`LocalRule.broadcast` gave last
    participants: tuple[int, ...] = ()  # of the round before


class LocalRule(Plugin):
    """How clients train locally. Override what is needed: a hook that is not overridden costs nothing."""

    broadcast_bits: ClassVar[Literal[2, 32]] = 32  # of a number of :meth:`broadcast`; 2: it is -1, 0 or 1
    needs_exploration: ClassVar[bool] = False  # phase 1 takes place, for :meth:`broadcast`
    #: what is trained; scores: of trained masks, thresholds: of units, both: whatever clients train
    works_on: ClassVar[WorksOn] = "weights"

    @property
    def needs_explorers(self) -> bool:
        """Whether :meth:`broadcast` looks at what single explorers sent, not at the landscape alone."""
        return False

    @property
    def remembers_explorers(self) -> bool:
        """Whether the server keeps what single explorers sent, to renew :meth:`broadcast` for who took part."""
        return False

    @property
    def hooks(self) -> frozenset[str]:
        """The hooks of :data:`HOOKS` that are called: those that the class overrides."""
        return frozenset(hook for hook in HOOKS if getattr(type(self), hook) is not getattr(LocalRule, hook))

    @property
    def moves_masks(self) -> bool:
        """Whether models end on other masks than they began with."""
        return "mask" in self.hooks

    @property
    def broadcasts(self) -> bool:
        """Whether :meth:`broadcast` gives something."""
        return type(self).broadcast is not LocalRule.broadcast

    def broadcast(self, view: BroadcastView) -> Float[Tensor, " params"] | None:
        """What the server sends to each client once, with the first model; None: nothing."""
        return None

    def renews(self, round_: int, rounds: int) -> bool:
        """Whether :meth:`broadcast` is asked again before ``round_`` (from 2), and sent to its clients. Default: never.

        A rule that renews it may give None; in rounds without renewal the last one counts.
        """
        return False

    def moves_in(self, round_: int, rounds: int) -> bool:
        """Whether masks move in ``round_`` (from 1). Default: in every one."""
        return True

    @property
    def proximal(self) -> float:
        """mu >= 0 of an extra loss mu/2 ||w - w_t||^2, with w_t where local training began."""
        return 0.0

    def penalty(self, view: LocalView) -> Float[Tensor, " models"]:
        """An extra loss of each model, differentiable in ``view.weights``; the recorded loss is without it."""
        raise NotImplementedError

    def gradient(self, view: LocalView, gradients: list[Tensor]) -> list[Tensor]:
        """What the optimiser gets, from mini-batch gradients; weight decay and momentum come after.

        ``gradients`` are the rule's own, to be changed in place or not. They are dense: what is given at pruned
        coordinates is dropped.
        """
        raise NotImplementedError

    def step(self, view: LocalView, steps: list[Tensor]) -> list[Tensor]:
        """What is added to the weights, from what the optimiser would add: ``steps``, which are the rule's own."""
        raise NotImplementedError

    def moves_after(self, epoch: int, epochs: int) -> bool:
        """Whether :meth:`mask` is asked when ``epoch`` of ``epochs`` has ended (both from 1). Default: of every one."""
        return True

    def mask(
        self, view: LocalView, gradients: list[Tensor], epoch: Int[Tensor, " models"], epochs: int
    ) -> list[Tensor]:
        """Which coordinates are live from now on, as booleans. What dies becomes 0; what is new starts at 0.

        Asked for all models when one of them ends an epoch with :meth:`moves_after`; the answer counts for those that
        do. The mask at the end is the client's own from then on, and what its update is sent under; so what comes after
        the last epoch is sent as 0.

        Args:
            view: after the last step of the epoch.
            gradients: of the last mini-batch, dense: at pruned coordinates too.
            epoch: epochs that each model has finished.
            epochs: of local training.
        """
        raise NotImplementedError


class NoLocalRule(Plugin):
    """Plain local training."""

    kind: Literal["none"] = "none"
    source: ClassVar[str] = "baseline: what the optimiser does and no more"


@dataclass(frozen=True)
class RoundRule:
    """The local rule of one job."""

    rule: LocalRule
    round: int
    rounds: int
    broadcast: Float[Tensor, " params"] | None = None

    @property
    def moves(self) -> bool:
        """Whether it moves masks in this round."""
        return self.rule.moves_masks and self.rule.moves_in(self.round, self.rounds)
