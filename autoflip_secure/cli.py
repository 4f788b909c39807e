"""The command line. With its commands it is the only place that knows everybody.

Exit codes: 0 ok, 1 the gate or the audit says no, 2 the user's input or folder is wrong (or the gate or the audit
cannot tell), 3 something broke (the log's path is printed), 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

from typing import Annotated

import typer

from autoflip_secure.commands.account import account
from autoflip_secure.commands.audit import audit
from autoflip_secure.commands.budget import budget
from autoflip_secure.commands.catalogue import list_entries, schema
from autoflip_secure.commands.claims import claims
from autoflip_secure.commands.export import export
from autoflip_secure.commands.gate import gate
from autoflip_secure.commands.gate_init import gate_init
from autoflip_secure.commands.groups import Commands
from autoflip_secure.commands.init import init
from autoflip_secure.commands.leaderboard import leaderboard
from autoflip_secure.commands.merge import merge
from autoflip_secure.commands.party import certificates, party
from autoflip_secure.commands.report import report
from autoflip_secure.commands.sweep import demo, sweep
from autoflip_secure.commands.verify import verify
from autoflip_secure.terminal.docstrings import docstring
from autoflip_secure.version import __version__

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="How far can agreement-scored federated pruning be trusted when some clients are malicious?",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"autoflip-secure {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """What every command line may begin with."""


for _name, _command in (
    ("demo", demo), ("init", init), ("sweep", sweep), ("merge", merge), ("report", report), ("claims", claims),
    ("audit", audit),
    ("account", account), ("budget", budget), ("leaderboard", leaderboard), ("verify", verify), ("export", export),
    ("list", list_entries), ("gate", gate), ("gate init", gate_init),
    ("party", party), ("certificates", certificates), ("schema", schema),
):  # fmt: skip
    app.command(_name, help=docstring(_command))(_command)
