"""Worst cases as tables: one row per algorithm, or one per algorithm and attack; and as data for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from autoflip_secure.reports.statistics.intervals import Interval
from autoflip_secure.reports.study.worst_cases import WorstCases
from autoflip_secure.reports.tables.text import Table, percents

_WORST = (
    "setting", "malicious clients", "algorithm", "worst attack", "worst case (%)", "low (%)", "high (%)", "attacks",
    "clean (%)", "clean low (%)", "clean high (%)", "cost (points)", "cost low", "cost high", "best rank", "worst rank",
    "of", "seeds",
)  # fmt: skip


def worst_table(groups: Sequence[WorstCases]) -> Table:
    """A row per setting and algorithm: worst case with its interval, clean accuracy, cost without attack, rank."""
    rows: list[list[Any]] = []
    for group in groups:
        for one in group.defended:
            worst = one.worst
            clean = percents(one.clean) if one.clean else [None] * 3
            cost = percents(one.cost.difference) if one.cost else [None] * 3
            own = [group.facet, group.who, one.algorithm, worst.attack, *percents(worst.accuracy), worst.attacks]
            rows.append([*own, *clean, *cost, *one.rank, len(group.defended), worst.accuracy.n])
    return Table(list(_WORST), rows)


def attacks_table(groups: Sequence[WorstCases]) -> Table:
    """A row per setting, algorithm and attack: accuracy with its own t interval, and whether it is the worst one."""
    columns = ["setting", "malicious clients", "algorithm", "attack", "accuracy (%)", "low (%)", "high (%)", "seeds"]
    rows: list[list[Any]] = []
    for group in groups:
        for one in group.defended:
            for attack, accuracy in one.accuracies.items():
                own = [group.facet, group.who, one.algorithm, attack, *percents(accuracy), accuracy.n]
                rows.append([*own, attack == one.worst.attack])
    return Table([*columns, "worst"], rows)


def worst_frame(groups: Sequence[WorstCases]) -> pd.DataFrame:
    """:func:`worst_table` for other programs: shares in [0, 1], typed; ``docs/results.md`` describes the columns."""
    rows = [
        {
            "facet": group.facet,
            "malicious_clients": group.who,
            "algorithm": one.algorithm,
            "worst_attack": one.worst.attack,
            **_ends("worst_case", one.worst.accuracy),
            "attacks": one.worst.attacks,
            **_ends("clean", one.clean),
            **_ends("cost", one.cost.difference if one.cost else None),
            "best_rank": one.rank[0],
            "worst_rank": one.rank[1],
            "ranked": len(group.defended),
            "seeds": one.worst.accuracy.n,
        }
        for group in groups
        for one in group.defended
    ]
    frame = pd.DataFrame(rows, dtype=object)
    texts = ("facet", "malicious_clients", "algorithm", "worst_attack")
    whole = ("attacks", "best_rank", "worst_rank", "ranked", "seeds")
    kinds = {name: "string" if name in texts else "Int64" if name in whole else "float64" for name in frame.columns}
    return frame.astype(kinds)


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    ends = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
