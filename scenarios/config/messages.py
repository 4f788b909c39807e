"""pydantic's findings as sentences: place, key path, value, bound, way out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from autoflip_secure.scenarios.config.grid import ONE, OWN, UNION
from autoflip_secure.scenarios.config.key_paths import KeyPath, named
from autoflip_secure.terminal.counting import first_lines
from autoflip_secure.terminal.near_names import suggest
from autoflip_secure.terminal.visible import short

_SUBJECT = re.compile(r"^(Input|Tuple|List|Dictionary|String|Value) should")
_NUMBER = re.compile(r"([-+]?\d{1,15}(?:[.,]\d{1,15})?)\s*(%?)")
_SHOWN = 5  # findings shown; the rest is counted


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The model classes that an annotation mentions, unions, lists and ``Annotated`` looked through."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, list, tuple):
        found = [model for argument in get_args(annotation) for model in models_in(argument)]
        return list(dict.fromkeys(found))
    return []


def tags_in(annotation: Any) -> Iterator[str]:
    """The tags of the forms that an annotation offers (``clip``: a number, or a mapping)."""
    if get_origin(annotation) in (Annotated, Union, UnionType):
        for argument in get_args(annotation):
            yield from [argument.tag] if isinstance(argument, Tag) else tags_in(argument)


def kind_of(model: type[BaseModel]) -> str:
    """The ``kind`` that a plug-in class answers to; "" for a class that is no plug-in."""
    fields: dict[str, FieldInfo] = model.__pydantic_fields__
    return str(fields["kind"].default) if "kind" in fields else ""


def nobody(family: str, kind: str) -> type[BaseModel] | None:
    """No class from outside has that name."""
    return None


Named = Callable[[str, str], type[BaseModel] | None]  # a family's key, a kind -> the class from outside that it means


def trace(
    model: type[BaseModel], loc: tuple[str | int, ...], outside: Named = nobody
) -> tuple[KeyPath, FieldInfo | None, type[BaseModel] | None]:
    """Follow pydantic's location: the key path as written (no union tags), the field, the class that owns the key."""
    path: list[str | int] = []
    models: list[type[BaseModel]] = [model]
    field: FieldInfo | None = None
    owner: type[BaseModel] | None = model
    tagged = False
    forms = {ONE, UNION}  # of `sweep`, where the model is what stands below it
    for part in loc:
        if (len(models) > 1 or (models and inspect.isabstract(models[0]))) and not isinstance(part, int):
            foreign = outside(str(next((key for key in reversed(path) if not isinstance(key, int)), "")), part)
            tagged_models = [m for m in models if kind_of(m) == part] or ([foreign] if foreign else [])
            if tagged_models:
                models, tagged = tagged_models, True
                continue
        if part in forms and path and (field is not None or path == ["sweep"]):  # which form a value has, not a key
            forms = set()
            continue
        path.append(part)
        if isinstance(part, int):
            continue
        owner = models[0] if models else None
        field = owner.model_fields.get(part) if owner is not None else None
        models, tagged = models_in(field.annotation) if field else [], False
        forms = set(tags_in(field.annotation)) if field else forms if path == ["sweep"] else set()
    if tagged:
        owner = models[0]
    return tuple(path), field, owner


def sentence(
    model: type[BaseModel], detail: ErrorDetails, allowed: Iterable[str] | None = None, outside: Named = nobody
) -> tuple[KeyPath, str]:
    """The key path that a finding is about, and one sentence on it."""
    loc = detail["loc"]
    if (
        loc[-1:] == ("[key]",) and detail["type"] != "extra_forbidden"
    ):  # about the key of a mapping, which stands before
        loc = loc[:-1]
    path, field, owner = trace(model, loc, outside)
    key, context = named(path), detail.get("ctx", {})
    if "path" in context:  # our own cross-checks name the key they are about
        return tuple(int(part) if part.isdecimal() else part for part in str(context["path"]).split(".")), detail["msg"]
    kinds = sorted(kind for m in models_in(field.annotation) if (kind := kind_of(m))) if field else []
    fields = list(owner.__pydantic_fields__) if owner else []
    match detail["type"]:
        case "extra_forbidden":
            names = allowed if allowed is not None and len(path) == 1 else fields
            inside = f" in {named(path[:-1])}" if len(path) > 1 else ""
            text = f"unknown key '{short(path[-1])}'{inside}; {suggest(path[-1], names)}"
        case "union_tag_invalid":
            text = f"{key}: unknown kind '{short(context['tag'])}'; {suggest(context['tag'], kinds)}"
        case "unknown_kind":
            text = f"{key}: {detail['msg']}"
        case "plugin":
            text = f"{key}.{detail['msg']}"
        case "union_tag_not_found":
            text = f"{key} = {_shown(detail['input'])}: the key 'kind' is missing; allowed: {', '.join(kinds)}"
        case "missing":
            what = f" ({field.description})" if field and field.description else ""
            text = f"{key}: is missing{what}; add it"
        case "value_error" if not path:
            text = detail["msg"].removeprefix("Value error, ")
        case "value_error" if (part := _named_part(detail["msg"], field, owner)) is not None:
            text = f"{key}.{detail['msg'].removeprefix('Value error, ')}"
            path = (*path, *part)
        case _:
            way_out = _as_number(detail["input"]) if detail["type"].startswith(("int_", "float_")) else ""
            text = f"{key} = {_shown(detail['input'])}: {_bound(detail, field)}{way_out}"
    return path, text


