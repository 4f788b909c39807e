"""``party``: hold one share of every secret row."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from autoflip_secure.commands.session import exit_codes, prepare
from autoflip_secure.interrupts import Interrupted


def party(
    host: Annotated[str, typer.Option("--host", help="Address of this machine to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one and says which.")] = 0,
) -> None:
    """Hold one share of every secret row, for sweeps with `secure_sum: {parties: [{host, port}, …]}`.

    Start one on each machine, all with the same secret in AUTOFLIP_PARTY_TOKEN, which the sweep needs too. Connections
    are authenticated, not encrypted: who reads the links of all parties reads the rows, so use a private network.
    """
    with exit_codes(None):
        prepare()
        from scenarios.secure_sums import serve_party

        try:
            serve_party(host, port, lambda text: print(text, flush=True))
        except KeyboardInterrupt as error:
            print("\nparty: stopped", file=sys.stderr)
            raise typer.Exit(128 + error.number if isinstance(error, Interrupted) else 130) from None
