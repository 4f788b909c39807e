"""docs/reference/python.md and interfaces.md: names, signatures and docstrings of what others import."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

from layout import escaped, table, with_links

_RUNNING = """\
# Python API

`import autoflip_secure as af`. Importing costs nothing: torch is imported by the first call.
[How to use it](../python.md).
"""
_INTERFACES = """\
# Interfaces of plug-ins

`from autoflip_secure.interfaces import …`. A plug-in is a frozen pydantic class; [how to write one](../plugins.md).
Shapes are written as in [jaxtyping](https://docs.kidger.site/jaxtyping/): `Float[Tensor, "clients params"]`.
"""
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$")


def running() -> str:
    """What ``import autoflip_secure`` offers."""
    import autoflip_secure as af

    lines = [_RUNNING]
    for name in ("run", "load", "Results", "AutoflipError", "InputError", "StoreError"):
        assert name in af.__all__
        lines += _thing(name, getattr(af, name), inherited=True)
    lines += ["## `__version__`", "", "The version, as text."]
    return "\n".join(lines)


def interfaces() -> str:
    """What ``autoflip_secure.interfaces`` offers."""
    from autoflip_secure import interfaces as all_of

    found = {name: getattr(all_of, name) for name in all_of.__all__}
    classes = {name: one for name, one in found.items() if inspect.isclass(one)}
    others = {name: one for name, one in found.items() if inspect.isfunction(one)}
    lines = [_INTERFACES, *table(["name", "what it is"], [
        (f"[`{name}`](#{name.lower()})", _words(_first(one))) for name, one in {**classes, **others}.items()
    ])]  # fmt: skip
    for name, one in {**classes, **others}.items():
        lines += ["", *_thing(name, one)]
    return "\n".join(lines)


def _first(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


def _thing(name: str, thing: Any, inherited: bool = False) -> list[str]:
    lines = [f"## `{name}`", ""]
    if inspect.isfunction(thing):
        return [*lines, *_signature(name, thing), *_text(inspect.getdoc(thing))]
    if not _plain(thing):
        lines += _signature(name, thing)
    bases = [
        base.__name__
        for base in thing.__bases__
        if base.__module__.startswith("autoflip_secure") and base.__name__ != name
    ]
    lines += [f"Extends {', '.join(f'`{base}`' for base in bases)}.", ""] if bases else []
    lines += _text(_own_doc(thing))
    lines += _fields(thing)
    for inner, one in _members(thing, inherited):
        lines += [f"### `{name}.{inner}`", ""]
        if isinstance(one, property):
            lines += _text(one.__doc__ and inspect.cleandoc(one.__doc__))
        else:
            lines += [*_signature(inner, one), *_text(_own_doc(one))]
    return lines


def _own_doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _plain(thing: type) -> bool:
    """A class whose call is of no interest: pydantic's, an exception, abstract, or a dataclass, whose fields follow."""
    return hasattr(thing, "model_fields") or issubclass(thing, BaseException) or dataclasses.is_dataclass(thing) or (
        inspect.isabstract(thing) or getattr(thing, "_is_protocol", False) or "__init__" not in vars(thing)
    )  # fmt: skip


def _signature(name: str, thing: Any) -> list[str]:
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return []
    text = re.sub(
        r"(?<![\w.])(?:autoflip_secure|torch|collections|typing|pathlib|numpy|np|pd|pandas)\.(?:\w+\.)*(?=\w)", "", text
    )
    return ["```text", f"{name}{text.replace(chr(39), '')}", "```", ""]


def _members(thing: type, inherited: bool) -> Iterator[tuple[str, Any]]:
    """Its public methods and properties with a docstring: its own, or those of its bases in this project too."""
    ours = [one for one in thing.__mro__ if one.__module__.startswith("autoflip_secure")] if inherited else [thing]
    for inner, one in {name: one for base in reversed(ours) for name, one in vars(base).items()}.items():
        raw = one.__func__ if isinstance(one, classmethod | staticmethod) else one
        if not inner.startswith("_") and (inspect.isfunction(raw) or isinstance(raw, property)) and raw.__doc__:
            yield inner, raw


def _fields(thing: type) -> list[str]:
    """Of a dataclass, by name and type; of a configuration, with default and description."""
    if dataclasses.is_dataclass(thing):
        told = _comments(thing)
        fields = [one for one in dataclasses.fields(thing) if not one.name.startswith("_")]
        rows = [(f"`{one.name}`", f"`{_type(one.type)}`", _words(told.get(one.name, ""))) for one in fields]
        return [*table(["field", "type", "what it is"], rows), ""] if rows else []
    own = [name for name in vars(thing).get("__annotations__", {}) if name in getattr(thing, "model_fields", {})]
    options: dict[str, Any] = getattr(thing, "model_fields", {})
    rows = [(f"`{n}`", f"`{options[n].default!r}`", escaped(options[n].description or "")) for n in own]
    return [*table(["option", "default", "what it is"], rows), ""] if rows else []


def _comments(thing: type) -> dict[str, str]:
    """What its source says of each field: beside it, or on the lines of comment below."""
    found: dict[str, str] = {}
    name = ""
    for line in inspect.getsource(thing).splitlines():
        if beside := re.match(r"    (\w+): .*?(?:  # (.*))?$", line):
            name, found[beside[1]] = beside[1], beside[2] or ""
        elif (below := re.match(r"    +# (.*)$", line)) and name:
            found[name] += f" {below[1]}"
        elif line.strip():
            name = ""
    return found


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text.replace("' ", "'").replace('" ', '"')


def _text(doc: str | None) -> list[str]:
    """A docstring of Google's style as Markdown: sections become lists, roles and double backticks code."""
    lines: list[str] = []
    section = fenced = False
    for line in (doc or "").splitlines():
        if line.strip().startswith(".. "):
            fenced = True
            lines += ["```text", *filter(None, [line.partition("::")[2].strip()])]
            continue
        if fenced and line.strip() and not line.startswith(" "):
            fenced = False
            lines += ["```", ""]
        if fenced:
            lines += [line.strip()] if line.strip() else []
        elif found := _SECTION.match(line):
            section = True
            lines += [f"**{found[1]}**", ""]
        elif section and re.match(r"    \S", line):
            name, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{name}`: {_words(rest)}" if colon else f"- {_words(line.strip())}")
        elif section and line.startswith("      "):
            lines.append(f"  {_words(line.strip())}")
        elif line.startswith(">>> ") or (lines and lines[-1:] == ["```pycon"]):
            lines += ["```text", line, "```"]
        else:
            section = section and not line.strip()
            lines.append(_words(line))
    return [*lines, *(["```"] if fenced else []), ""]


def _words(text: str) -> str:
    text = re.sub(r":\w+:`~?\.?([^`<]+?)(?: <[^`]*>)?`", r"``\1``", text)
    parts = re.split(r"(``.+?``)", text)
    return "".join(f"`{p[2:-2]}`" if p.startswith("``") else with_links(escaped(p)) for p in parts)
