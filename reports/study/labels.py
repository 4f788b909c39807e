"""Short names for what a cell was run on: configurations become words, and different configurations different words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from textwrap import wrap
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.files.regular_files import parse_json
from autoflip_secure.records.configs import leaves, varying
from autoflip_secure.records.newer_keys import with_newer
from autoflip_secure.terminal.counting import count_of

Json = Mapping[str, Any]
PRETTY = {
    "fedavg": "FedAvg",
    "autoflip": "AutoFLIP",
    "autoflip_plus": "AutoFLIP plus",
    "autoflip_held": "AutoFLIP held",
    "fedprox": "FedProx",
    "fedlex": "FedLEx",
    "lotteryfl": "LotteryFL",
    "fedspa": "FedSpa",
    "ppflex": "PPFLex",
    "feddst": "FedDST",
    "fedsgc": "FedSGC",
    "subfedavg": "Sub-FedAvg",
    "fedpm": "FedPM",
    "fedmask": "FedMask",
    "spafl": "SpaFL",
    "taylor": "Taylor",
    "fedsparsify": "FedSparsify",
    "erk": "ERK",
    "snip": "SNIP",
    "fedtiny": "FedTiny",
    "rigl": "RigL",
    "fedrts": "FedRTS",
    "prunefl": "PruneFL",
    "eflprune": "EFLPrune",
    "nbafl": "NbAFL",
    "flame": "FLAME",
    "foolsgold": "FoolsGold",
    "fltrust": "FLTrust",
}
_PUBLISHED = {  # attacks that the field knows by a name which is no plain words
    "alie": "ALIE",
    "ipm": "IPM",
    "min_max": "min-max",
    "min_sum": "min-sum",
    "opt_alie": "optimised ALIE",
    "opt_ipm": "optimised IPM",
    "rop": "RoP",
}
STRENGTHS = ("sigma", "scope", "share", "strength")  # attack parameters whose zero means "no attack"
_OF_OTHERS = ("scope",)  # of an attack that is not built in, and may mean something else by the rest
BUILT_IN_ATTACKS = (
    "alie", "anchor_inflation", "backdoor", "boosted_flip", "buffers", "decorrelated", "dirty_label", "fang", "fault",
    "gaussian_noise", "greedy_oracle", "hybrid_sparse", "ipm", "label_flip", "landscape_lie", "layer_trick",
    "lie_samples", "mask_collusion", "memory_evasion", "mimic", "min_max", "min_sum", "model_replacement",
    "neurotoxin", "norm_bound", "opt_alie", "opt_ipm", "over_participation", "root_evasion", "rop", "score_evasion",
    "sign_flip", "starve", "step_reversal",
)  # fmt: skip
SHARES = ("scope", "share")  # those that are shares of clients or labels
SEVERAL = "several"  # kind of a list of attacks
NO_ATTACK = "no attack"
OPEN = "in the open"
_SYMBOLS = ("α", "δ", "ε", "σ")


def clean_text(text: object) -> str:
    """A label as one line of printable text; what cannot be printed or encoded becomes the replacement character."""
    line = " ".join(str(text).encode("utf-8", "replace").decode("utf-8").split())
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def spaced(text: object) -> str:
    """A name as words: :func:`clean_text` without underscores."""
    return clean_text(text).replace("_", " ")


def capital(text: str) -> str:
    """``text`` as a sentence begins; what follows its first letter stays, and so does a symbol: σ is no sum.

    >>> capital("no attack on IID"), capital("σ against 0")
    ('No attack on IID', 'σ against 0')
    """
    return text if text[:2].strip() in _SYMBOLS else text[:1].upper() + text[1:]


def shorten(text: str, length: int = 34) -> str:
    """At most ``length`` characters, for places where a figure has no more room."""
    return text if len(text) <= length else text[: length - 1] + "…"


def told_apart(names: Iterable[str], length: int = 34) -> dict[str, str]:
    """Every name at about ``length`` characters, and no two alike: what only differs behind that is shown to its end.

    >>> told_apart(["whole clients, target ε 2", "whole clients, target ε 8", "none"], 16)
    {'whole clients, target ε 2': '…ents, target ε 2', 'whole clients, target ε 8': '…ents, target ε 8', 'none': 'none'}
    """
    every = list(dict.fromkeys(names))
    ways = (lambda name: shorten(name, length), lambda name: name if len(name) <= length else "…" + name[-length:])
    for way in ways:
        found = {name: way(name) for name in every}
        if len(set(found.values())) == len(every):
            return found
    return {name: name for name in every}


def layer_labels(names: Iterable[str], length: int) -> list[str]:
    """Names of a model's layers at about ``length`` characters, or their numbers where two of them would look alike.

    >>> layer_labels(["conv1.weight", "conv2.weight"], 9), layer_labels(["features.1.0.0", "features.1.0.1"], 9)
    (['conv1', 'conv2'], ['1', '2'])
    """
    short = [shorten(name.removesuffix(".weight"), length) for name in names]
    return short if len(set(short)) == len(short) else numbered(len(short))


def numbered(count: int, step: int = 1) -> list[str]:
    """1 to ``count``, and nothing between every ``step``-th where there is no room for all."""
    return [str(number) if (number - 1) % step == 0 else "" for number in range(1, count + 1)]


def in_lines(text: str, width: int, most: int = 3) -> str:
    """``text`` in at most so many lines of ``width`` characters; numbers stay with their units."""
    lines = wrap(text.replace(" %", "\u00a0%").replace("σ ", "σ\u00a0").replace("ε ", "ε\u00a0"), width) or [""]
    last = [shorten(" ".join(lines[most - 1 :]), width)] if len(lines) >= most else []
    return "\n".join([*lines[: most - 1], *last])


def pretty(algorithm: str) -> str:
    """The name a reader sees: the known ones spelled as in the papers, every other as it is, without underscores."""
    return PRETTY.get(algorithm, spaced(algorithm))


def percent(share: float) -> str:
    """A share as per cent with one digit."""
    return f"{100 * share:.1f} %"


def number(value: object) -> str:
    """A setting as a reader writes it: 0.3, 5, yes, cnn; a list (as text, from :func:`leaves`) without its brackets.

    >>> number(0.30), number(True), number('["size", "direction"]'), number("[128, 64]"), number(None), number("[]")
    ('0.3', 'yes', 'size + direction', '128-64', 'none', 'none')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith("["):
        with contextlib.suppress(ValueError):  # else it is no list, but a name that looks like one
            value = parse_json(value)
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return ("-" if all(map(is_number, value)) else " + ").join(map(number, value))
    return f"{value:g}" if isinstance(value, int | float) else clean_text(value)


