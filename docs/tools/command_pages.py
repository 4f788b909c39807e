"""docs/reference/commands.md: every command with its arguments and options, from the tree that parses them."""

from __future__ import annotations

import re
from typing import Any

from layout import escaped, table, with_links

_INTRODUCTION = """\
# Commands

`autoflip-secure COMMAND --help` says the same. `python -m autoflip_secure` is the same program.
"""
_LAST = """
## Exit codes

| code | meaning |
|---|---|
| 0 | all is well |
| 1 | the gate or the audit says no |
| 2 | the input or a folder is wrong, or the gate or the audit cannot tell |
| 3 | something broke; the path of the log is printed |
| 130, 143, 129 | interrupted by Ctrl-C, SIGTERM, SIGHUP; finished cells are kept |
"""


def commands() -> str:
    """The page."""
    import typer

    from autoflip_secure.cli import app

    group: Any = typer.main.get_command(app)
    lines = [_INTRODUCTION, *table(["command", "what it does"], [
        (f"[`{name}`](#{name.replace(' ', '-')})", escaped(_first(one.help))) for name, one in group.commands.items()
    ])]  # fmt: skip
    for name, one in group.commands.items():
        lines += ["", *_command(name, one)]
    return "\n".join([*lines, _LAST])


def _command(name: str, one: Any, level: int = 2) -> list[str]:
    arguments = [p for p in one.params if p.param_type_name == "argument"]
    options = [p for p in one.params if p.param_type_name == "option" and "--help" not in p.opts]
    words = [_argument(p) for p in arguments] + [f"{p.opts[0]} {_metavar(p)}" for p in options if p.required]
    lines = [f"{'#' * level} `{name}`", "", *_paragraphs(one.help)]
    lines += ["```text", " ".join(["autoflip-secure", name, *words, "[OPTIONS]"]), "```"]
    rows = [(f"`{_metavar(p).strip('[]')}`", _default(p), with_links(escaped(p.help or ""))) for p in arguments]
    rows += [(f"`{_option(p)}`", _default(p), with_links(escaped(p.help or ""))) for p in options]
    lines += ["", *table(["argument or option", "default", "what it is"], rows)] if rows else []
    for inner, sub in getattr(one, "commands", {}).items():
        lines += ["", *_command(f"{name} {inner}", sub, level + 1)]
    return lines


def _first(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _paragraphs(text: str | None) -> list[str]:
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text or "")]
    return [line for part in parts for line in (*_paragraph(part), "")]


def _paragraph(text: str) -> list[str]:
    """A command stands as one."""
    return ["```text", text, "```"] if text.startswith("autoflip-secure ") else [with_links(escaped(text))]


def _argument(p: Any) -> str:
    text = _metavar(p).strip("[]") + ("" if p.nargs == 1 or "…" in _metavar(p) else "…")
    return text if p.required else f"[{text}]"


def _metavar(p: Any) -> str:
    return str(p.metavar or p.name.upper())


def _option(p: Any) -> str:
    names = ", ".join([*p.opts, *p.secondary_opts])
    return names if p.is_flag else f"{names} {_metavar(p)}"


def _default(p: Any) -> str:
    if p.required:
        return "required"
    if isinstance(p.show_default, str):
        return f"`{p.show_default}`"
    if p.default is None or p.default is False or p.default in ((), []) or callable(p.default):
        return ""
    return f"`{p.default}`"
