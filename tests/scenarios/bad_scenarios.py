"""Scenarios that are wrong in ways nobody thought of: mutations of real ones, drawn by number."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoflip_secure.scenarios.config.sources import presets

TINY = """\
name: tiny
clients: 4
cohort: 2
rounds: 1
seeds: [31]
training: {epochs: 1, batch_size: 16}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 120, test_samples: 40}
partition: {kind: dirichlet, alpha: 0.5}
model: {kind: mlp, hidden: [8]}
algorithm: {name: autoflip, pruner: {kind: threshold, threshold: 0.3}}
attack: {kind: gaussian_noise, sigma: 0.5, scope: 0.25, window: {first: 1, last: null}}
privacy: {kind: sample_level, clip: 1.0, noise_multiplier: 1.0}
"""
SWEPT = """\
clients: 4
cohort: 2
rounds: 1
seeds: {first: 3, count: 2}
data: {kind: digits, train_samples: 120, test_samples: 40}
model: {kind: mlp, hidden: [8]}
attack: {kind: label_flip, to: pairs, pairs: {1: 2}, share: 1.0}
sweep:
  - product: {algorithm: [fedavg, autoflip], attack.share: [0.5, 1.0]}
    zip: {clients: [4, 6], cohort: [2, 3]}
  - product: {privacy: [none, {kind: client_level, clip: 1.0, noise_multiplier: 2}], sampling: [poisson]}
"""
ODD = [  # as YAML text
    "", "~", "null", "true", "no", "on", "010", "1:30", "1e-3", "1e400", "1e-400", "-0.0", ".nan", "-.inf", "0", "-1",
    "1", "2", "3.5", "50%", "'0,5'", "9223372036854775807", "9223372036854775808", "1e308", "-1e308",
    "1e-308", "5e-324",
    "100000", "65536", "0x7fffffff", "!!int abc", "!!bool maybe", "!!timestamp notatime", "!!binary '='",
    "!!set {a, b}",
    "!!omap [a]", "!!python/name:os.system", "!mine x", "2026-01-01", "'2026-01-01'", "''", "' '", "text", "a.b:c",
    "'\\0'", '"\\0"', '"\\e[31m"', '"\\ud800"', '"a\\nb"', "\u202e", "日本", "'[red]'", "<b>", "'%s'",
    "'{0}'", "'{name}'",
    "[]", "[[]]", "[1]", "[1, 1]", "[a, {b: c}]", "{}", "{kind: none}", "{kind: [1]}", "{kind: ~}", "{kind: mnist}",
    "{kind: npz, path: /nowhere.npz}", "{kind: npz, path: .}", "{kind: custom, factory: 'os:getcwd'}",
    "{kind: table, path: ., label: y}", "{kind: leaf, path: /}", "{kind: image_folder, path: /nowhere}",
    "{kind: huggingface, name: a/b}", "{kind: huggingface, path: /nowhere}",
    "{<<: 3}", "{<<: {a: 1}}",
    "{? [1] : 2}", "{1: 2}", "{a: 1, a: 2}", "{name: 1}", "{name: autoflip}", "{name: x, pruner: y}",
    "&a [*a]", "*gone",
    "digits", "mnist", "iid", "mlp", "cnn", "cnn6", "fedavg", "autoflip", "krum", "none", "label_flip",
    "gaussian_noise",
    "sample_level", "client_level", "auto", "cuda", "poisson", "{first: 0, count: 3}", "{first: -1, count: 1e9}",
    "{parties: 3}", "{parties: 99, updates: true}", "{parties: [{host: h, port: 1}, {host: h, port: 99999}]}",
    "[" * 60 + "]" * 60, "[" * 3000, "{a: " * 60 + "}" * 60, "9" * 5000, "'" + "a" * 3000 + "'", "|", ">-",
    "- x", "? x", "@x",
    "`x`", "%x", "#", "'", '"', "[", "{", ": ", "\t", "\x00", "\x1b[31m", "\ufeff", "\ufffe", "a: b: c",
    "--- x", "...",
]  # fmt: skip
KEYS = [
    "<b>", "<one>", "<union>", "[key]", "kind", "name", "", " ", "a.b", "no", "010", "1", "~", "<<", "=",
    "clients", "x" * 500,
    "attack.sigma", "'a\\nb'", '"\\e[31m"', "__class__", "model_fields", "日本", "seed", "$ref", "? [a]",
]  # fmt: skip
PATHS = [
    "clients", "cohort", "rounds", "seeds", "seeds.count", "name", "question", "evaluate_every", "device",
    "trainer", "sampling",
    "data", "data.kind", "data.train_samples", "data.path",
    "data.label", "data.features", "data.factory", "data.shape", "data.test_share",
    "partition", "partition.alpha", "partition.min_samples",
    "model", "model.hidden", "model.hidden.0", "model.factory", "model.arguments.x", "algorithm", "algorithm.name",
    "algorithm.pruner", "algorithm.pruner.threshold", "algorithm.aggregator", "algorithm.aggregator.kind", "attack",
    "attack.sigma", "attack.scope", "attack.clients", "attack.pairs", "attack.pairs.1",
    "attack.window.first", "privacy",
    "privacy.clip", "privacy.noise_multiplier", "privacy.target_epsilon", "privacy.delta", "secure_sum",
    "secure_sum.parties",
    "exploration.method", "exploration.explorers", "guidance.beta", "training", "training.lr", "training.optimizer",
    "training.batch_size", "sweep", "sweep.product", "sweep.attack.sigma", "sweep.0", "sweep.zip.clients",
    "schema", "",
    "a." * 60 + "b", "a." * 1500 + "b", ".", "..", "attack..sigma", " clients ", "clients.x.y", "\x1b[31m", "<b>",
]  # fmt: skip

NUMBERS = [
    path for path in PATHS
    if path.split(".")[-1] in {
        "clients", "cohort", "rounds", "count", "train_samples", "alpha", "min_samples", "0", "threshold",
        "sigma", "scope",
        "first", "clip", "noise_multiplier", "target_epsilon", "delta", "parties", "explorers", "beta",
        "lr", "batch_size",
    }
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One input: a scenario file and ``--set`` arguments."""

    number: int
    text: str
    overrides: tuple[str, ...]