def partition_label(partition: Json) -> str:
    """How the data were split, in words."""
    kind = str(partition.get("kind", "unknown split"))
    if kind == "iid":
        return "IID"
    if kind == "dirichlet" and "alpha" in partition:
        return f"Dirichlet {number(partition['alpha'])}"
    if kind == "pathological" and "classes_per_client" in partition:
        return f"{number(partition['classes_per_client'])} classes per client"
    return "by natural group" if kind == "by_group" else kind_words(kind)


def kind_words(kind: str) -> str:
    """A kind as a reader sees it: words, or the class that a scenario names by its path.

    >>> kind_words("sign_flip"), kind_words("opt_ipm"), kind_words("my_package.attacks:SignFlip")
    ('sign flip', 'optimised IPM', 'SignFlip')
    """
    _, colon, name = clean_text(kind).rpartition(":")
    return name if colon else _PUBLISHED.get(name, name.replace("_", " "))


def is_clean(attack: Json | None) -> bool:
    """Whether nobody attacks: no attack, or one of zero strength."""
    if not attack or attack.get("kind") in (None, "none"):
        return True
    if attack["kind"] == SEVERAL:
        return all(map(is_clean, attack.get("attacks") or ()))
    named = attack.get("clients") is not None
    keys = STRENGTHS if attack["kind"] in BUILT_IN_ATTACKS else _OF_OTHERS
    return any(attack.get(key) == 0 and not (key == "scope" and named) for key in keys)


def attack_label(attack: Json) -> str:
    """What the malicious clients did, in words: ``noise σ 0.5 on 20 %``."""
    if is_clean(attack):
        return NO_ATTACK
    if attack["kind"] == SEVERAL:
        return " + ".join(attack_label(one) for one in attack["attacks"] if not is_clean(one))
    clients = attack.get("clients")
    share = f"{100 * float(attack.get('scope', 0)):.3g} %"
    who = share if clients is None else count_of(len(clients), "chosen client")
    return f"{_did(attack, str(attack['kind']))} on {who}"


