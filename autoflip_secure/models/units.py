"""What may be taken out of a model as a whole: the one interface through which everybody asks about units.

A *unit* is what a network can lose without a change of shape anywhere else being left open: a neuron, a filter, or
several of them that are bound together (channels of one residual stream, of one norm group). Units that play the same
part form a *group*. Two classes say which units a model has: :class:`~.chain.Chain`, proven by torch.fx for models
that are a chain of layers, and :class:`~.unit_graph.UnitGraph`, for everything else that torch-pruning can follow.

A group's unit has *incoming* weights (rows of all layers that make it), *outgoing* weights (columns of all layers that
read it) and tensors of its own (biases, normalisation with its running statistics, depthwise and grouped filters).
Lists "per group" have one entry for each of :attr:`Units.groups`, the outputs last; "per hidden group" leaves them out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.models.layout import Layout, Segment


@dataclass(frozen=True)
class UnitGroup:
    """Units that play the same part in a model."""

    name: str  # of the first layer that makes them
    units: int


@dataclass(frozen=True)
class LayerUnits:
    """What is left of one weight tensor: of its rows (output units) and, where it is known, of its columns."""

    units: int
    live: int
    live_inputs: int | None = None  # None: those of the layer before, in a chain


class Units(ABC):
    """The units of a model. Outputs are units too, the last group, and are never dropped."""

    input_shape: tuple[int, ...]  # of one sample, without the batch
    input_dtype: torch.dtype
    #: Whether the network still works without all units of a group, since others lead past it.
    branches: ClassVar[bool]
    kept_whole: tuple[str, ...]  # which units are known and yet stay, each a sentence with the reason

    @property
    @abstractmethod
    def groups(self) -> tuple[UnitGroup, ...]:
        """In the order of the forward pass; the outputs last."""

    @abstractmethod
    def close(self, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """Dead-unit closure: the largest mask within ``mask`` that has no dead unit with a live coordinate.

        A hidden unit without live incoming or without live outgoing weights is dead. Monotone and idempotent; returns
        ``mask`` itself if nothing changes. Frozen tensors count as alive until their unit is dead, and are left alive
        in the mask, which is not about them.
        """

    @abstractmethod
    def used(self, mask: Bool[Tensor, " params"], layout: Layout) -> Bool[Tensor, " params"]:
        """``mask`` without the frozen coordinates of dead units: what the forward pass has any use for."""

    @abstractmethod
    def removable(self, layout: Layout) -> list[bool]:
        """Per hidden group, whether a pruner may take its units: all weights into and out of them are trained."""

    @abstractmethod
    def live_units(self, mask: Bool[Tensor, " params"], layout: Layout) -> list[Bool[Tensor, " _"]]:
        """Per group, which units are left after closure, shape (units,). Output units always are."""

    @abstractmethod
    def keep_units(self, kept: Sequence[Bool[Tensor, " _"]], layout: Layout) -> Bool[Tensor, " params"]:
        """The mask that keeps exactly these units: per group, shape (units,), everything else (and frozen) alive.

        Raises:
            InputError: not one entry per group, a wrong length, or an output unit is dropped.
        """

    @abstractmethod
    def scaled_macs(self, counts: Sequence[int]) -> int:
        """Multiply-adds of one sample's forward pass with ``counts`` units per group (outputs included).

        Of fully connected and convolutional layers, which is where units make a difference.
        """

    @abstractmethod
    def fixed_macs(self, layout: Layout) -> int:
        """The part of them that no choice of removable units changes."""

    @abstractmethod
    def mean_weights(
        self, rows: Float[Tensor, "batch params"], layout: Layout
    ) -> list[tuple[Float[Tensor, "batch _"], Float[Tensor, "batch _"]]]:
        """Per hidden group, the means of ``rows`` over each unit's incoming and over its outgoing weights."""

    @abstractmethod
    def sums(self, rows: Float[Tensor, "batch params"], layout: Layout) -> list[Float[Tensor, "batch _"]]:
        """Per hidden group, sums of ``rows`` over what makes each unit: incoming weights and tensors of its own."""

    @abstractmethod
    def fully_connected(self, layout: Layout) -> list[Segment]:
        """Hidden weights of fully connected layers, in the order of the forward pass: they may be thinned singly."""

    @abstractmethod
    def of_weights(self, mask: Bool[Tensor, " params"], layout: Layout) -> dict[str, LayerUnits]:
        """What is left of each weight tensor whose units are known, by its name."""

    @abstractmethod
    def narrowed(
        self, weights: Float[Tensor, " params"], kept: Sequence[Bool[Tensor, " _"]], layout: Layout
    ) -> dict[str, Tensor]:
        """The tensors of the smaller model that is left when only ``kept`` units stay, where they differ, by name."""
