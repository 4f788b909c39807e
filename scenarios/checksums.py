"""A cell's file carries a checksum of its own content: numbers that were changed afterwards do not pass for results.

The digest is of the parsed document with sorted keys, so another layout of the same content is still intact. It tells
accidents and casual edits; whoever can write the file can write another checksum too.
"""

from __future__ import annotations

import hashlib
import json

from autoflip_secure.errors import StoreError

_NAME = "checksum"


def sealed(text: str) -> str:
    """A JSON object with the checksum of its content as one more key.

    >>> unsealed(sealed('{"a": 1}'))
    b'{"a":1}'
    """
    document = json.loads(text)
    return json.dumps({**document, _NAME: _digest(document)}, separators=(",", ":"))


def unsealed(content: bytes) -> bytes:
    """The content without its checksum; one without any, from an older version, is taken as it is.

    Raises:
        ValueError: not JSON.
        StoreError: the checksum does not fit.
    """
    document = json.loads(content)
    if not isinstance(document, dict) or _NAME not in document:
        return content
    said = document.pop(_NAME)
    if said != _digest(document):
        raise StoreError("it was changed after the sweep wrote it: its checksum does not fit")
    return json.dumps(document, separators=(",", ":")).encode()


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
