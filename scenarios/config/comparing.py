"""What a scenario says it compares: a path or a list of paths, and each of them something that its sweep varies."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.compared import Compared, axes_of, under
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.grid import OWN
from autoflip_secure.terminal.near_names import suggest
from autoflip_secure.terminal.visible import short

_FAMILIES: Final = ("algorithm", "privacy", "secure_sum", "attack")


def _paths(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, list) and value and all(isinstance(path, str) and path for path in value):
        return value
    raise PydanticCustomError(
        OWN, "should be {families}, another axis of the sweep, or a list of these", {"families": ", ".join(_FAMILIES)}
    )


Compare = Annotated[
    str | list[str] | None,
    BeforeValidator(_paths),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "null"}]}
    ),
]


def check_compared(document: Document) -> None:
    """Refuse a ``compare`` that names no axis of the sweep, and a sweep over what is tested.

    Left out, it is found from the sweep, and is never wrong.

    Raises:
        InputError: with the place, what was written, and what the sweep varies.
    """
    _one_test(document)
    if document.data.get("compare") is None:
        return
    place = document.where(("compare",))
    axes = axes_of(document.data)
    allowed = sorted({*axes, *(path.split(".")[0] for path in axes if path.split(".")[0] in _FAMILIES)})
    for path in Compared.of(document.data).paths:
        if under(path, axes):
            continue
        if not axes:
            raise InputError(
                f"{place}: compare: '{short(path)}' cannot be compared, because nothing varies; give a sweep over it, "
                "or leave compare out"
            )
        raise InputError(
            f"{place}: compare: '{short(path)}' is no axis of the sweep; {suggest(path, allowed)}; or leave it out, "
            "and it is found from the sweep"
        )


def _one_test(document: Document) -> None:
    """Accuracies of a global model on the test set and of clients' own models on their own rows have no mean."""
    written = [level or canonical(document.data.get("evaluation", "global"))
               for level in axes_of(document.data).get("evaluation", [])]  # fmt: skip
    if len(set(written)) > 1:
        raise InputError(
            f"{document.where(('sweep',))}: sweep: evaluation = {', '.join(dict.fromkeys(written))}: a global model on "
            "the test set and clients' own models on their own rows are different tests, and a report would average "
            "and compare them; make two sweeps, each with one evaluation for all its algorithms"
        )