def cases(first: int, count: int) -> Iterator[Case]:
    """Numbers are addresses: the same number is the same case, whatever came before."""
    sources = [TINY, SWEPT, *(path.read_text(encoding="utf-8") for path in _small_presets())]
    for number in range(first, first + count):
        draw = random.Random(number)
        text = draw.choice(sources) if draw.random() < 0.1 else draw.choice([TINY, SWEPT])
        for _ in range(draw.choice([0, 0, 1, 1, 1, 2, 4])):
            text = draw.choice(MUTATIONS)(text, draw)
        sets = [_override(draw) for _ in range(draw.choice([0, 0, 0, 0, 1, 2]))]
        yield Case(number, text, tuple(sets))


def _small_presets() -> list[Path]:
    small = ("audit_demo", "client_level_dp", "secure_exploration")
    return [path for name, path in presets().items() if name in small]


def _override(draw: random.Random) -> str:
    form = draw.random()
    if form < 0.05:
        return draw.choice([*PATHS, *ODD])
    if form < 0.4:
        return f"{draw.choice(NUMBERS)}={_extreme(draw)}"
    value = draw.choice(ODD)
    return f"{draw.choice(PATHS)}={f'[{value}, {draw.choice(ODD)}]' if form < 0.15 else value}"


def _extreme(draw: random.Random) -> str:
    """A number that may pass the bounds and break what follows."""
    if draw.random() < 0.5:
        return str(draw.choice([0, 1, 2, 3, 7, 60, 120, 1000, 65_536, 100_000, 10**6, 2**31, 2**53 + 1, 2**63 - 1]))
    return repr(10.0 ** draw.uniform(*draw.choice([(-3, 3), (-20, 20), (-308, 308)])))


