"""The checker of signatures refuses what contradicts them, in functions, methods, properties and dataclasses."""

import sys
from types import FunctionType

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError
from typecheck import UNCHECKED, states_shapes

import autoflip_secure.scenarios.audits.cell_audit  # noqa: F401 - imports the algorithm, its attacks and its defences
from autoflip_secure.attacks.inference.canaries import evidence
from autoflip_secure.interfaces import Exploration
from autoflip_secure.models.layout import Layout

REFUSED = (TypeCheckError, BeartypeCallHintViolation)


def test_a_wrong_shape_or_type_is_refused() -> None:
    assert evidence(torch.zeros(3), 1.0, 0.0).shape == (3,)
    with pytest.raises(REFUSED):
        evidence(torch.zeros(3, 2), 1.0, 0.0)
    with pytest.raises(REFUSED):
        evidence(torch.zeros(3, dtype=torch.long), 1.0, 0.0)
    with pytest.raises(REFUSED):
        evidence(torch.zeros(3), "loud", 0.0)  # type: ignore[arg-type]


def test_a_dataclass_whose_fields_do_not_fit_each_other_is_refused() -> None:
    three = torch.arange(3)
    fitting = Exploration(three, torch.ones(3), torch.zeros(3, 5), torch.zeros(5), torch.ones(3), three >= 0)
    assert fitting.rejected == ()
    with pytest.raises(REFUSED):
        Exploration(three, torch.ones(4), torch.zeros(3, 5), torch.zeros(5), torch.ones(3), three >= 0)


def test_methods_and_what_they_return_are_checked() -> None:
    module = torch.nn.Linear(2, 1)
    layout = Layout.of(module)
    with pytest.raises(REFUSED):
        layout.load(module, torch.zeros(1, 3))

    class Wrong(Layout):
        def where(self, *segments: object) -> torch.Tensor:
            return torch.zeros(self.size)  # no indicator

    with pytest.raises(REFUSED):
        _ = Wrong(layout.segments).prunable


def test_everything_that_states_shapes_is_checked() -> None:
    """Wrapped functions carry the plain one; what another decorator holds (a cache, a switch of threads) is left."""
    checked, bare = set(), set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "autoflip_secure" or name.startswith(UNCHECKED):
            continue
        for owner in [vars(module), *(vars(one) for one in vars(module).values() if isinstance(one, type))]:
            for value in owner.values():
                plain = getattr(value, "__func__", value)
                if isinstance(plain, FunctionType) and plain.__module__ == name and states_shapes(plain):
                    (checked if hasattr(plain, "__wrapped__") else bare).add(f"{name}.{plain.__qualname__}")
    assert not bare
    assert len(checked) > 100
