"""Text from outside the repository: a data set of characters and two models that read them.

A sample is a window of characters, given as whole numbers (token ids), and its label is the character that follows.
Each speaker has habits of its own, so the data can be split by speaker (``partition: by_group``), as the roles of plays
are. Replace ``read`` by a reader of your own text; ``x`` must be ``int64`` (or another integer that is not ``uint8``,
which means pixels), and all samples of one length.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from autoflip_secure.scenarios.data.base import Arrays, DataSource
from autoflip_secure.scenarios.models.chains import Model

ALPHABET = "abcdefgh .,!"


class Speakers(DataSource):
    """Made-up speech: every speaker follows a common grammar with a habit of its own; predict the next character."""

    source: ClassVar[str] = "generated from a seed"
    speakers: Annotated[int, Field(ge=2, le=1000, description="how many people speak")] = 20
    length: Annotated[
        int, Field(ge=2, le=1000, description="characters that are read before the next is predicted")
    ] = 12
    windows: Annotated[int, Field(ge=1, le=100_000, description="training samples of each speaker")] = 60
    data_seed: Annotated[int, Field(ge=0, le=2**32, description="of the generator")] = 0

    def read(self) -> Arrays:
        """Windows of each speaker's text, cut so that no character of a test sample was trained on."""
        rng, size = np.random.default_rng(self.data_seed), len(ALPHABET)
        grammar = rng.dirichlet(np.full(size, 0.1), size=size)
        train, test = [], []
        for _ in range(self.speakers):
            habit = rng.dirichlet(np.full(size, 0.1), size=size)
            text = _speak(0.8 * grammar + 0.2 * habit, self.windows * 6 // 5 + 2 * self.length + 1, rng)
            rows = np.lib.stride_tricks.sliding_window_view(text, self.length + 1)
            train.append(rows[: self.windows])
            test.append(rows[self.windows + self.length :])
        seen, kept = np.concatenate(train), np.concatenate(test)
        owners = np.repeat(np.arange(self.speakers), self.windows)
        return Arrays(seen[:, :-1], seen[:, -1], kept[:, :-1], kept[:, -1], class_names=tuple(ALPHABET), groups=owners)


def _speak(chances: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Characters, each drawn by the one before it."""
    text = [0]
    for _ in range(length):
        text.append(int(rng.choice(len(ALPHABET), p=chances[text[-1]])))
    return np.array(text[1:], dtype=np.int64)


class Reader(nn.Module):
    """Embedding -> LSTM -> logits from its last state."""

    def __init__(self, characters: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, characters)

    def forward(self, x: Tensor) -> Tensor:
        """(samples, length) whole numbers -> (samples, characters)."""
        found, _ = self.lstm(self.embedding(x))
        logits: Tensor = self.head(found[:, -1])
        return logits


class Bag(nn.Module):
    """Embedding -> mean over characters -> one hidden layer -> logits: the order of characters is lost."""

    def __init__(self, characters: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.body = nn.Sequential(nn.Linear(embedding, hidden), nn.ReLU(), nn.Linear(hidden, characters))

    def forward(self, x: Tensor) -> Tensor:
        """(samples, length) whole numbers -> (samples, characters)."""
        logits: Tensor = self.body(self.embedding(x).mean(1))
        return logits


class CharacterLstm(Model):
    """A small LSTM that predicts the next character."""

    source: ClassVar[str] = "as LEAF's Shakespeare model, with one layer"
    embedding: Annotated[int, Field(ge=1, le=4096, description="numbers a character")] = 8
    hidden: Annotated[int, Field(ge=1, le=4096, description="numbers of the state")] = 32

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """One logit per character of the alphabet."""
        return Reader(num_classes, self.embedding, self.hidden)


class CharacterBag(CharacterLstm):
    """A mean of embeddings: what can be predicted without order."""

    source: ClassVar[str] = "baseline"

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """One logit per character of the alphabet."""
        return Bag(num_classes, self.embedding, self.hidden)