def _number(text: str, draw: random.Random) -> str:
    """Another number where one stands."""
    found = list(re.finditer(r"(?<=[ \[{])\d+(\.\d+)?(?=[],}\n])", text))
    if not found:
        return text
    one = draw.choice(found)
    return f"{text[: one.start()]}{_extreme(draw)}{text[one.end() :]}"


def _lines(text: str, draw: random.Random) -> tuple[list[str], int]:
    lines = text.splitlines()
    return lines or [""], draw.randrange(max(len(lines), 1))


def _value(text: str, draw: random.Random) -> str:
    """Another value behind a key, in block or flow style."""
    marks = [i for i, c in enumerate(text) if c == ":" and text[i + 1 : i + 2] in (" ", "\n")]
    if not marks:
        return text
    start = draw.choice(marks) + 1
    end = min((i for i in (text.find(c, start + 1) for c in ",}]\n") if i >= 0), default=len(text))
    return f"{text[:start]} {draw.choice(ODD)}{text[end:]}"


def _key(text: str, draw: random.Random) -> str:
    """Another key before a value."""
    marks = [i for i, c in enumerate(text) if c == ":" and text[i + 1 : i + 2] in (" ", "\n")]
    if not marks:
        return text
    end = draw.choice(marks)
    start = max(text.rfind(c, 0, end) for c in " {,\n") + 1
    return f"{text[:start]}{draw.choice(KEYS)}{text[end:]}"


def _line_more(text: str, draw: random.Random) -> str:
    lines, at = _lines(text, draw)
    indent = " " * draw.choice([0, 0, 2, 4])
    lines.insert(at, f"{indent}{draw.choice([*KEYS, *PATHS])}: {draw.choice(ODD)}")
    return "\n".join(lines)


def _line_less(text: str, draw: random.Random) -> str:
    lines, at = _lines(text, draw)
    del lines[at]
    return "\n".join(lines)


def _line_twice(text: str, draw: random.Random) -> str:
    lines, at = _lines(text, draw)
    lines.insert(draw.randrange(len(lines)), lines[at])
    return "\n".join(lines)


def _character(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text) + 1)
    odd = [*"[]{}:,-#&*!|>'\"%@`?<=~. \t\n0e", "\x00", "\x1b", "\xa0", "\u2028", "é"]
    return text[:at] + draw.choice(odd) + text[at + draw.choice([0, 1]) :]


def _cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def _tree(text: str, draw: random.Random) -> str:
    """A node of the parsed document replaced by another part of it, or by an odd value, and written anew."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            places.append((node, key))
            walk(inner)

    try:
        data = yaml.safe_load(text)
        walk(data)
    except Exception:  # broken already, or inside itself
        return text
    if not places:
        return text
    (node, key), (other, name) = draw.choice(places), draw.choice(places)
    part = other[name]
    node[key] = draw.choice([part, None, -1, 0, 2**63 - 1, 1e308, 1e-308, "x", [], {}, [part], {"kind": part}])
    try:
        return str(yaml.safe_dump(data, sort_keys=False))
    except Exception:  # it contains itself now
        return text


def _axis(text: str, draw: random.Random) -> str:
    how, path = draw.choice(["product", "zip", "both"]), draw.choice(PATHS)
    return f"{text}\nsweep: {{{how}: {{{path}: [{draw.choice(ODD)}, {draw.choice(ODD)}]}}}}\n"


MUTATIONS: list[Callable[[str, random.Random], str]] = [
    _number, _number, _number, _value, _value, _value, _value, _key, _key, _line_more, _line_more, _line_less,
    _line_twice, _character, _cut, _tree, _tree, _axis,
]  # fmt: skip
