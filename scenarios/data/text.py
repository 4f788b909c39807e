"""Characters as token ids: each is its place in an alphabet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoflip_secure.errors import DataError

LEAF_ALPHABET = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
"""The 80 characters of LEAF's Shakespeare, in its order."""


def token_ids(place: object, text: str, alphabet: str) -> NDArray[np.int64]:
    """(characters,) place of each in ``alphabet``.

    Raises:
        DataError: one is not in it; names the first.
    """
    codes, known = (np.frombuffer(one.encode("utf-32-le"), dtype=np.uint32) for one in (text, alphabet))
    table = np.full(int(max(codes.max(initial=0), known.max())) + 1, -1, dtype=np.int64)
    table[known] = np.arange(len(known))
    found = table[codes]
    if len(found) and found.min() < 0:
        first = text[int(np.flatnonzero(found < 0)[0])]
        raise DataError(
            f"{place}: holds the character {first!r}, which is none of the {len(alphabet)} of the alphabet; give "
            "`alphabet` with all that occur, or remove it from the text"
        )
    return found


def names_of(alphabet: str) -> tuple[str, ...]:
    """What reports call the characters."""
    return tuple({"\n": "\\n", " ": "space"}.get(one, one) for one in alphabet)


def rows_of(place: object, texts: Sequence[str], alphabet: str) -> NDArray[np.int64]:
    """(texts, length) token ids.

    Raises:
        DataError: texts of different lengths, or a character that is not in ``alphabet``.
    """
    length = len(texts[0])
    odd = next((number for number, text in enumerate(texts) if len(text) != length), None)
    if odd is not None:
        raise DataError(
            f"{place}: sample {odd + 1} has {len(texts[odd])} characters, the first {length}; bring them to one length"
        )
    return token_ids(place, "".join(texts), alphabet).reshape(len(texts), length)
