"""``account``: what is proven about a federation that ran somewhere else, from its log."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoflip_secure.commands.session import Json, exit_codes, prepare, tell, this_command
from autoflip_secure.commands.signed_files import Clients, Page, check_targets, refuse_inputs, write_clients
from autoflip_secure.errors import InputError

if TYPE_CHECKING:
    from autoflip_secure.records.account import FederationAccount


class Against(StrEnum):
    """An observer, as an option names it."""

    server = "server"
    public = "public"
    another_client = "another-client"


def account(
    log: Annotated[
        Path, typer.Argument(metavar="FILE", help="The federation's log: YAML or JSON, its rounds there or in a CSV.")
    ],
    out: Page = None,
    clients: Clients = None,
    at_most: Annotated[
        float | None,
        typer.Option("--at-most", metavar="EPSILON", help="Exit with 1 unless epsilon is proven to be at most this."),
    ] = None,
    against: Annotated[
        list[Against] | None,
        typer.Option(
            "--against", help="Observer that --at-most is about; repeatable.", show_default="all but a trusted server"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count the privacy of a federation that ran somewhere else, from its log: no training, no data.

    For the server, the public and another client: epsilon of all rounds together, at the log's delta, for stated
    neighbours, rounded up; or that nothing is proven, and why. What the log does not say is not taken for granted.
    docs/account.md has the format, and the proof of every case.

    Exit code 0: a bound is proven against somebody, or nothing was released; and --at-most is met. 1: --at-most is not
    met. 2: nothing is proven against anybody, or invalid input.
    """
    with exit_codes(None, as_json):
        prepare()
        if at_most is not None and not 0 < at_most < float("inf"):
            raise InputError(f"--at-most = {at_most:g}: should be a number above 0")
        if against and at_most is None:
            raise InputError(f"--against {against[0].value}: says whom --at-most is about; give that too")
        check_targets(out, clients)
        from autoflip_secure.reports.wording.account import sentences
        from autoflip_secure.scenarios.logs.account import account as counted
        from autoflip_secure.scenarios.logs.account import client_lines
        from autoflip_secure.scenarios.logs.reading import read_log

        read = read_log(log)
        refuse_inputs([out, clients], [log, *(log.parent / name for name in read.files)])
        found = counted(read)
        lines, written = sentences(found), {}
        if clients is not None:
            written["clients"] = str(write_clients(clients, client_lines(found)))
            lines.append(f"Clients: {clients}")
        if out is not None:
            from autoflip_secure.reports.pages.statement import write_account

            written["page"] = str(write_account(found, out, command=this_command()))
            lines.append(f"Page: {out.resolve().as_uri()}")
        failures = _failures(found, at_most, against)
        lines += failures
        tell({**found.model_dump(mode="json"), **written, "failed": failures}, as_json, lines)
        from autoflip_secure.records.proven import silent

        known = found.privacy.guarantees
        proven = any(silent(one) or found.privacy.epsilon(one.observer) is not None for one in known)
        if failures or not proven:
            raise typer.Exit(1 if failures and at_most is not None else 2)


def _failures(found: FederationAccount, at_most: float | None, against: list[Against] | None) -> list[str]:
    """One sentence for each observer against whom ``at_most`` is not proven."""
    if at_most is None:
        return []
    from autoflip_secure.records.proven import bound, silent, who
    from autoflip_secure.records.rounding import upper_text

    asked = {one.value.replace("-", " ") for one in against or Against}
    if not against and found.noise == "central":
        asked.discard("server")
    failures = []
    for guarantee in found.privacy.guarantees:
        one = bound(guarantee)
        if guarantee.observer in asked and not silent(guarantee) and (one is None or one.epsilon > at_most):
            told = "nothing is proven" if one is None else f"epsilon is at most {upper_text(one.epsilon)}"
            failures.append(f"FAILED: against {who(guarantee.observer)} {told}, and --at-most is {at_most:g}")
    return failures
