"""What every trial of a plug-in from outside is held to; see :mod:`.plugin_trial`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.scenarios.models.rehearsal import elsewhere
from autoflip_secure.seeds import Purpose
from autoflip_secure.terminal.visible import short
from autoflip_secure.training.bits import same_bits


@dataclass(frozen=True)
class Judge:
    """Asks a plug-in from outside, and refuses answers that cannot be used."""

    place: str

    def refuse(self, why: str) -> InputError:
        """The error that says so."""
        return InputError(f"{self.place}: {why}")

    def ask(self, what: str, do: Callable[[], Any], *shown: Tensor) -> Any:
        """What ``do`` gives: twice the same, with the process's generators at different places, and nothing changed."""
        before = [tensor.clone() for tensor in shown]
        try:
            with drawing_at(0, Purpose.UPDATE_ATTACK):
                first = do()
            kept = all(map(same_bits, before, shown))  # asked again, it might turn the change back
            with elsewhere():
                other = do()
        except AutoflipError as error:
            raise self.refuse(str(error)) from error
        except (Exception, SystemExit) as error:  # it is code from outside: it can fail in any way
            raise self.refuse(f"{what} failed with {type(error).__name__}: {short(error, 300)}; mend it") from error
        if not (kept and all(map(same_bits, before, shown))):
            raise self.refuse(f"{what} changes what it is shown in place; let it work on a copy (tensor.clone())")
        if not equal(first, other):
            raise self.refuse(
                f"{what} gives another answer when it is asked the same again: it remembers something, or draws random "
                "numbers of its own; use the generators that it is handed, and keep memory in the state"
            )
        return first

    def tensor(self, what: str, found: Any, like: Tensor) -> Tensor:
        """``found``, if it has the shape and the type of ``like``."""
        said = f"a tensor of shape {tuple(like.shape)} and {like.dtype}"
        if not isinstance(found, Tensor):
            raise self.refuse(f"{what} gives a {type(found).__name__}, expected {said}")
        if found.shape != like.shape or found.dtype != like.dtype:
            raise self.refuse(f"{what} gives shape {tuple(found.shape)} and {found.dtype}, expected {said}")
        return found


def equal(one: Any, other: Any) -> bool:
    """Whether two answers are the same, tensor by tensor; what is neither number nor container counts as equal."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return same_bits(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if is_dataclass(one) and is_dataclass(other):
        return equal(vars(one), vars(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return not isinstance(one, int | float | str) or one == other
