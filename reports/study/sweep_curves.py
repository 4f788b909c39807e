"""Which degradation curves a sweep has: attacks that differ in one number, everything else of them fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.records.configs import without
from autoflip_secure.reports.study.labels import is_number, kind_words, number, setting
from autoflip_secure.reports.study.study import Study

_WORDS = {
    ("gaussian_noise", "sigma"): "noise σ",
    ("gaussian_noise", "scope"): "share of noisy clients",
    ("label_flip", "share"): "share of labels flipped",
    ("label_flip", "scope"): "share of label-flipping clients",
}


def axis_words(kind: str, parameter: str) -> str:
    """What varies along a curve.

    >>> axis_words("label_flip", "share"), axis_words("my_attack", "strength")
    ('share of labels flipped', 'strength of my attack')
    """
    return _WORDS.get((kind, parameter), f"{setting(parameter)} of {kind_words(kind)}")


@dataclass(frozen=True)
class Curve:
    """Attacks that differ in one number only."""

    kind: str
    parameter: str
    fixed: str  # in words: what the others have in common and other curves do not
    levels: list[tuple[float, str]]  # (value, attack label), ascending, without the clean end


def curves(study: Study) -> list[Curve]:
    """Numeric attack parameters that vary while everything else of the attack is fixed.

    A parameter with only two levels beside one with more makes no curve of its own: its points lie on the others.
    """
    found: list[Curve] = []
    for kind in study.attack_kinds:
        configs = {name: a for name, a in study.attacks.items() if a["kind"] == kind}
        candidates: dict[str, list[Curve]] = {}
        for parameter in sorted({k for a in configs.values() for k, v in a.items() if is_number(v)}):
            groups: dict[str, list[str]] = {}
            for name, attack in configs.items():
                if is_number(attack.get(parameter)):
                    rest = without(attack, parameter)
                    groups.setdefault(canonical(rest), []).append(name)
            candidates[parameter] = [
                Curve(
                    kind,
                    parameter,
                    _fixed(configs[names[0]], parameter),
                    sorted((float(configs[n][parameter]), n) for n in names),
                )
                for names in groups.values()
                if len(names) > 1
            ]
        most = max((len(c.levels) for group in candidates.values() for c in group), default=0)
        for group in candidates.values():
            found += [c for c in group if len(c.levels) >= min(3, most)]
    return found


def _fixed(attack: dict[str, Any], parameter: str) -> str:
    words = []
    if "sigma" in attack and parameter != "sigma":
        words.append(f"σ {number(attack['sigma'])}")
    if "share" in attack and parameter != "share":
        words.append(f"{100 * attack['share']:.3g} % of labels")
    if parameter != "scope":
        named = attack.get("clients")
        words.append(f"{100 * attack.get('scope', 0):.3g} % of clients" if named is None else f"{len(named)} clients")
    return ", ".join(words)
