"""Seeds as a scenario writes them: a list of whole numbers, or ``{first: 10, count: 5}``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from autoflip_secure.scenarios.config.grid import OWN

_MOST_SEEDS = 100_000
FORMS: dict[str, Any] = {
    "type": "object",
    "properties": {"first": {"type": "integer"}, "count": {"type": "integer", "minimum": 1}},
    "required": ["first", "count"],
    "additionalProperties": False,
}
"""JSON schema of the short form."""


def _seed_list(value: Any) -> Any:
    """``{first: 10, count: 5}`` -> ``[10, …, 14]``."""
    if isinstance(value, dict) and set(value) == {"first", "count"}:
        first, count = value["first"], value["count"]
        if type(first) is int and type(count) is int and count >= 1:
            if count > _MOST_SEEDS or not 0 <= first <= 2**63 - count:
                raise PydanticCustomError(
                    OWN, "should have first >= 0, first + count <= 2^63 and count <= {most}", {"most": _MOST_SEEDS}
                )
            return list(range(first, first + count))
    if not isinstance(value, list | tuple):
        raise PydanticCustomError(OWN, "should be a list of whole numbers, or {first: 10, count: 5} with count >= 1")
    if len(set(map(str, value))) < len(value):
        raise PydanticCustomError(OWN, "a seed is listed twice; every seed is run once")
    return value


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(_seed_list), Field(min_length=1)]
