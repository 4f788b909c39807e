"""A reference page for every family of components: what `autoflip-secure list FAMILY KIND` says of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from layout import escaped, heading_of, table, with_links

from autoflip_secure.scenarios.catalogue.entries import Catalogue, Entry, Option

_TITLES = {  # family -> title, how one is named, the page that explains
    "attacks": ("Attacks", "attack: {kind: sign_flip, scope: 0.2}", "attacks.md"),
    "aggregators": ("Aggregators", "algorithm: {name: mine, pruner: none, aggregator: trimmed_mean}", "defenses.md"),
    "pre_aggregators": (
        "Pre-aggregators", "algorithm: {name: mine, pruner: none, aggregator: {kind: mean, before: [nnm]}}",
        "defenses.md",
    ),
    "pruners": ("Pruners", "algorithm: {name: mine, pruner: threshold, aggregator: agreement}", "algorithm.md"),
    "local_rules": ("Local rules", "algorithm: {name: mine, pruner: none, aggregator: mean, local_rule: proximal}",
                    "algorithm.md"),
    "algorithms": ("Algorithms", "algorithm: autoflip_plus", "algorithm.md"),
    "datasets": ("Data sets", "data: digits", "data.md"),
    "partitions": ("Partitions", "partition: {kind: dirichlet, alpha: 0.3}", "data.md"),
    "models": ("Models", "model: cnn", "data.md"),
    "privacy": ("Privacy mechanisms", "privacy: {kind: sample_level, clip: 1.0, target_epsilon: 8}", "privacy.md"),
    "secure_sum": ("Secure sums", "secure_sum: {parties: 3}\nexploration: {method: linear}", "secure_sums.md"),
    "presets": ("Presets", "autoflip-secure sweep NAME", "suites.md"),
    "trackers": ("Trackers", "autoflip-secure sweep SCENARIO --tracker KIND=PLACE", "ci.md"),
}  # fmt: skip


def family(name: str) -> str:
    """The page of one family."""
    entries = Catalogue.read().families[name]
    title, use, page = _TITLES[name]
    language = "" if use.startswith("autoflip") else "yaml"
    lines = [f"# {title}", "", f"Explained in [{heading_of(page)}](../{page}).", "", f"```{language}", use, "```", ""]
    if name == "secure_sum":
        return "\n".join([*lines, *_secure_sum(entries)])
    lines += table(["name", "what it is"], [(_to(kind), escaped(one.summary)) for kind, one in entries.items()])
    common = _common(entries)
    if common:
        kinds = "`, `".join(kind for kind, one in entries.items() if not one.options)
        but = f", but for `{kinds}`" if kinds else ""
        lines += ["", "## Options of all", "", f"Every one of them has these{but}.", "", *_options(common)]
    for kind, entry in entries.items():
        own = {key: option for key, option in entry.options.items() if key not in common}
        lines += ["", f"## `{kind}`", "", escaped(entry.summary), ""]
        said = [("Source", entry.source), *entry.details.items()]
        lines += [f"- {_head(head)}: {_said(head, text)}" for head, text in said if text]
        lines += ["", *_options(own)] if own else []
    return "\n".join(lines)


def _to(kind: str) -> str:
    return f"[`{kind}`](#{kind})"


def _head(head: str) -> str:
    return head[:1].upper() + head[1:]


def _said(head: str, text: str) -> str:
    """Text that is no code: a source or a sentence; what is configuration stands as code."""
    return f"`{text}`" if text.startswith("{") or head == "run it" else with_links(escaped(text))


def _options(options: dict[str, Option]) -> list[str]:
    rows = [
        (f"`{key}`", one.type, one.value if one.required else f"`{one.value}`", with_links(escaped(one.description)))
        for key, one in options.items()
    ]
    return table(["option", "value", "default", "what it is"], rows)


def _common(entries: dict[str, Entry]) -> dict[str, Option]:
    """Options that all entries with options have alike; none of a family of few."""
    with_options = [one.options for one in entries.values() if one.options]
    if len(with_options) < 5:
        return {}
    return {k: o for k, o in with_options[0].items() if all(other.get(k) == o for other in with_options)}


def _secure_sum(entries: dict[str, Entry]) -> list[str]:
    before = "updates of "
    options = {name: option for one in entries.values() for name, option in one.options.items()}
    rows = [(f"`{name.removeprefix(before)}`", escaped(one.summary)) for name, one in entries.items() if before in name]
    return [
        *_options(options),
        "",
        "## What each aggregator needs of the updates",
        "",
        *table(["aggregator", "needs"], rows),
    ]


PAGES: dict[str, Callable[[], str]] = {f"{name}.md": partial(family, name) for name in _TITLES}
