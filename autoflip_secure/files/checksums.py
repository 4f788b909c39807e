"""Files of results carry a checksum of their own content: what was changed afterwards does not pass for a result.

Cells, manifest, ledgers and baselines have it. The digest is of the parsed document with sorted keys, so another layout
of the same content is still intact. It tells accidents and casual edits; whoever can write the file can write another
checksum too. A document without one, as older versions wrote them, is taken as it is.
"""

from __future__ import annotations

import json
from typing import Any

from autoflip_secure.errors import StoreError
from autoflip_secure.files.canonical_json import digest
from autoflip_secure.files.regular_files import parse_json

_NAME = "checksum"


def with_checksum(document: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its content as one more key."""
    return {**document, _NAME: _digest(document)}


def without_checksum(document: Any, writer: str = "the sweep") -> Any:
    """What :func:`with_checksum` was given; what has no checksum is taken as it is.

    ``writer``: who wrote the file, for the message.

    Raises:
        ValueError: it is nested too deeply.
        StoreError: the checksum does not fit.
    """
    if not isinstance(document, dict) or _NAME not in document:
        return document
    content = {key: value for key, value in document.items() if key != _NAME}
    if document[_NAME] != _digest(content):
        raise StoreError(f"it was changed after {writer} wrote it: its checksum does not match")
    return content


def sealed(text: str) -> str:
    """The text of a JSON object with the checksum of its content as one more key.

    >>> unsealed(sealed('{"a": 1}'))
    b'{"a":1}'
    """
    return json.dumps(with_checksum(parse_json(text)), separators=(",", ":"))


def unsealed(content: bytes) -> bytes:
    """The content without its checksum; one without any, from an older version, is taken as it is.

    Raises:
        ValueError: not JSON.
        StoreError: the checksum does not fit.
    """
    document = parse_json(content)
    whole = without_checksum(document)
    return content if whole is document else json.dumps(whole, separators=(",", ":")).encode()


def _digest(document: object) -> str:
    try:
        return digest(document, compact=True, digits=64)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
