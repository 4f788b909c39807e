"""Weights of a network from a file: what is taken, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.scenarios.models.base import Model
from autoflip_secure.scenarios.models.vision import MobileNetV2

ROWS = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_weights_of_a_state_dict(kind: str, tmp_path: Any) -> None:
    """All but the output layer of another number of classes."""
    from safetensors.torch import save_file

    said, path = MobileNetV2(width=0.1), tmp_path / f"weights.{kind}"
    other = said.build(ROWS, 7, 5)
    state = {name: tensor.contiguous() for name, tensor in other.state_dict().items()}
    if kind == "pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    loaded = said.model_copy(update={"weights": path})
    assert loaded.reads() == (path,)
    for classes in (7, 5):
        found, drawn = (
            loaded.build(ROWS, classes, 1).state_dict(),
            said.build(ROWS, classes, 1).state_dict(),
        )
        for name, tensor in found.items():
            same = state[name] if classes == 7 or not name.startswith("classifier.1.") else drawn[name]
            assert torch.equal(tensor, same), name


def test_state_dicts_that_cannot_be_used(tmp_path: Any) -> None:
    said, path = MobileNetV2(width=0.1), tmp_path / "weights.pt"
    state = said.build(ROWS, 7, 5).state_dict()
    first = next(iter(state))

    def refused(content: Any) -> str:
        if content is not None:
            torch.save(content, path)
        with pytest.raises((InputError, UnsupportedModelError)) as error:
            said.model_copy(update={"weights": path}).build(ROWS, 7, 1)
        assert str(path) in str(error.value)
        return str(error.value)

    assert "no such file" in refused(None)
    assert "has shape (3,), the model's has" in refused({**state, first: torch.zeros(3)})
    assert "lacks features.0.0.weight; give a state dict" in refused({n: t for n, t in state.items() if n != first})
    assert "holds extra, which the model has not" in refused({**state, "extra": torch.zeros(1)})
    assert "holds NaN or infinity" in refused({**state, first: state[first] * float("nan")})
    assert "expected names and tensors" in refused([1, 2])
    assert "'a' is a int, expected a tensor" in refused({"a": 1})
    assert "not a whole state dict" in refused({"a": Model})  # an object: it would run code
    path.write_text("hello")
    assert "is plain text" in refused(None)
