"""Attacks on what malicious clients train on, inputs included, and backdoors, whose success is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from autoflip_secure.interfaces.attack import DataAttack


@dataclass(frozen=True)
class InputView:
    """What a malicious client knows when it changes its inputs."""

    inputs: Shaped[Tensor, "n ..."]  # its own, as attacks before left them
    labels: Int[Tensor, " n"]  # the true ones
    num_classes: int
    largest: Tensor  # see :func:`largest_values`
    member: int  # its place among the attack's malicious clients, by ascending id, from 0
    generator: torch.Generator  # the same draws as for its labels, the same in every round


class InputAttack(DataAttack, ABC):
    """Changes a malicious client's inputs too before it trains; labels and inputs draw the same numbers."""

    @abstractmethod
    def inputs(self, view: InputView) -> Shaped[Tensor, "n ..."]:
        """The inputs that the malicious client trains on, of the same shape and type; pure."""

    def fault(self, x: Shaped[Tensor, "n ..."]) -> tuple[str, str] | None:
        """An option that does not go with inputs like these, and what is wrong with it and the way out; or None."""
        return None


class BackdoorAttack(InputAttack, ABC):
    """Teaches the global model to answer one class wherever a trigger is; its success is measured in every evaluation.

    .. math:: \\text{attack success rate} = \\frac{|\\{i : y_i \\ne c,\\; \\arg\\max f_w(T(x_i)) = c\\}|}
        {|\\{i : y_i \\ne c\\}|}

    over the test set, with c the target and T the whole trigger.
    """

    @property
    @abstractmethod
    def wanted(self) -> int:
        """The class that inputs with the trigger go to."""

    @abstractmethod
    def triggered(self, inputs: Shaped[Tensor, "n ..."], largest: Tensor) -> Shaped[Tensor, "n ..."]:
        """Test inputs with the whole trigger; ``largest``: see :func:`largest_values` of the training inputs."""


def largest_values(x: Shaped[Tensor, "n ..."]) -> Tensor:
    """The largest value that training inputs have, as a tensor that broadcasts to one of them.

    Of images (channels, height, width) by channel, of all else by feature.
    """
    if x.dim() == 4:
        return x.amax(dim=(0, 2, 3))[:, None, None]
    return x.amax(dim=0)
