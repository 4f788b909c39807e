"""The scoreboard: every level of what is compared, over conditions that all levels of its block were run under.

A mean over conditions can be compared with another one over the same conditions only. So levels that were not run under
all of them have a block of their own, over those that they share with the reference; and conditions that may not be
averaged (one algorithm and another, one epsilon and another) are in blocks of their own as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.paired import Verdict
from autoflip_secure.reports.study.comparisons import Row, Summary, summarise
from autoflip_secure.reports.study.study import Condition, Study
from autoflip_secure.terminal.counting import count_of


@dataclass(frozen=True)
class Standing:
    """One line of the scoreboard."""

    algorithm: str
    clean: Summary | None
    attacked: Summary | None
    weakest: Row | None  # the condition in which it stands worst against the baseline
    tally: dict[Verdict, int]  # over the attacked conditions
    uplink: float | None  # bytes sent by clients in a whole run, as a share of the baseline's
    flops: dict[str, float]  # training operations (sparse, compacted) as a share of the baseline's


@dataclass(frozen=True)
class Block:
    """Levels whose means are over the same conditions, the reference first where it was run."""

    title: str  # above its lines; "": it is the only one
    stratum: str  # what its conditions have in common; "": the scoreboard has one stratum
    partial: bool  # levels that were not run under all conditions of the stratum
    attacked: int  # conditions, at most
    clean: int
    standings: list[Standing]


class _Share(NamedTuple):
    """Levels that were run under the same conditions as the reference."""

    stratum: str
    partial: bool
    base: str | None  # the reference; None: it was not run under these conditions, or there is none
    levels: list[str]
    conditions: list[Condition]


def scoreboard(study: Study, rows: Sequence[Row]) -> list[Block]:
    """All blocks, in the order of the facets; all of their differences are one family."""
    shares = [share for stratum in _strata(study) for share in _shares(study, stratum)]
    asked = [(a, kind, x.base) for x in shares for a in x.levels for kind in _kinds(study, x.conditions)]
    summaries = iter(_corrected(study, asked))
    blocks = []
    for share in shares:
        lines = []
        for level in share.levels:
            clean, attacked = next(summaries), next(summaries)
            lines.append(_standing(study, rows, level, share.conditions, clean, attacked))
        clean_most = max((x.clean.conditions for x in lines if x.clean), default=0)
        attacked_most = max((x.attacked.conditions for x in lines if x.attacked), default=0)
        title = _title(study, share, len(shares) > 1)
        blocks.append(Block(title, share.stratum, share.partial, attacked_most, clean_most, lines))
    return blocks


def _title(study: Study, share: _Share, several: bool) -> str:
    """What the lines of a block have in common: nothing where it is the only one, and over all conditions."""
    every = sum(study.strata.get(c.facet, "") == share.stratum for c in study.conditions)
    words = [share.stratum] if share.stratum else []
    if share.base is None and study.baseline is not None:
        words.append(f"{study.baseline} was not run here, so nothing is compared")
    elif len(share.conditions) < every:
        words.append(f"over {len(share.conditions)} of {every} conditions, those that all of these have")
    elif several:
        words.append(f"over {count_of(every, 'condition')}")
    return ", ".join(words)


def standings(study: Study, rows: Sequence[Row]) -> list[Standing]:
    """Every level once, in the order of the blocks."""
    found: dict[tuple[str, str], Standing] = {}
    for block in scoreboard(study, rows):
        for one in block.standings:
            found.setdefault((block.stratum, one.algorithm), one)
    return list(found.values())


def _strata(study: Study) -> list[str]:
    return list(dict.fromkeys(study.strata.get(facet, "") for facet in study.facets))


def _shares(study: Study, stratum: str) -> list[_Share]:
    """The most conditions first, then every other set of them, then those that the reference was not run under."""
    conditions = [c for c in study.conditions if study.strata.get(c.facet, "") == stratum]
    base = study.baseline
    sets: dict[tuple[Condition, ...], list[str]] = {}
    alone: list[str] = []
    for level in study.algorithms:
        shared = tuple(c for c in conditions if _pairs(study, c, level))
        if shared and level != base:
            sets.setdefault(shared, []).append(level)
        elif not shared and any(study.values(c, level) for c in conditions):
            alone.append(level)
    if not sets and base is not None and any(study.values(c, base) for c in conditions):
        alone.insert(0, base)
    most = max(map(len, sets), default=0)
    found = [
        _Share(stratum, len(shared) < most, base, [*([base] if base else []), *own], list(shared))
        for shared, own in sorted(sets.items(), key=lambda one: len(one[0]) < most)
    ]
    if alone:
        found.append(_Share(stratum, bool(found), None, alone, conditions))
    return found


def _pairs(study: Study, condition: Condition, algorithm: str) -> bool:
    """Whether it was run there, at a seed that the reference has too."""
    own = study.values(condition, algorithm)
    return bool(own) and (study.baseline is None or bool(own.keys() & study.values(condition, study.baseline).keys()))


def _kinds(study: Study, conditions: list[Condition]) -> tuple[list[Condition], list[Condition]]:
    """Conditions without and with attack."""
    clean = [c for c in conditions if study.attacks[c.attack]["kind"] == "none"]
    return clean, [c for c in conditions if c not in clean]


def _standing(
    study: Study, rows: Sequence[Row], algorithm: str, conditions: list[Condition],
    clean: Summary | None, attacked: Summary | None,
) -> Standing:  # fmt: skip
    own = [r for r in rows if r.algorithm == algorithm and r.against and r.condition in conditions]
    tally = dict.fromkeys(Verdict, 0)
    for row in own:
        if row.against and study.attacks[row.condition.attack]["kind"] != "none":
            tally[row.against.verdict] += 1
    uplink, flops = _costs(study, algorithm, conditions)
    weakest = min(own, key=lambda r: r.against.difference.mean if r.against else 0.0, default=None)
    return Standing(algorithm, clean, attacked, weakest, tally, uplink, flops)


def _corrected(study: Study, asked: Sequence[tuple[str, list[Condition], str | None]]) -> list[Summary | None]:
    """The summaries of levels over conditions, corrected as one family."""
    found = [summarise(study, algorithm, conditions, base) for algorithm, conditions, base in asked]
    pairs = corrected([summary.against if summary else None for summary in found])
    return [None if s is None else replace(s, against=pair) for s, pair in zip(found, pairs, strict=True)]


def _costs(study: Study, algorithm: str, conditions: Sequence[Condition]) -> tuple[float | None, dict[str, float]]:
    """Shares of the baseline's cost, averaged over the pairs of runs."""
    if study.baseline is None:
        return None, {}
    runs = [(row, record) for row, record in study.rows if Condition(row.facet, row.attack) in conditions]
    partner = {
        (row.facet, row.attack, row.seed): record.costs for row, record in runs if row.algorithm == study.baseline
    }
    shares: list[dict[str, float]] = []
    for row, record in runs:
        base = partner.get((row.facet, row.attack, row.seed))
        if row.algorithm != algorithm or base is None or not base.bytes.uplink_values:
            continue
        own = record.costs
        share = {"uplink": own.bytes.uplink_values / base.bytes.uplink_values}
        for kind in ("sparse", "compacted"):
            flops, of = getattr(own.flops, kind), getattr(base.flops, kind)
            if flops is not None and of:
                share[kind] = flops / of
        shares.append(share)
    if not shares:
        return None, {}
    means = pd.DataFrame(shares).mean().to_dict()
    return float(means.pop("uplink")), {str(k): float(v) for k, v in means.items()}
