"""Party processes on this machine: started once per sweep, gone when the process that started them is gone.

They listen on sockets in a folder of their own that nobody but this user can enter, so no network is involved.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autoflip_secure.defenses.secure_aggregation.wire import UNIX, Address
from autoflip_secure.errors import InputError, SecureSumError
from autoflip_secure.runtime.processes import start

if TYPE_CHECKING:
    from autoflip_secure.defenses.secure_aggregation.party import Party

START_SECONDS: Final = 120.0  # importing torch and CrypTen takes seconds, on a busy machine many
_LONGEST_PATH: Final = 80  # of the folder; the path of a socket has at most 103 bytes on every system


@dataclass(frozen=True)
class Parties:
    """Where the parties are and how one talks to them; goes from a sweep to its workers by pipe."""

    addresses: tuple[Address, ...]
    timeout: float = 60.0  # seconds that any of them may be silent
    ours: bool = False  # started by this sweep: one that does not answer has died, and is not waited for
    certificates: Path | None = None  # folder of this machine's; None: without TLS


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that this user alone can enter, gone when the context is left."""
    where = None if len(os.fsencode(tempfile.gettempdir())) < _LONGEST_PATH // 2 else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="autoflip-", dir=where))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def local_parties(count: int, timeout: float) -> Iterator[Parties]:
    """``count`` parties as processes of this machine, stopped when the context is left.

    Raises:
        SecureSumError: one did not start.
        InputError: this system has no sockets between processes of one machine.
    """
    if UNIX is None:
        raise InputError(
            "secure_sum.parties: parties on this machine need Unix sockets, which this system does not have; start "
            "each with `autoflip-secure party` and name them as {host, port}"
        )
    started: list[tuple[BaseProcess, Connection]] = []
    with _private_folder() as folder:
        addresses = tuple(Address(str(folder / f"party-{rank}"), None) for rank in range(count))
        try:
            for rank, address in enumerate(addresses):
                here, there = Pipe()
                process = start(
                    be_party,
                    there,
                    address,
                    name=f"party-{rank} at {address}",
                    imports=[f"{__package__}.party", f"{__package__}.crypten_ready"],
                )
                there.close()
                started.append((process, here))
            end = time.monotonic() + START_SECONDS
            for rank, (process, pipe) in enumerate(started):
                _wait_for(rank, process, pipe, end)
            yield Parties(addresses, timeout, ours=True)
        finally:
            for process, _ in started:
                process.kill()  # nothing of theirs is worth saving, and one that hangs hears nothing else
            for process, pipe in started:
                process.join()
                pipe.close()
                process.close()


def _wait_for(rank: int, process: BaseProcess, pipe: Connection, end: float) -> None:
    """Until a party listens."""
    wait([pipe, process.sentinel], timeout=max(end - time.monotonic(), 0))
    with contextlib.suppress(EOFError, OSError):
        if pipe.poll():
            said = pipe.recv_bytes().decode()
            if said.startswith(LISTENS):
                return
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


LISTENS: Final = "listens at "


def be_party(pipe: Connection, address: Address, certificates: Path | None = None) -> None:
    """What a party process does, once it has said into ``pipe`` where it listens, or why not."""
    from autoflip_secure.errors import AutoflipError

    try:
        party, address = ready(address, certificates)
    except AutoflipError as error:
        pipe.send_bytes(str(error).encode())
        return
    pipe.send_bytes(f"{LISTENS}{address}".encode())
    party.serve()


def ready(address: Address, certificates: Path | None = None) -> tuple[Party, Address]:
    """A party that listens, with everything imported that it will need, and where it does.

    Args:
        address: of this machine; port 0 takes a free one.
        certificates: folder of this machine's; None: without TLS.

    Raises:
        InputError: the certificates, CrypTen or the address cannot be used.
    """
    import torch

    from autoflip_secure.defenses.secure_aggregation.crypten_import import crypten
    from autoflip_secure.defenses.secure_aggregation.party import Party, listen

    torch.set_num_threads(1)
    crypten()
    listener = listen(address)
    port = None if address.port is None else int(listener.getsockname()[1])
    try:
        return Party(listener, certificates), Address(address.host, port)
    except BaseException:
        listener.close()
        raise
