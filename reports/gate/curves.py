"""Degradation curves as the gate measures them: cells that differ in the strength of one attack alone.

Their clean end, at strength 0, is where nobody attacks. The measure is :func:`~.area` of each seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.records.configs import without
from autoflip_secure.reports.gate.metrics import Entry, config_hash
from autoflip_secure.reports.statistics.degradation_curve import area
from autoflip_secure.reports.study.labels import STRENGTHS, is_clean


def curve_configs(cells: Iterable[Entry]) -> list[tuple[dict[str, Any], str]]:
    """(configuration with a list of strengths, parameter) of every curve: two strengths or more, and a clean end."""
    known = list(cells)
    ends = {canonical(_rest(e.config)) for e in known if is_clean(e.config.get("attack"))}
    found: dict[str, tuple[dict[str, Any], str, set[float]]] = {}
    for entry in known:
        attack = entry.config.get("attack")
        if not isinstance(attack, Mapping) or is_clean(attack) or canonical(_rest(entry.config)) not in ends:
            continue
        for parameter in STRENGTHS:
            strength = attack.get(parameter)
            unused = parameter == "scope" and attack.get("clients") is not None
            if isinstance(strength, int | float) and not unused:
                shared = entry.config | {"attack": {**attack, parameter: None}}
                found.setdefault(canonical([shared, parameter]), (shared, parameter, set()))[2].add(strength)
    return [
        (shared | {"attack": {**shared["attack"], parameter: sorted(strengths)}}, parameter)
        for shared, parameter, strengths in found.values()
        if len(strengths) > 1
    ]


def curve_entry(config: dict[str, Any], parameter: str, cells: Mapping[str, Entry]) -> Entry | None:
    """The area on each seed that has every point of the curve; None when one of its configurations is not there."""
    attack = config.get("attack")
    strengths = attack.get(parameter) if isinstance(attack, Mapping) else None
    if not isinstance(attack, Mapping) or not isinstance(strengths, list) or not strengths:
        return None
    keys = [config_hash(config | {"attack": {**attack, parameter: strength}}) for strength in strengths]
    ends = [e for e in cells.values() if is_clean(e.config.get("attack")) and _rest(e.config) == _rest(config)]
    if not ends or any(key not in cells for key in keys):
        return None
    clean = min(ends, key=lambda e: ((e.config.get("attack") or {}).get("kind", "none") != "none", e.key))
    members = [clean, *(cells[key] for key in keys)]
    accuracy = [m.metrics.get("clean_accuracy") or m.metrics.get("attacked_accuracy") or {} for m in members]
    seeds = sorted(set(accuracy[0]).intersection(*accuracy[1:]))
    areas = {s: area([0.0, *strengths], [a[s] for a in accuracy]) for s in seeds}
    return Entry(
        algorithm=members[-1].algorithm,
        condition=f"{members[-1].condition}, curve over {parameter} from 0",
        config=config,
        curve=parameter,
        metrics={"degradation_area": areas} if areas else {},
        digests={s: digest([m.digests[s] for m in members]) for s in seeds},
    )


def _rest(config: Mapping[str, Any]) -> dict[str, Any]:
    return without(config, "seed", "attack")
