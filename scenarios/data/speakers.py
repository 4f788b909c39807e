r"""Text in which people speak: windows of characters, and the character that follows each; a speaker is an owner.

Blocks stand between blank lines; what stands before the colon of a block's first line is the speaker. All that one
says, block after block, is one text, of :math:`W` windows (a beginning every ``stride`` characters): the first
:math:`\lfloor (1 - s) W \rfloor` train, and those test that begin behind the last character of these, as LEAF splits
roles by time (Caldas et al. 2018). So nothing that is tested was trained on, not even as a part of an input.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.base import Arrays, DataSource
from autoflip_secure.scenarios.data.files import opened
from autoflip_secure.scenarios.data.folder import other_root, within_root
from autoflip_secure.scenarios.data.text import names_of, token_ids

_FILE = "input.txt"  # in a folder, as the tiny Shakespeare is laid out
_BLOCK = re.compile(r"\n[ \t]*\n\s*")
_NAME = re.compile(r"([^:\n]+):[ \t]*\n?")
_LAYOUT = "expected blocks between blank lines that begin with `Speaker:`"


class Speakers(DataSource):
    """Text by speaker, such as the tiny Shakespeare: characters in, the next character out; speakers own samples."""

    kind: Literal["speakers"] = "speakers"
    source: ClassVar[str] = "as Caldas et al. 2018 (LEAF) make samples of Shakespeare, from a text of yours"
    path: Path = Field(
        description=f"the text (UTF-8), or the folder of its {_FILE}; as given, else within AUTOFLIP_DATA"
    )
    length: Annotated[int, Field(ge=1, le=10_000)] = Field(default=80, description="characters of a sample")
    stride: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1, description="characters between the beginnings of two samples"
    )
    test_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="last part of what each speaker says, which tests"
    )
    min_samples: Annotated[int, Field(ge=1)] = Field(
        default=64, description="training samples below which a speaker is left out; so is who has none to test on"
    )
    alphabet: str | None = Field(
        default=None,
        min_length=2,
        description="all characters, in the order of their ids; null = those that are spoken",
    )

    def places(self) -> tuple[str, ...]:
        """The file as it is meant now."""
        return (str(self._file()),)

    def read(self) -> Arrays:
        """All windows of all speakers, in the order in which they first speak."""
        path = self._file()
        if not path.exists():
            raise DataError(
                f"speakers: {path}: no such file; give the path of a text with `Speaker:` before each speech, such as "
                f"the tiny Shakespeare, or {other_root(None)}"
            )
        with opened(path, "a text", "save it as UTF-8", "text") as file:
            text = file.read().decode("utf-8")
        said = speeches(text)
        if not said:
            raise DataError(f"{path}: nobody speaks in it; {_LAYOUT}")
        alphabet = "".join(sorted(set("".join(said.values())))) if self.alphabet is None else self.alphabet
        if len(set(alphabet)) != len(alphabet):
            raise DataError(f"speakers: alphabet holds a character twice; name each of its {len(set(alphabet))} once")
        parts = [self._windows(token_ids(path, one, alphabet)) for one in said.values()]
        kept = [(train, test) for train, test in parts if len(train) >= self.min_samples and len(test)]
        if len(kept) < 2:
            longest = max(map(len, said.values()))
            raise DataError(
                f"{path}: {len(kept)} of {len(said)} speakers have {self.min_samples} samples to train on and one to "
                f"test on; the longest text has {longest} characters; give a smaller length, stride or min_samples, or "
                "a larger test_share"
            )
        train, test = (np.concatenate(part) for part in zip(*kept, strict=True))
        return Arrays(
            train[:, :-1],
            train[:, -1].astype(np.int64),
            test[:, :-1],
            test[:, -1].astype(np.int64),
            class_names=names_of(alphabet),
            groups=np.repeat(np.arange(len(kept)), [len(own) for own, _ in kept]),
        )

    def _file(self) -> Path:
        found = within_root(self.path)
        return found / _FILE if os.path.isdir(found) else found

    def _windows(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows of ``length`` characters and the next one: those that train, and those that test."""
        size = self.length + 1
        if len(ids) < size:
            nothing = np.zeros((0, size), dtype=np.int32)
            return nothing, nothing
        rows = np.lib.stride_tricks.sliding_window_view(ids.astype(np.int32), size)[:: self.stride]
        count = int((1 - self.test_share) * len(rows))
        behind = max(0, count - 1) * self.stride + size  # the first character that no training window has
        return rows[:count], rows[-(-behind // self.stride) :]


def speeches(text: str) -> dict[str, str]:
    """Speaker -> all that is said, speeches joined by a line's end, in the order of first speeches.

    >>> speeches("A:\\nHello.\\n\\nB:\\nYes?\\n\\nA:\\nGood\\nbye.\\n")
    {'A': 'Hello.\\nGood\\nbye.', 'B': 'Yes?'}
    """
    found: dict[str, list[str]] = {}
    for block in _BLOCK.split(text.replace("\r\n", "\n").strip("\n")):
        name = _NAME.match(block)
        speech = block[name.end() :].strip("\n") if name else ""
        if name and speech:
            found.setdefault(name[1].strip(), []).append(speech)
    return {speaker: "\n".join(parts) for speaker, parts in found.items()}
