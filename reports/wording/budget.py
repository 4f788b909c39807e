"""The privacy budget of a sweep in words and as a table."""

from __future__ import annotations

from autoflip_secure.records.budget import Budget, BudgetLine
from autoflip_secure.records.proven import who
from autoflip_secure.records.rounding import upper_delta, upper_text
from autoflip_secure.reports.study.labels import clean_text
from autoflip_secure.terminal.counting import count_of

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
