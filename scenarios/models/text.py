r"""Models that read text: rows of token ids in, logits of the next token out.

.. math:: \mathrm{Attention}(Q, K, V) = \mathrm{softmax}(Q K^\top / \sqrt{d} + M) V, \quad M_{ij} = -\infty \; (j > i)

Both read the logits off the last position. Sources: Caldas et al. 2018 (LEAF's Shakespeare model); Vaswani et al. 2017,
with the normalisation before each part (Xiong et al. 2020).
"""

from __future__ import annotations

from math import sqrt
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Int, Shaped
from pydantic import Field, model_validator
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.scenarios.models.base import Model, Size

Layers = Annotated[int, Field(ge=1, le=64)]


class TextModel(Model):
    """Reads rows of token ids, all of one length."""

    tokens: Size | None = Field(
        default=None, description="size of the vocabulary; null = as many as classes (the next character is predicted)"
    )

    def takes_whole_numbers(self, rows: Int[Tensor, "rows ..."], num_classes: int, seed: int) -> bool:
        """Token ids stay whole numbers."""
        return True

    def build(self, rows: Shaped[Tensor, "rows ..."], num_classes: int, seed: int) -> nn.Module:
        """As :meth:`.Model.build`; what is not text is refused in its own words."""
        kind, size = getattr(self, "kind", type(self).__name__), self.vocabulary(num_classes)
        if rows.is_floating_point() or rows.dim() != 2:
            raise UnsupportedModelError(
                f"{kind}: samples are {rows.dtype} of shape {tuple(rows.shape[1:])}, expected rows of token ids (whole "
                "numbers), as data of kind leaf or speakers are; choose such data, or a model for images"
            )
        if int(rows.min()) < 0 or int(rows.max()) >= size:
            raise UnsupportedModelError(
                f"{kind}: token ids run from {int(rows.min())} to {int(rows.max())}, and its vocabulary has {size}; "
                f"set model.tokens to {int(rows.max()) + 1} or more, and number tokens from 0"
            )
        return super().build(rows, num_classes, seed)

    def vocabulary(self, num_classes: int) -> int:
        """Rows of the embedding."""
        return self.tokens or num_classes

    def length(self, input_shape: tuple[int, ...]) -> int:
        """Tokens of a sample."""
        if len(input_shape) != 1:
            raise UnsupportedModelError(f"text models read rows of tokens, not samples of shape {tuple(input_shape)}")
        return input_shape[0]


class Lstm(TextModel):
    """LEAF's Shakespeare model: embedding of 8, two LSTM layers of 256; 819,920 parameters for 80 characters."""

    kind: Literal["lstm"] = "lstm"
    source: ClassVar[str] = "Caldas et al. 2018 (LEAF), models/shakespeare/stacked_lstm.py"
    embedding: Size = Field(default=8, description="numbers of a token")
    hidden: Size = Field(default=256, description="numbers of the state of a layer")
    layers: Layers = Field(default=2, description="LSTM layers, one on the other")

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """One logit for each token that may come next."""
        self.length(input_shape)
        return _Recurrent(self.vocabulary(num_classes), self.embedding, self.hidden, self.layers, num_classes)


class Transformer(TextModel):
    """A small transformer for the next token: 115,536 parameters for 80 characters, read 80 at a time."""

    kind: Literal["transformer"] = "transformer"
    source: ClassVar[str] = "Vaswani et al. 2017, normalised first (Xiong et al. 2020); sizes are this project's"
    width: Size = Field(default=64, description="numbers of a position; a multiple of heads")
    heads: Layers = Field(default=4, description="attention heads")
    layers: Layers = Field(default=2, description="blocks of attention and two dense layers")
    hidden: Size = Field(default=256, description="neurons between the two dense layers of a block")
    attention: Literal["causal", "full"] = Field(
        default="causal", description="a position sees those before it, or all (an encoder)"
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> Transformer:
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is no multiple of heads = {self.heads}; change one of them")
        return self

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Embeddings of tokens and positions, blocks, one logit for each token that may come next."""
        return _Attentive(self, self.vocabulary(num_classes), self.length(input_shape), num_classes)


class _Recurrent(nn.Module):
    def __init__(self, tokens: int, embedding: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, length) token ids -> (n, classes)."""
        states, _ = self.lstm(self.embedding(x))
        logits: Tensor = self.output(states[:, -1])
        return logits


class _Attentive(nn.Module):
    def __init__(self, said: Transformer, tokens: int, length: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, said.width)
        self.position = nn.Embedding(length, said.width)
        self.blocks = nn.Sequential(*(_Block(said) for _ in range(said.layers)))
        self.norm = nn.LayerNorm(said.width)
        self.output = nn.Linear(said.width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, length) token ids -> (n, classes)."""
        places = torch.arange(x.shape[1], device=x.device).expand(x.shape)
        states = self.blocks(self.embedding(x) + self.position(places))
        logits: Tensor = self.output(self.norm(states[:, -1]))
        return logits


class _Block(nn.Module):
    """x + attention(norm(x)), then x + dense(norm(x))."""

    def __init__(self, said: Transformer) -> None:
        super().__init__()
        self.heads, self.causal = said.heads, said.attention == "causal"
        self.norm1, self.norm2 = nn.LayerNorm(said.width), nn.LayerNorm(said.width)
        self.query, self.key = nn.Linear(said.width, said.width), nn.Linear(said.width, said.width)
        self.value, self.mix = nn.Linear(said.width, said.width), nn.Linear(said.width, said.width)
        self.dense1, self.dense2 = nn.Linear(said.width, said.hidden), nn.Linear(said.hidden, said.width)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, length, width) -> the same."""
        x = x + self._attend(self.norm1(x))
        out: Tensor = x + self.dense2(self.gelu(self.dense1(self.norm2(x))))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        split = (x.shape[0], x.shape[1], self.heads, -1)
        query, key, value = (layer(x).view(split).transpose(1, 2) for layer in (self.query, self.key, self.value))
        scores = query @ key.transpose(-2, -1) / sqrt(query.shape[-1])
        if self.causal:
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        mixed: Tensor = self.mix((scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape))
        return mixed
