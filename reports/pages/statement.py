"""The page that somebody signs: what may be said about privacy to whom, and what may not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoflip_secure.records.account import FederationAccount
from autoflip_secure.records.budget import Budget
from autoflip_secure.reports.pages.page import page
from autoflip_secure.reports.pages.writing import write
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.privacy import ledger_rows
from autoflip_secure.reports.wording import account as account_words
from autoflip_secure.reports.wording import budget as budget_words
from autoflip_secure.reports.wording.statement import MEANING, Statement

SIGNERS = (
    ("Prepared by", "who ran it"),
    ("Checked by", "who compared it with what was run"),
    ("Accepted by", "who answers for data protection"),
)
_LEDGER = 40  # rows for one observer


def write_account(account: FederationAccount, path: Path, *, command: str = "") -> Path:
    """Write the page of a federation's log.

    Raises:
        StoreError: the folder cannot be written.
    """
    rows, left_out = ledger_rows(account.privacy, _LEDGER)
    for row in rows:
        if row["client"].isdecimal():
            row["client"] = account_words.client_name(account, int(row["client"]))
    write(path, render_statement(account.name, account_words.statement(account), rows, left_out, command=command))
    return path


def write_budget(budgets: Sequence[Budget], folders: Sequence[str], path: Path, *, command: str = "") -> Path:
    """Write the page of a budget; ``folders``: what was counted, as the command names it.

    Raises:
        StoreError: the folder cannot be written.
    """
    name = ", ".join(budget.data for budget in budgets)
    write(path, render_statement(name, budget_words.statement(budgets, folders), command=command))
    return path


def render_statement(
    name: str, said: Statement, rows: Sequence[dict[str, str]] = (), left_out: int = 0, *, command: str = ""
) -> str:
    """The page as text; ``rows``: the ledger, of which ``left_out`` are not shown."""
    return page(
        "statement.html.j2",
        name=labels.shorten(labels.clean_text(name), 120),
        statement=said,
        rows=list(rows),
        left_out=left_out,
        signers=SIGNERS,
        meaning=MEANING,
        command=labels.clean_text(command),
    )
