"""Models that read text: attention by hand, and what is no text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.scenarios.models.base import Model
from autoflip_secure.scenarios.models.text import Lstm, Transformer

CLASSES = 20


def rows(length: int) -> torch.Tensor:
    return torch.randint(0, CLASSES, (6, length), generator=torch.Generator().manual_seed(1))


def test_a_causal_position_does_not_see_later_ones() -> None:
    torch.manual_seed(0)
    for attention, sees in (("causal", False), ("full", True)):
        net: Any = Transformer(width=8, heads=2, layers=2, hidden=12, attention=attention).build(rows(12), CLASSES, 0)
        x = torch.randn(1, 12, 8)
        other = x.clone()
        other[0, 7:] = torch.randn(5, 8)
        one, changed = net.blocks(x), net.blocks(other)
        assert torch.allclose(one[0, :7], changed[0, :7]) != sees
        assert not torch.allclose(one[0, 7:], changed[0, 7:])


def test_attention_by_hand() -> None:
    net: Any = Transformer(width=4, heads=2, layers=1, hidden=6).build(rows(5), CLASSES, 0)
    block, x = net.blocks[0], torch.randn(1, 5, 4)
    query, key, value = block.query(x)[0], block.key(x)[0], block.value(x)[0]
    mixed = torch.zeros(5, 4)
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        for here in range(5):
            scores = torch.stack([query[here, part] @ key[there, part] / 2**0.5 for there in range(here + 1)]).softmax(
                0
            )
            mixed[here, part] = sum(scores[there] * value[there, part] for there in range(here + 1))
    torch.testing.assert_close(block._attend(x)[0], block.mix(mixed))


@pytest.mark.parametrize("model", [Lstm(hidden=4), Transformer(width=4, heads=1)])
def test_what_is_no_text_is_refused(model: Model) -> None:
    with pytest.raises(UnsupportedModelError, match=r"expected rows of token ids .whole numbers."):
        model.build(torch.zeros(2, 1, 8, 8), 10, 0)
    with pytest.raises(
        UnsupportedModelError, match=r"token ids run from 0 to 9, and its vocabulary has 5; set model.to"
    ):
        model.build(torch.tensor([[0, 9], [1, 2]]), 5, 0)
    assert model.model_copy(update={"tokens": 10}).build(torch.tensor([[0, 9], [1, 2]]), 5, 0)
    with pytest.raises(ValueError, match=r"width = 6 is no multiple of heads = 4"):
        Transformer(width=6, heads=4)
