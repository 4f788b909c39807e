"""What hooks of a local rule give while models train: one from outside may give shapes that torch would stretch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import LocalRule, LocalView
from autoflip_secure.interfaces.base import called


def given(rule: LocalRule, hook: str, view: LocalView, found: list[Tensor]) -> list[Tensor]:
    """``found``, which ``hook`` gave: tensors of the shapes of the weights.

    Raises:
        InputError: the rule is from outside, and they are not.
    """
    if rule.foreign:
        shapes = [tuple(weight.shape) for weight in view.weights]
        got = [tuple(one.shape) for one in found] if isinstance(found, list) else f"a {type(found).__name__}"
        if got != shapes:
            raise _refused(rule, view, f"{hook} gives {got}, expected a list of tensors of the shapes {shapes}")
    return found


def penalties(rule: LocalRule, view: LocalView) -> Float[Tensor, " models"]:
    """The extra loss of each model.

    Raises:
        InputError: the rule is from outside, and gives another number of them.
    """
    found, models = rule.penalty(view), len(view.weights[0])
    if rule.foreign and tuple(found.shape) != (models,):
        raise _refused(rule, view, f"penalty gives {tuple(found.shape)}, expected a number for each of {models} models")
    return found


def _refused(rule: LocalRule, view: LocalView, why: str) -> InputError:
    return InputError(f"local_rule.kind = {called(rule)!r}: in round {view.round} {why}")
