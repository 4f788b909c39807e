"""Party processes on this machine: started once per sweep, gone when the process that started them is gone.

Their token is drawn anew and goes to them over a pipe.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Final

from autoflip_secure.errors import InputError, SecureSumError
from autoflip_secure.processes import start

if TYPE_CHECKING:
    from defenses.party import Party

START_SECONDS: Final = 120.0  # importing torch and CrypTen takes seconds, on a busy machine many
TOKEN_VARIABLE: Final = "AUTOFLIP_PARTY_TOKEN"
_SHORTEST_TOKEN: Final = 16


@dataclass(frozen=True)
class Parties:
    """Where the parties are and what proves that one may talk to them; goes from a sweep to its workers by pipe."""

    addresses: tuple[tuple[str, int], ...]
    token: bytes = field(repr=False)
    timeout: float = 60.0  # seconds that any of them may be silent
    ours: bool = False  # started by this sweep: one that does not answer has died, and is not waited for


def shared_token() -> bytes:
    """The token of parties on other machines, from the environment: it must not stand in a scenario or a command.

    Raises:
        InputError: it is not set, or too short to be a secret.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if len(token) < _SHORTEST_TOKEN:
        raise InputError(
            f"{TOKEN_VARIABLE} has {len(token)} characters, at least {_SHORTEST_TOKEN} are needed; set the same secret "
            f"in the environment of every party and of the sweep; `openssl rand -hex 32` makes one"
        )
    return token.encode()


@contextlib.contextmanager
def local_parties(count: int, timeout: float, host: str = "127.0.0.1") -> Iterator[Parties]:
    """``count`` parties as processes of this machine, stopped when the context is left.

    Raises:
        SecureSumError: one did not start.
    """
    token = secrets.token_bytes(32)
    crew: list[tuple[BaseProcess, Connection]] = []
    try:
        for rank in range(count):
            here, there = Pipe()
            process = start(_main, there, host, name=f"party-{rank}", imports=["defenses.party"])
            there.close()
            here.send_bytes(token)
            crew.append((process, here))
        end = time.monotonic() + START_SECONDS
        ports = [_port(rank, process, pipe, end) for rank, (process, pipe) in enumerate(crew)]
        for rank, ((process, _), port) in enumerate(zip(crew, ports, strict=True)):
            process.name = f"party-{rank} at {host}:{port}"
        yield Parties(tuple((host, port) for port in ports), token, timeout, ours=True)
    finally:
        for process, _ in crew:
            process.kill()  # nothing of theirs is worth saving, and one that hangs hears nothing else
        for process, pipe in crew:
            process.join()
            pipe.close()
            process.close()


def _port(rank: int, process: BaseProcess, pipe: Connection, end: float) -> int:
    """The port on which a party listens, once it does."""
    wait([pipe, process.sentinel], timeout=max(end - time.monotonic(), 0))
    with contextlib.suppress(EOFError, OSError):
        if pipe.poll():
            said = pipe.recv_bytes().decode()
            if said.isdigit():
                return int(said)
            raise SecureSumError(f"party {rank} did not start: {said}")
    process.join(0.5)
    if process.exitcode is not None:
        raise SecureSumError(
            f"party {rank} ended while it started (exit code {process.exitcode}; -9: killed, or out of memory); run "
            "the same command again, with fewer workers or parties where memory is short"
        )
    raise SecureSumError(
        f"party {rank} did not start within {START_SECONDS:g} s; the machine is too busy, run the same command again "
        "later"
    )


def _main(pipe: Connection, host: str) -> None:
    """What a party process does."""
    from autoflip_secure.errors import AutoflipError

    try:
        token = pipe.recv_bytes()
        party, port = ready(host, 0, token)
    except AutoflipError as error:
        pipe.send_bytes(str(error).encode())
        return
    pipe.send_bytes(str(port).encode())
    party.serve()


def ready(host: str, port: int, token: bytes) -> tuple[Party, int]:
    """A party that listens, with everything imported that it will need, and its port."""
    import torch

    from defenses.crypten_import import crypten
    from defenses.party import Party, listen

    torch.set_num_threads(1)
    crypten()
    listener = listen(host, port)
    return Party(listener, token), int(listener.getsockname()[1])
