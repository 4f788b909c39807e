"""Records of earlier versions, read as they would be written now.

Schema 1 called malicious clients bad, and ``replace_unsupported_layers`` ``fix_modules``.
"""

from __future__ import annotations

from typing import Any

READABLE = (1, 2)
"""Schema versions of run records that this version reads."""

_PIPELINE = {"(bad clients)": "(malicious clients)", "bad ones train": "malicious ones train"}


def upgraded(record: Any) -> Any:
    """A record of schema 1 as one of schema 2; anything else as it is, for its validation to judge.

    >>> upgraded({"schema_version": 1, "bad_clients": [3], "rounds": [{"bad": [False]}]})
    {'schema_version': 2, 'rounds': [{'malicious': [False]}], 'malicious_clients': [3]}
    """
    if not isinstance(record, dict) or record.get("schema_version") != 1:
        return record
    found = {**record, "schema_version": 2}
    if "bad_clients" in found:
        found["malicious_clients"] = found.pop("bad_clients")
    if isinstance(found.get("exploration"), dict):
        found["exploration"] = _renamed(found["exploration"], "bad", "malicious")
    if isinstance(found.get("rounds"), list):
        found["rounds"] = [_renamed(entry, "bad", "malicious") for entry in found["rounds"]]
    if isinstance(found.get("pipeline"), list):
        found["pipeline"] = [_in_words_of_now(step) for step in found["pipeline"]]
    config = found.get("config")
    if isinstance(config, dict) and isinstance(config.get("privacy"), dict):
        privacy = _renamed(config["privacy"], "fix_modules", "replace_unsupported_layers")
        found["config"] = {**config, "privacy": privacy}
    return found


def _renamed(mapping: Any, old: str, new: str) -> Any:
    return (
        {new if key == old else key: value for key, value in mapping.items()} if isinstance(mapping, dict) else mapping
    )


def _in_words_of_now(step: Any) -> Any:
    for old, new in _PIPELINE.items():
        step = step.replace(old, new) if isinstance(step, str) else step
    return step
