"""Cells that a sweep should have and has not: named as the report names the others, seeds gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoflip_secure.records.configs import leaves, without
from autoflip_secure.reports.study.labels import (
    attack_label,
    clean_text,
    number,
    partition_label,
    pretty,
    setting,
    shorten,
)

_SPOKEN = ("partition", "attack", "algorithm.name")  # axes that have words of their own


def name_missing(missing: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per algorithm and condition: ``AutoFLIP, IID, noise σ 0.5 on 20 %: seeds 10, 12``.

    Args:
        missing: per cell its ``algorithm``, ``seed`` and ``axes``, and ``config`` (or None) when that is known.
    """
    seeds: dict[str, list[str]] = {}
    for cell in missing:
        words = [shorten(pretty(str(cell["algorithm"])), 60)]
        axes = dict(cell.get("axes") or {})
        config = cell.get("config")
        if config:
            words += [partition_label(config.get("partition") or {}), attack_label(config.get("attack") or {})]
            axes = {k: v for k, v in axes.items() if k not in _SPOKEN and not k.startswith(("partition.", "attack."))}
        words += [f"{setting(path)} {number(value)}" for path, value in leaves(without(axes, "algorithm")).items()]
        seed = cell.get("seed")
        seeds.setdefault(", ".join(words), []).append(str(cell["cell"]) if seed is None else str(seed))
    return [f"{shorten(name, 200)}: {_seeds(found)}" for name, found in seeds.items()]


def _seeds(found: list[str]) -> str:
    return f"seed{'' if len(found) == 1 else 's'} {clean_text(', '.join(found))}"