def _did(attack: Json, kind: str) -> str:
    """What each of them did."""
    words = kind_words(kind)
    if kind == "gaussian_noise" and "sigma" in attack:
        words = f"noise σ {number(attack['sigma'])}{' × norm' if attack.get('relative') else ''}"
    elif kind == "label_flip" and "share" in attack:
        words = f"{100 * float(attack['share']):.3g} % labels flipped"
    elif kind == "dirty_label" and "of" in attack:
        label = attack.get("to")
        words = f"class {number(attack['of'])} labelled {'at random' if label is None else number(label)}"
    elif kind == "backdoor" and "target" in attack:
        parts = attack.get("trigger_parts", 1)
        words = f"backdoor to class {number(attack['target'])}{f' in {parts} parts' if parts != 1 else ''}"
    return words


def kinds_of(attack: Json) -> list[str]:
    """Kinds of the attacks of a run."""
    parts = attack.get("attacks") or () if attack.get("kind") == SEVERAL else (attack,)
    return [str(one.get("kind")) for one in parts]


def label_all(configs: Iterable[Any], describe: Callable[[Any], str]) -> dict[str, str]:
    """Canonical text -> label, one label per distinct configuration.

    Where ``describe`` gives two configurations the same words, what differs between them is appended.
    """
    distinct = {canonical(config): config for config in configs}
    groups: dict[str, list[str]] = {}
    for key, config in distinct.items():
        groups.setdefault(describe(config), []).append(key)
    labels: dict[str, str] = {}
    for words, keys in groups.items():
        paths = varying(with_newer(distinct[key]) for key in keys) if len(keys) > 1 else []
        for key in keys:
            flat = leaves(with_newer(distinct[key]))
            label = " · ".join([words, *(level(path, flat.get(path, "–")) for path in paths)])
            taken = sum(other == label or other.startswith(f"{label} (") for other in labels.values())
            labels[key] = f"{label} ({taken + 1})" if label in labels.values() else label
    return labels


_AXES = {
    "alpha": "Dirichlet α",
    "density": "density (share of weights kept)",
    "every": "rounds between explorations",
    "lr": "learning rate",
    "sigma": "noise σ",
    "threshold": "pruning threshold T_p",
}


def setting(path: str) -> str:
    """A configuration path as words: the paper's symbol for what has one, else the last name on the path."""
    known = {"threshold": "T_p", "alpha": "α", "sigma": "σ", "classes_per_client": "classes per client"}
    last = path.rpartition(".")[2]
    if last == "kind" and "." in path:
        last = path.split(".")[-2]
    return known.get(last, spaced(last))


def level(path: str, value: object) -> str:
    """A setting with its value.

    >>> level("algorithm.pruner.threshold", 0.3), level("exploration.every", None), level("exploration.every", 5)
    ('T_p 0.3', 'explored once', 'explored every 5 rounds')
    """
    if path.endswith("exploration.every"):
        return "explored once" if value is None else f"explored every {number(value)} rounds"
    return f"{setting(path)} {number(value)}"


def axis_words(path: str) -> str:
    """What an axis over a setting is called: in full, with the symbol behind it.

    >>> axis_words("training.lr"), axis_words("algorithm.pruner.threshold"), axis_words("exploration.explorers")
    ('learning rate', 'pruning threshold T_p', 'explorers')
    """
    return _AXES.get(path.rpartition(".")[2], setting(path))


def is_number(value: object) -> bool:
    """Whether a setting can be an axis: a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def passage(config: Mapping[str, Any] | None) -> str:
    """What a setting of secure sums is called.

    >>> passage({"parties": 3, "updates": False}), passage({"parties": 2, "updates": True}), passage(None)
    ('exploration through 3 parties', 'everything through 2 parties', 'in the open')
    """
    if not config or config.get("kind") == "none":
        return OPEN
    parties = config.get("parties")
    count = parties if isinstance(parties, int) else len(parties or ())
    return f"{'everything' if config.get('updates') else 'exploration'} through {count} parties"
