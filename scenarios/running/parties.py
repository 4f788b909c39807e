"""Secure sums in a scenario: which parties a sweep needs, and who talks to them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoflip_secure.errors import InputError
from autoflip_secure.secure_rows.secure_sum import Connect, PartyAddress, SecureSum, SecureSumConfig

if TYPE_CHECKING:
    from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
    from autoflip_secure.scenarios.config.plan import Block

Where = tuple[int | tuple[PartyAddress, ...], str | None]  # parties, and the folder of certificates
PartyPool = Mapping[Where, "Parties"]


def _wanted(blocks: Iterable[Block]) -> list[SecureSumConfig]:
    """One configuration for each set of parties."""
    configs = [spec.settings.secure_sum for block in blocks for spec in block.cells]
    return list({_where(config): config for config in configs if config is not None}.values())


def _where(config: SecureSumConfig) -> Where:
    return config.parties, config.certificates


def _folder(certificates: str) -> Path:
    return Path(certificates).expanduser().absolute()


def check_parties(blocks: Iterable[Block]) -> None:
    """What the parties of ``blocks`` need is here: CrypTen for those of this machine, certificates for others.

    Raises:
        InputError: it is not; says how to get it.
    """
    wanted = _wanted(blocks)
    if any(isinstance(config.parties, int) for config in wanted):
        from autoflip_secure.defenses.secure_aggregation.crypten_import import require

        require()
    for config in wanted:
        if config.certificates is not None:
            from autoflip_secure.defenses.secure_aggregation.tls import context

            context(_folder(config.certificates), "calls")


def exposed(blocks: Iterable[Block]) -> str | None:
    """What the user has to know of links in plaintext; None: there are none."""
    bare = [config.parties for config in _wanted(blocks) if config.links == "plaintext"]
    found = [f"{party.host}:{party.port}" for where in bare if not isinstance(where, int) for party in where]
    return f"secure sum: links to {', '.join(dict.fromkeys(found))} {_OPEN}" if found else None


_OPEN = (
    "are in plaintext, as allow_plaintext asks: anybody who reads them all reads every row, and anybody who reaches "
    "a port can impersonate a server or a party"
)


_OPEN_HERE = "are in plaintext and do not leave this machine; any user of it may open sessions"


def _here(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def party_pool(blocks: Iterable[Block]) -> Iterator[PartyPool]:
    """The parties that ``blocks`` need: processes of this machine, started once, or the addresses of others.

    Raises:
        SecureSumError: a party did not start.
    """
    with contextlib.ExitStack() as stack:
        pool: dict[Where, Parties] = {}
        for config in _wanted(blocks):
            from autoflip_secure.defenses.secure_aggregation.local_parties import Parties, local_parties
            from autoflip_secure.defenses.secure_aggregation.wire import Address

            if isinstance(config.parties, int):
                pool[_where(config)] = stack.enter_context(local_parties(config.parties, config.timeout))
            else:
                addresses = tuple(Address(party.host, party.port) for party in config.parties)
                folder = None if config.certificates is None else _folder(config.certificates)
                pool[_where(config)] = Parties(addresses, config.timeout, certificates=folder)
        yield pool


def serve_party(
    host: str, port: int, certificates: Path | None, allow_plaintext: bool, tell: Callable[[str], None]
) -> None:
    """Be a party for other sweeps until interrupted.

    Raises:
        InputError: other machines can reach the address, and there are neither certificates nor is plaintext allowed;
            CrypTen is not installed, or the address cannot be listened on.
    """
    from autoflip_secure.defenses.secure_aggregation.local_parties import ready
    from autoflip_secure.defenses.secure_aggregation.wire import Address

    if certificates is not None and allow_plaintext:
        raise InputError("party: --certificates and --allow-plaintext exclude each other; give one of them")
    if certificates is None and not allow_plaintext and not _here(host):
        raise InputError(
            f"party: --host {host} can be reached from other machines; give --certificates, the folder that "
            "`autoflip-secure certificates` made for this one, or --allow-plaintext where nobody else is on the network"
        )
    party, address = ready(Address(host, port), certificates)
    if certificates is None:
        tell(f"party: listening on {address}; Ctrl-C stops it")
        tell(f"party: note: links to it {_OPEN if allow_plaintext else _OPEN_HERE}")
    else:
        tell(f"party: listening on {address} for holders of certificates of the same authority; Ctrl-C stops it")
    party.serve()


def write_certificates(out: Path, machines: list[str], days: int) -> list[str]:
    """Make certificates; returns what to do with them, a line for each machine.

    Args:
        out: a folder that is not there yet.
        machines: of the parties; several names of one are joined by commas.
        days: that they are valid.

    Raises:
        InputError: a name is none, or the folder cannot be written to.
    """
    from autoflip_secure.defenses.secure_aggregation.crypten_import import require

    require("cryptography")
    from autoflip_secure.defenses.secure_aggregation.certificates import make_certificates

    folders = make_certificates(out, [machine.split(",") for machine in machines], days)
    where = [f"copy {folder} to {name}, for its --certificates" for name, folder in folders.items() if name != "server"]
    return [*where, f"keep {folders['server']} here, for secure_sum.certificates"]


@contextlib.contextmanager
def connecting(pool: PartyPool) -> Iterator[Connect]:
    """Opens one session with each set of parties that is asked for, and closes them all."""
    with contextlib.ExitStack() as stack:
        sessions: dict[Where, SecureSum] = {}

        def connect(config: SecureSumConfig) -> SecureSum:
            if _where(config) not in sessions:
                from autoflip_secure.defenses.secure_aggregation.session import Session

                where = replace(pool[_where(config)], timeout=config.timeout)
                sessions[_where(config)] = stack.enter_context(Session(where))
            return sessions[_where(config)]

        yield connect
