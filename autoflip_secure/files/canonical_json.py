"""One text for each JSON value, whatever the order of its keys: equal values have equal texts, and equal digests.

Names of cells and checksums are digests of the ``compact`` text; baselines, ledgers and trackers keep digests or texts
of the other one. Files hold both, so that neither may change.
"""

from __future__ import annotations

import hashlib
import json


def canonical(value: object, *, compact: bool = False) -> str:
    """The text with sorted keys; ``compact``: without spaces.

    >>> canonical({"b": [1, 2], "a": None}), canonical({"b": [1, 2], "a": None}, compact=True)
    ('{"a": null, "b": [1, 2]}', '{"a":null,"b":[1,2]}')
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":") if compact else None)


def digest(value: object, *, compact: bool = False, digits: int = 16) -> str:
    """The first hexadecimal ``digits`` of the SHA-256 of :func:`canonical` text; 64 are all.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(canonical(value, compact=compact).encode()).hexdigest()[:digits]
