"""Options of a plug-in from outside, as a scenario gives them: validated by its class, and fit to be written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from autoflip_secure.errors import InputError
from autoflip_secure.files.regular_files import parse_json
from autoflip_secure.interfaces import Aggregator
from autoflip_secure.scenarios.config.plugin_families import FAMILIES, UnknownKindError, outside
from autoflip_secure.scenarios.plugins.outside import Outside
from autoflip_secure.terminal.visible import short

Handler = Callable[[Any], Any]


def outside_first(key: str) -> Callable[[Any, Handler], Any]:
    """A pydantic validator of one family: what is built in goes on to ``handler``, the rest is made here."""

    def validate(value: Any, handler: Handler) -> Any:
        if isinstance(value, Outside) and isinstance(value, FAMILIES[key].base):
            return value
        kind = value.get("kind") if isinstance(value, dict) else None
        if not isinstance(kind, str):
            return handler(value)
        try:
            cls: Any = outside(key, kind, "kind")
        except UnknownKindError as error:
            raise PydanticCustomError("unknown_kind", "{text}", {"text": str(error)}) from error
        except InputError as error:
            raise PydanticCustomError("plugin", "{text}", {"text": str(error)}) from error
        return handler(value) if cls is None else _made(cls, {**value, "kind": kind})

    return validate


def _made(cls: type[BaseModel], value: dict[str, Any]) -> BaseModel:
    """The plug-in with these options.

    Raises:
        ValidationError: as for a built-in, with the kind in its locations.
        PydanticCustomError: its own code fails, or its options cannot be written into a record and read again.
    """
    kind = value["kind"]
    try:
        plugin = cls.model_validate(value)
    except ValidationError as error:
        raise ValidationError.from_exception_data(error.title, [located(one, kind) for one in error.errors()]) from None
    except Exception as error:  # validators are code from outside
        raise _refused(kind, f"its validation failed with {type(error).__name__}: {error}; mend it") from error
    try:
        written = parse_json(json.dumps(plugin.model_dump(mode="json"), allow_nan=False))
        parts = {"before": plugin.before} if isinstance(plugin, Aggregator) else {}  # plug-ins that were made before it
        again, anew = cls.model_validate({**written, **parts}), cls.model_validate(value)
        hash(plugin)
    except Exception as error:
        raise _refused(
            kind,
            f"its options cannot be written down ({type(error).__name__}: {short(error)}); let its fields be numbers, "
            "text, tuples and further Configs",
        ) from error
    if again != plugin:
        raise _refused(kind, "its options are others when they are read back from a record; leave none out of the dump")
    if anew != plugin:
        raise _refused(kind, "its defaults are others each time it is made; give it fixed ones, and draw when asked")
    if (name := _unordered(plugin.model_dump())) is not None:
        raise _refused(
            kind, f"its option {name} is or holds a set, which every process writes in another order; make it a tuple"
        )
    return plugin


def _unordered(options: dict[str, Any]) -> str | None:
    """The first option that is a set, or has one in it."""

    def has_set(value: Any) -> bool:
        if isinstance(value, dict):
            return any(map(has_set, value.values()))
        return isinstance(value, set | frozenset) or (isinstance(value, list | tuple) and any(map(has_set, value)))

    return next((name for name, value in options.items() if has_set(value)), None)


def located(found: Any, *above: str | int) -> InitErrorDetails:
    """A finding of pydantic's, below the keys ``above``."""
    context = {key: value for key, value in found.get("ctx", {}).items() if key != "error"}
    own = PydanticCustomError(found["type"], found["msg"], context or None)
    return {"type": own, "loc": (*above, *found["loc"]), "input": found["input"]}


def _refused(kind: str, why: str) -> PydanticCustomError:
    return PydanticCustomError("plugin", "{text}", {"text": f"kind = {short(repr(kind))}: {why}"})
