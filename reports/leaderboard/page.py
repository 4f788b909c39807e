"""A board as one page: a table for each setting, filters, every attack, and what each entry was made with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoflip_secure.files.canonical_json import canonical
from autoflip_secure.interfaces.attack_view import KNOWLEDGE
from autoflip_secure.records.board import BoardEntry
from autoflip_secure.records.configs import differences
from autoflip_secure.reports.leaderboard import wording
from autoflip_secure.reports.leaderboard.ranking import Leaderboard, Standing, View
from autoflip_secure.reports.pages.page import as_yaml, page
from autoflip_secure.reports.pages.writing import write
from autoflip_secure.reports.study.labels import clean_text, kind_words, shorten
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.runtime.threads import one_thread
from autoflip_secure.terminal.counting import listed

_VALUE = 60  # letters of a setting that differs


@one_thread()
def write_leaderboard(board: Leaderboard, path: Path, *, command: str = "") -> Path:
    """Write the page to ``path``; ``command``: what to type to make it again.

    Raises:
        StoreError: it cannot be written.
    """
    write(path, render(board, command=command))
    return path


def render(board: Leaderboard, *, command: str = "") -> str:
    """The page as text."""
    terms, entries = board.terms, [one.entry for one in board.overall.standings]
    first = terms.settings[0]
    varying = {path for other in terms.settings[1:] for path, _, _ in differences(first, other)}
    return page(
        "leaderboard.html.j2",
        name=terms.name,
        question=board.question,
        headline=wording.headline(board),
        sentences=wording.answer(board),
        caveats=wording.caveats(board),
        views=[_view(view, number) for number, view in enumerate(board.views)],
        sights=sorted({wording.sees(entry) for entry in entries}),
        cards=KNOWLEDGE,
        knowledge=sorted({one.met.threat.knowledge for view in board.views for one in view.standings}),
        entries=[_made(one) for one in board.overall.standings],
        suites=listed([*map(clean_text, terms.suites)] or ["its own"]),
        common=len(terms.attacks),
        seeds=terms.seeds,
        tuning_seeds=terms.tuning_seeds,
        candidates=[", ".join(f"{path} {value}" for path, value in one.items()) for one in terms.candidates],
        outcome=terms.outcome,
        digest=terms.digest,
        data=entries[0].data[:16],
        terms_yaml=as_yaml(
            {"settings alike": {k: v for k, v in first.items() if k not in {p.partition(".")[0] for p in varying}}}
            | {
                "settings": [
                    {k: one[k] for k in sorted({p.partition(".")[0] for p in varying})} for one in terms.settings
                ]
            }
            | {
                "attacks that every defence meets": [str(one["kind"]) for one in terms.attacks],
                "of all of them": terms.shared,
            }
        ),
        command=clean_text(command),
    )


def _view(view: View, number: int) -> dict[str, Any]:
    attacks = wording.met(view.standings)
    return {
        "slug": f"view-{number}",
        "title": view.title,
        "several": len({one.where for one in view.standings}) > 1 or number == 0,
        "rows": [_row(one) for one in view.standings],
        "table": table(view),
        "attacks": attacks,
        "heat": [
            (one.name, [_heat(one, name) for name in attacks], one.worst.accuracy.mean) for one in view.standings
        ],
    }  # fmt: skip


def _heat(standing: Standing, attack: str) -> Mapping[str, Any] | None:
    found = standing.attacks.get(attack)
    if found is None:
        return None
    worst = min(one.mean for one in standing.attacks.values())
    return {"mean": found.mean, "worst": found.mean == worst}


def _row(one: Standing) -> dict[str, Any]:
    interval = one.worst.accuracy
    return {
        "name": one.name, "tie": one.tie, "rank": sum(one.rank), "worst": interval, "clean": one.clean,
        "bar": {
            "mean": round(100 * interval.mean, 2), "clean": round(100 * one.clean.mean, 2),
            "low": round(100 * (interval.mean if interval.low is None else interval.low), 2),
            "high": round(100 * (interval.mean if interval.high is None else interval.high), 2),
        },
        "attack": one.worst.attack, "where": one.where, "attacks": one.worst.attacks,
        "card": wording.short_card(one.met.threat), "whole_card": wording.card(one.met.threat),
        "knowledge": one.met.threat.knowledge, "goal": one.met.threat.goal,
        "bytes": one.costs.uplink_bytes + one.costs.downlink_bytes,
        "megabytes": wording.mega(one.costs.uplink_bytes + one.costs.downlink_bytes),
        "flops": one.costs.flops_sparse, "gigaflops": wording.giga(one.costs.flops_sparse),
        "epsilon": wording.epsilon(one.entry), "sees": wording.sees(one.entry), "flags": wording.flags(one.entry),
        "outside": bool(one.entry.outside), "clean_data": "clean data" in one.entry.needs,
        "explores": "explores" in one.entry.needs,
    }  # fmt: skip


def _made(one: Standing) -> dict[str, Any]:
    entry = one.entry
    return {
        "name": one.name,
        "origin": wording.origin(entry),
        "parts": _parts(entry),
        "needs": wording.needed(entry),
        "chosen": [wording.chosen(entry, number) for number in range(len(entry.settings))],
        "versions": ", ".join(f"{clean_text(k)} {clean_text(v)}" for k, v in entry.versions.items()),
        "sources": [f"{clean_text(what)}: {clean_text(value)[:16]}" for what, value in entry.sources.items()],
    }


def _parts(entry: BoardEntry) -> str:
    """Pruner, aggregator and local rule of a defence, with their options."""
    told = []
    for key in ("pruner", "aggregator", "local_rule"):
        part = entry.algorithm.get(key)
        if not isinstance(part, Mapping) or part.get("kind") == "none":
            continue
        options = [
            f"{clean_text(k)} {shorten(clean_text(canonical(v)), _VALUE)}" for k, v in part.items() if k != "kind"
        ]
        kind = kind_words(str(part.get("kind", "")))
        told.append(f"{kind} ({', '.join(options)})" if options else kind)
    return " + ".join(told)


def table(view: View) -> Table:
    """A view as data: shares in per cent, with every digit."""
    columns = [
        "defence", "best rank", "worst rank", "worst case (%)", "low (%)", "high (%)", "worst attack", "setting",
        "attacks", "knowledge", "goal", "without attack (%)", "bytes", "operations", "epsilon", "server sees",
    ]  # fmt: skip
    return Table(columns, [_exact(one) for one in view.standings])


def _exact(one: Standing) -> list[Any]:
    worst, costs = one.worst.accuracy, one.costs
    ends = [None if end is None else 100 * end for end in (worst.mean, worst.low, worst.high)]
    return [
        one.name, *one.rank, *ends, one.worst.attack, one.where, one.worst.attacks, one.met.threat.knowledge,
        one.met.threat.goal, 100 * one.clean.mean, costs.uplink_bytes + costs.downlink_bytes, costs.flops_sparse,
        wording.epsilon(one.entry), wording.sees(one.entry),
    ]  # fmt: skip
