"""What ``list`` prints: the catalogue in lines of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from autoflip_secure.terminal.wrapping import COLUMNS, wrapped

if TYPE_CHECKING:
    from autoflip_secure.scenarios.catalogue.entries import Entry

_WRITTEN = {  # how a scenario names an entry of a family
    "attacks": "attack: {}", "privacy": "privacy: {}", "datasets": "data: {}", "partitions": "partition: {}",
    "models": "model: {}", "algorithms": "algorithm: {}",
    "aggregators": "algorithm: {{name: mine, pruner: none, aggregator: {}}}",
    "pre_aggregators": "algorithm: {{name: mine, pruner: none, aggregator: {{kind: median, before: [{}]}}}}",
    "pruners": "algorithm: {{name: mine, pruner: {}, aggregator: mean}}",
    "local_rules": "algorithm: {{name: mine, pruner: none, aggregator: mean, local_rule: {}}}",
}  # fmt: skip
_GAP = "  "
_WIDEST = 28  # of a column of names


def overview(families: dict[str, dict[str, Entry]]) -> list[str]:
    """Every family: names and one sentence each."""
    lines = []
    for family, entries in families.items():
        lines += [family, *_table({name: one.summary for name, one in entries.items()}, _GAP), ""]
    return [*lines, "`autoflip-secure list FAMILY` shows options, `list FAMILY KIND` all about one."]


def options(entries: dict[str, Entry]) -> list[str]:
    """One family: names, a sentence each, and below them every option with its default."""
    lines = []
    width = _column(entries)
    for name, entry in entries.items():
        lines += _row(name, entry.summary, width, "")
        if list(entry.options) == [name]:  # a key by itself, whose description stands there already
            continue
        for key, option in entry.options.items():
            choices = option.type if option.type.startswith("one of") else ""
            about = "; ".join(part for part in (option.description, choices) if part)
            lines += wrapped(
                f"{key}: {option.value}  ({about})" if about else f"{key}: {option.value}", indent=" " * 8, first=4
            )
    return lines


def everything(family: str, kind: str, entry: Entry) -> list[str]:
    """One entry: source, how a scenario writes it, and every option with type, bounds, default and description."""
    heads = {"source": entry.source, **entry.details, "in a scenario": _written(family, kind, entry)}
    if family == "presets":
        heads["run it"] = f"autoflip-secure sweep {kind}"
        heads["a copy to edit"] = f"autoflip-secure init {kind}.yaml --preset {kind}"
    lines = [
        *wrapped(f"{kind}: {entry.summary}"),
        "",
        *_table({head: text for head, text in heads.items() if text}, ""),
    ]
    lines += ["", "options"] if entry.options else []
    for key, option in entry.options.items():
        lines += wrapped(f"{key}: {option.value}  ({option.type})", indent=" " * 6, first=len(_GAP))
        lines += wrapped(option.description, indent=" " * 6)
    return lines


def _written(family: str, kind: str, entry: Entry) -> str:
    """The shortest form; what has to be given stands in it."""
    if family == "secure_sum":
        return f"secure_sum: {{{kind}: {entry.options[kind].value}}}" if kind in entry.options else ""
    if family not in _WRITTEN:
        return ""
    required = [key for key, option in entry.options.items() if option.required and "." not in key]
    settings = "".join(f", {key}: …" for key in required)
    return _WRITTEN[family].format(f"{{kind: {kind}{settings}}}" if required else kind)


def _table(rows: dict[str, str], margin: str) -> list[str]:
    width = _column(rows)
    return [line for name, text in rows.items() for line in _row(name, text, width, margin)]


def _column(names: Iterable[str]) -> int:
    return min(max(map(len, names)), _WIDEST)


def _row(name: str, text: str, width: int, margin: str) -> list[str]:
    start = f"{margin}{name:<{width}}{_GAP}"
    return wrapped(text, COLUMNS, " " * (len(margin) + width + len(_GAP)), start)
