"""Threat cards beside the numbers of a table: which attack each row names, and its card."""

from __future__ import annotations

from autoflip_secure.reports.study.threat_cards import Card, Cards
from autoflip_secure.reports.tables.text import Table

COLUMN = "threat card"
_NAMING = ("attack", "condition", "worst attack")  # columns that name an attack, alone or after a setting


def named(cards: Cards, table: Table) -> list[Card]:
    """Cards of the attacks that ``table`` names, each once."""
    return list(dict.fromkeys(card for label in _labels(cards, table) if label for card in cards.of[label]))


def beside(cards: Cards, table: Table) -> Table:
    """``table`` with the card of the attack that each of its rows names, in a last column; itself if none does."""
    found = _labels(cards, table)
    if not any(found) or COLUMN in table.columns:
        return table
    rows = [[*row, cards.terms(label)] for row, label in zip(table.rows, found, strict=True)]
    return Table([*table.columns, COLUMN], rows)


def _labels(cards: Cards, table: Table) -> list[str]:
    """For every row the attack that it names; nothing where it names none."""
    column = next((table.columns.index(name) for name in _NAMING if name in table.columns), None)
    if column is None:
        return [""] * len(table.rows)
    known: dict[str, str] = {}
    for row in table.rows:
        text = str(row[column])
        if text not in known:
            known[text] = cards.named_by(text)
    return [known[str(row[column])] for row in table.rows]
