"""The sum over runs: what all releases of several ledgers reveal together.

Runs have independent noise (:class:`~autoflip_secure.seeds.PrivateDraws`), so their releases compose like those of one
run. Where all runs divide the data among clients alike, a client's releases are added up and the client that pays most
counts. Where they do not (other seeds, other partitions), somebody may be the one that pays most in each of them: the
largest Rényi divergence of any client is taken at each order within every division, and these are added up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from autoflip_secure.defenses.privacy.accountants import (
    ORDERS,
    Count,
    by_client,
    counted,
    epsilon_of,
    rdp_curve,
    released_by,
)
from autoflip_secure.defenses.privacy.pld import tightest
from autoflip_secure.records.budget import BudgetLine, ClientLine
from autoflip_secure.records.privacy import OBSERVERS, Observer, Relation, Release
from autoflip_secure.runtime.threads import one_thread

Unit = str


@dataclass(frozen=True)
class Spent:
    """What one cell released, in all its attempts under different conditions."""

    division: str  # equal where the same clients own the same samples
    unit: Unit  # "sample" or "client"
    attempts: tuple[tuple[Release, ...], ...]  # under each of its conditions, to all observers


@one_thread()
def budget_lines(spent: Sequence[Spent], delta: float) -> list[BudgetLine]:
    """One line for each observer and each kind of neighbours; lines about different neighbours do not add up.

    Args:
        spent: cells that used the same data.
        delta: at which epsilon is stated, of everything together.
    """
    lines = []
    for observer in OBSERVERS:
        apart = _apart(spent, observer)
        lines += [_line(observer, unit, relation, seen, delta) for (unit, relation), seen in sorted(apart.items())]
    return lines


@one_thread()
def client_lines(spent: Sequence[Spent], delta: float, data: str) -> list[ClientLine]:
    """What every client released to every observer, and its epsilon: within each division, where it is one person."""
    lines = []
    for observer in OBSERVERS:
        for (unit, relation), cells in sorted(_apart(spent, observer).items()):
            reason = "; ".join({one.reason: None for cell in cells for one in cell.releases if one.reason})
            divisions: dict[str, list[_Seen]] = defaultdict(list)
            for cell in cells:
                divisions[cell.division].append(cell)
            for division, own in divisions.items():
                released = [release for cell in own for release in cell.releases]
                for client, mine in people(released).items():
                    count = counted(mine)
                    lines.append(
                        ClientLine(
                            data=data, division=division, client=client, observer=observer,
                            unit="sample" if unit == "sample" else "client", relation=relation, runs=len(own),
                            releases=sum(release.steps for release in mine), released=in_words(mine),
                            epsilon=None if reason or count is None else tightest(count, delta), delta=delta,
                            reason=reason,
                        )
                    )  # fmt: skip
    return lines


def people(released: Sequence[Release]) -> dict[str, list[Release]]:
    """What each client released, by its number; who is not told apart is "every", or "any other" beside who is.

    >>> people([])
    {}
    """
    if not released:
        return {}
    found = {"every" if client is None else str(client): own for client, own in by_client(released).items()}
    shared = released_by(released, None)
    return found if "every" in found or not shared else {**found, "any other": shared}


def in_words(released: Sequence[Release]) -> str:
    """``updates: 12 steps, noise 2, poisson rate 0.05; …``."""
    parts: dict[str, int] = {}
    for release in released:
        drawn = "" if release.sampling == "none" else f", {release.sampling} rate {release.rate:.6g}"
        how = "without noise" if release.mechanism == "none" else f"noise {release.noise_multiplier:.6g}{drawn}"
        parts[f"{release.name}|{how}"] = parts.get(f"{release.name}|{how}", 0) + release.steps
    return "; ".join(
        f"{name}: {steps} step{'s' * (steps != 1)}, {how}"
        for (name, how), steps in ((key.split("|"), steps) for key, steps in parts.items())
    )


@dataclass(frozen=True)
class _Seen:
    """What an observer saw of one cell, in those of its attempts whose guarantee is about the same neighbours."""

    division: str
    attempts: int
    releases: list[Release]


def _apart(spent: Sequence[Spent], observer: Observer) -> dict[tuple[Unit, Relation], list[_Seen]]:
    """What ``observer`` saw of each cell, by what is protected and by the kind of neighbours.

    Of two proofs the ledger has the smaller one, which in another attempt, with other cohorts, may be the other.
    """
    apart: dict[tuple[Unit, Relation], list[_Seen]] = defaultdict(list)
    for cell in spent:
        alike: dict[Relation, list[list[Release]]] = defaultdict(list)
        for attempt in cell.attempts:
            seen = [release for release in attempt if release.observer == observer]
            if seen:
                alike[seen[0].relation].append(seen)
        for relation, attempts in alike.items():
            apart[cell.unit, relation].append(_Seen(cell.division, len(attempts), list(chain.from_iterable(attempts))))
    return apart


def _line(observer: Observer, unit: Unit, relation: Relation, cells: list[_Seen], delta: float) -> BudgetLine:
    reasons = {one.reason: None for cell in cells for one in cell.releases if one.reason}
    reason, epsilon = "; ".join(reasons), None
    clients: list[tuple[int, float]] = []
    if not reason:
        divisions: dict[str, list[Release]] = defaultdict(list)
        for cell in cells:
            divisions[cell.division] += cell.releases
        counts = [{client: counted(own) for client, own in by_client(seen).items()} for seen in divisions.values()]
        epsilon, clients = _together(counts, delta)
    return BudgetLine.model_validate(
        {
            "observer": observer, "unit": unit, "relation": relation, "cells": len(cells), "reason": reason,
            "attempts": sum(cell.attempts for cell in cells), "epsilon": epsilon, "clients": clients,
        }
    )  # fmt: skip


def _together(
    divisions: Sequence[dict[int | None, Count | None]], delta: float
) -> tuple[float | None, list[tuple[int, float]]]:
    """Epsilon of the client that pays most, and of each client where the data were divided in one way only."""
    counts = [{count for count in division.values() if count is not None} for division in divisions]
    if any(None in division.values() for division in divisions):
        return None, []
    if len(divisions) == 1:
        known = {count: tightest(count, delta) for count in counts[0]}
        found = {client: known[count] for client, count in divisions[0].items() if count is not None}
        worst = None if None in found.values() else max(e for e in found.values() if e is not None)
        return worst, [(client, e) for client, e in found.items() if client is not None and e is not None]
    if all(len(different) == 1 for different in counts):  # nobody pays more than anybody else
        steps: dict[object, int] = defaultdict(int)
        for (count,) in counts:
            for mechanism, number in count:
                steps[mechanism] += number
        return tightest(tuple(sorted(steps.items())), delta), []  # type: ignore[arg-type]
    curve = sum(np.max([_curve(count) for count in different], axis=0) for different in counts)
    return epsilon_of(np.asarray(curve), delta), []


def _curve(count: Count) -> np.ndarray:
    curve = np.zeros(len(ORDERS))
    for mechanism, steps in count:
        curve += steps * rdp_curve(mechanism)
    return curve