def _named_part(message: str, field: FieldInfo | None, owner: type[BaseModel] | None) -> KeyPath | None:
    """The key that a finding about a whole mapping begins with (``last = 2: …``), if it is one of the mapping's."""
    found = re.match(r"([\w.]+) = ", message.removeprefix("Value error, "))
    models = [*(models_in(field.annotation) if field else []), *([owner] if owner else [])]
    parts = tuple(found[1].split(".")) if found else ()
    return parts if any(parts and parts[0] in model.model_fields for model in models) else None


def _bound(detail: ErrorDetails, field: FieldInfo | None) -> str:
    """What the value should have been."""
    kind, described = detail["type"], field.description if field else None
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        models = models_in(field.annotation) if field else []
        if len(models) > 1:
            return f"should be one of {', '.join(sorted(map(kind_of, models)))}, or a mapping with one as its `kind`"
        keys = f" with keys of: {', '.join(models[0].__pydantic_fields__)}" if models else ""
        return f"should be a mapping (`key: value` lines){keys}"
    if kind == "string_pattern_mismatch" and described:
        return f"should be {described}"
    if kind == "int_parsing_size":
        return "is too large; give a smaller number"
    message = detail["msg"].removeprefix("Value error, ").replace(" after validation, not 0", "")
    message = _SUBJECT.sub("should", message).replace("a valid tuple", "a list")
    return f"{message} ({described})" if described and kind not in ("value_error", OWN) else message


def explain(
    model: type[BaseModel],
    error: ValidationError,
    where: Callable[[KeyPath], str],
    written: Callable[[KeyPath], bool] = lambda path: True,
    allowed: Iterable[str] | None = None,
    outside: Named = nobody,
) -> str:
    """All findings, one per line, each with its place; of a value that nobody wrote it is said that it is the default.

    Args:
        where: the place of a key path.
        written: whether a key path was written by somebody.
        allowed: keys at the top, for unknown ones.
        outside: finds the classes of kinds that are not built in.
    """
    lines = []
    found = error.errors(include_url=False)
    inner = {detail["loc"][:end] for detail in found for end in range(len(detail["loc"]))}
    for detail in found:
        if detail["type"] == "too_short" and detail["loc"] in inner:  # because of its items, which are complained about
            continue
        path, text = sentence(model, detail, allowed, outside)
        other = str(detail.get("ctx", {}).get("other", ""))  # the second key of a cross-check
        kind = where((*path[:-1], "kind")) if len(path) > 1 else ""  # what decides which keys and values fit
        places = [where(path), *([where((other,))] if other else []), *([kind] if kind.startswith("--set") else [])]
        line = f"{choose_place(places)}: {text if written(path) else mark_default(text, path)}"
        if line not in lines:
            lines.append(line)
    return first_lines(lines, _SHOWN)


def mark_default(text: str, path: KeyPath) -> str:
    """A finding about a value that nobody wrote says so.

    >>> mark_default("cohort = 5: is larger than clients = 3", ("cohort",))
    'cohort = 5 (the default): is larger than clients = 3'
    """
    return text.replace(": ", " (the default): ", 1) if text.startswith(f"{named(path)} = ") else text


def choose_place(places: list[str]) -> str:
    """Of several places that a finding may be about, the likeliest: a ``--set``, else a line, else the file."""
    return max(places, key=lambda place: 2 if place.startswith("--set") else bool(re.search(r":\d+$", place)))


def mistyped(written: Any, understood: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Where text or true/false was silently read as a number: ``rounds: true`` is not one round.

    >>> list(mistyped({"a": {"b": True}, "c": 1}, {"a": {"b": 1}, "c": 1}))
    [(('a', 'b'), 'a.b = True: should be a number')]
    """
    if isinstance(written, dict) and isinstance(understood, dict):
        for key in written.keys() & understood.keys():
            yield from mistyped(written[key], understood[key], (*path, key))
    elif isinstance(written, list) and isinstance(understood, list | tuple) and len(written) == len(understood):
        for index, pair in enumerate(zip(written, understood, strict=True)):
            yield from mistyped(*pair, (*path, index))
    elif isinstance(written, bool | str) and isinstance(understood, int | float) and not isinstance(understood, bool):
        yield path, f"{named(path)} = {_shown(written)}: should be a number{_as_number(written)}"


def _shown(value: Any) -> str:
    return short(repr(value), 78)


def _as_number(written: Any) -> str:
    """The way out where text was meant as a number: a percentage, a decimal comma, quotes.

    >>> _as_number("50%"), _as_number("0,5"), _as_number("60"), _as_number("sixty")
    ('; write 0.5', '; write 0.5', '; write 60 without quotes', '')
    """
    found = _NUMBER.fullmatch(written.strip()) if isinstance(written, str) else None
    if found is None:
        return ""
    digits, percent = found[1].replace(",", "."), found[2]
    if percent:
        return f"; write {float(digits) / 100:.12g}"
    return f"; write {digits}" if "," in found[1] else f"; write {digits} without quotes"
