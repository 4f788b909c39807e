"""``party``: hold one share of every secret row; ``certificates``: what parties on several machines need for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autoflip_secure.commands.session import exit_codes, prepare
from autoflip_secure.runtime.interrupts import Interrupted


def party(
    host: Annotated[str, typer.Option("--host", help="Address of this machine to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 picks a free one and prints it.")] = 0,
    certificates: Annotated[
        Path | None, typer.Option("--certificates", help="Folder that `certificates` made for this machine.")
    ] = None,
    allow_plaintext: Annotated[
        bool,
        typer.Option("--allow-plaintext", help="No certificates: anybody on the network can read and send messages."),
    ] = False,
) -> None:
    """Hold one share of every secret row, for sweeps with `secure_sum: {parties: [{host, port}, …]}`.

    Start one on each machine. Links to the sweep and to the other parties are mutual TLS: anybody without a certificate
    from the same authority is refused. On a loopback address (127.0.0.1, ::1) they may be in plaintext.
    """
    with exit_codes(None):
        prepare()
        from autoflip_secure.scenarios.running.parties import serve_party

        try:
            serve_party(host, port, certificates, allow_plaintext, lambda text: print(text, flush=True))
        except KeyboardInterrupt as error:
            print("\nparty: stopped", file=sys.stderr)
            raise typer.Exit(128 + error.number if isinstance(error, Interrupted) else 130) from None


def certificates(
    machines: Annotated[
        list[str],
        typer.Argument(
            metavar="HOST…", help="Host of each party, as scenarios name it; commas join several names of one host."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to create.")],
    days: Annotated[int, typer.Option("--days", min=1, max=825, help="How long they are valid.")] = 365,
) -> None:
    """Create certificates for the machines of parties and for the sweep: one folder to copy to each.

    They share an authority that is created with them and then discarded, so further machines need a new set. Keys are
    not encrypted: copy them over a channel that you trust.
    """
    with exit_codes(None):
        prepare()
        from autoflip_secure.scenarios.running.parties import write_certificates

        print("\n".join(write_certificates(out, machines, days)))
