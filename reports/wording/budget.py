"""The privacy budget of a sweep in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from autoflip_secure.records.budget import Budget, BudgetLine
from autoflip_secure.records.proven import Bound, who
from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.reports.wording.statement import ALWAYS_OPEN, Said, Statement, may_say, open_for
from autoflip_secure.terminal.counting import count_of, listed

WHY = (
    "Every epsilon elsewhere in this report is that of one cell. Anybody who sees the results of the whole sweep, or "
    "chooses a setting by looking at them, has seen all of its cells: the sum below is what that costs. It counts "
    "every cell that was begun, and every attempt under different conditions."
)

_NAMED = 5  # clients in one sentence


def sentences(budget: Budget) -> list[str]:
    """The budget of one data set, a sentence a line."""
    lines = [f"{clean_text(budget.data)}: {count_of(budget.cells, 'private cell')} begun, δ = {delta_text(budget)}"]
    lines += [f"  {_against(line)}: {amount(line, budget)}" for line in budget.lines]
    return lines + [f"  {note}" for note in remarks(budget)]


def amount(line: BudgetLine, budget: Budget) -> str:
    """What is proven for one observer, or that nothing is."""
    if line.reason:
        return f"no guarantee: {clean_text(line.reason)}"
    if line.epsilon is None:
        return "no finite bound"
    said = f"ε ≤ {upper_text(line.epsilon)} at δ = {delta_text(budget)} (neighbours: {line.relation})"
    most = sorted(line.clients, key=lambda entry: -entry[1])[:_NAMED]
    if len(line.clients) > 1:
        said += "; most: " + ", ".join(f"client {client} {upper_text(epsilon)}" for client, epsilon in most)
    return said


def delta_text(budget: Budget) -> str:
    """Delta, rounded up."""
    return upper_delta(budget.delta)


def rows(budget: Budget) -> list[dict[str, str]]:
    """The budget as a table."""
    return [
        {
            "data": clean_text(budget.data),
            "seen by": who(line.observer),
            "neighbours": line.relation,
            "cells": str(line.cells),
            "attempts": str(line.attempts),
            "everything together": amount(line, budget),
        }
        for line in budget.lines
    ]


def remarks(budget: Budget) -> list[str]:
    """What a reader has to know besides the numbers."""
    found = []
    if budget.bare:
        found.append(
            f"{count_of(budget.bare, 'cell')} ran on these data without privacy: what they released has no bound, so "
            "for somebody who saw them too there is no guarantee at all"
        )
    if budget.divisions > 1:
        found.append(
            f"the data were divided among clients in {budget.divisions} ways (seeds, partitions), so no client is the "
            "same in all cells: the sum is for a client who pays the most in each of them"
        )
    if len({(line.unit, line.relation) for line in budget.lines}) > 1:
        found.append("lines about different neighbours are different promises: they do not add up to one number")
    return [*found, *map(clean_text, budget.notes)]


def _against(line: BudgetLine) -> str:
    return f"against {who(line.observer)}, {count_of(line.cells, 'cell')}"


def statement(budgets: Sequence[Budget], folders: Sequence[str]) -> Statement:
    """The page that is signed: what may be said of everything that these runs released."""
    several = len(budgets) > 1
    said = [_said(line, one, several) for one in budgets for line in one.lines]
    proven = [entry for entry in said if entry.epsilon]
    names = listed([clean_text(one.data) for one in budgets])
    bare = sum(one.bare for one in budgets)
    title = f"{names}: what may be said about the privacy of all these runs together"
    if not proven:
        title = f"{names}: nothing is proven about the privacy of these runs together"
    lacking = dict.fromkeys(entry.observer for entry in said if not entry.epsilon)
    lead = [f"There is no guarantee against {listed([*lacking])}."] if lacking else []
    if bare:
        lead.insert(
            0,
            f"{count_of(bare, 'cell')} ran on these data without privacy: for whoever saw what they released there is "
            "no guarantee at all.",
        )
    lead.append(
        "Bounds are proven for everything that the other cells released, as the table says."
        if proven
        else "No bound is proven."
    )
    units = dict.fromkeys(
        (line.unit, line.relation) for one in budgets for line in one.lines if line.epsilon is not None
    )
    open_ends = [text for unit in ("client", "sample") for text in open_for(unit, [r for u, r in units if u == unit])
                 if any(u == unit for u, _ in units)]  # fmt: skip
    return Statement(
        title=title,
        lead=" ".join(lead),
        said=said,
        rests=list(_RESTS),
        not_covered=[*open_ends, *ALWAYS_OPEN],
        basis=[
            ("Results folders", ", ".join(map(clean_text, folders))),
            *(
                (
                    f"Counted of {clean_text(one.data)}",
                    f"{count_of(one.cells, 'private cell')}, {count_of(one.bare, 'cell')} without privacy",
                )
                for one in budgets
            ),
        ],
        remarks=[note for one in budgets for note in remarks(one)],
    )


_RESTS = (
    ("Every results folder of runs on these data is counted here, and no ledger was deleted", "who ran the sweeps"),
    ("The program, or a deployment that does exactly what it simulates, is what touched the data: clip norms, noise "
     "and draws are those of the ledgers", "who ran the sweeps"),
    ("Seeds of runs with privacy.noise_source: seed are known to no observer and cannot be searched for; records and "
     "ledgers are as private as the data", "who ran the sweeps"),
    ("Where a ledger counts secret cohorts or batches, the observer named does not learn them", "who ran the sweeps"),
    ("Clients that are malicious in some cell are not among those who are promised anything", "who ran the sweeps"),
)  # fmt: skip


def _said(line: BudgetLine, budget: Budget, several: bool) -> Said:
    subject = clean_text(budget.data) if several else ""
    if line.epsilon is None:
        why = clean_text(line.reason) if line.reason else "no bound is finite"
        return Said(
            who(line.observer), f"Nothing may be promised: no guarantee ({why}).", "nobody", relation=line.relation,
            subject=subject,
        )  # fmt: skip
    found = Bound(line.observer, line.relation, line.epsilon, budget.delta)
    return Said(
        observer=who(line.observer),
        words=may_say(found, line.unit),
        to="the clients; anybody who is given a result" if line.observer == "public" else "the clients",
        epsilon=f"≤ {upper_text(line.epsilon)}",
        delta=delta_text(budget),
        relation=line.relation,
        condition=f"Nothing is seen but {count_of(line.cells, 'cell')} ({count_of(line.attempts, 'attempt')}).",
        subject=subject,
    )
