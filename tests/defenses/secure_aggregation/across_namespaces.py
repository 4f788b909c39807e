"""Run as root of a fresh network: three machines on one switch, two parties and a sweep, none with a port in common.

Each party has a network of its own, joined to this one by a cable (veth) and a bridge, as machines by a switch.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch

from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.wire import Address
from autoflip_secure.secure_rows.secret_rows import LocalRows

PORT = 7000
CERTIFICATES = Path(sys.argv[1])


def ip(*words: str, inside: int | None = None) -> None:
    """The command ``ip``, here or in the network of a process."""
    there = [] if inside is None else ["nsenter", "-t", str(inside), "-n"]
    subprocess.run([*there, "ip", *words], check=True)


def plugged(number: int) -> "subprocess.Popen[str]":
    """A party on a machine of its own, 10.77.0.(2 + number)."""
    address = f"10.77.0.{2 + number}"
    own = CERTIFICATES / f"party-{address}"
    arguments = f"party --host {address} --port {PORT} --certificates {own}"
    command = f"read go; exec {sys.executable} -m autoflip_secure {arguments}"
    party = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", f"echo there; {command}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert party.stdin is not None
    assert party.stdout is not None
    assert party.stdout.readline() == "there\n"
    ip("link", "add", f"here{number}", "type", "veth", "peer", "name", "wire", "netns", str(party.pid))
    ip("link", "set", f"here{number}", "master", "switch", "up")
    ip("addr", "add", f"{address}/24", "dev", "wire", inside=party.pid)
    ip("link", "set", "wire", "up", inside=party.pid)
    party.stdin.write("go\n")
    party.stdin.flush()
    return party


def main() -> None:
    """Sums and norms over the wires, against one process."""
    ip("link", "add", "switch", "type", "bridge")
    ip("link", "set", "switch", "up")
    ip("addr", "add", "10.77.0.1/24", "dev", "switch")
    parties = [plugged(number) for number in range(2)]
    try:
        for party in parties:
            assert party.stdout is not None
            print(party.stdout.readline(), end="")
        networks = {os.readlink(f"/proc/{pid}/ns/net") for pid in (os.getpid(), *(p.pid for p in parties))}
        addresses = tuple(Address(f"10.77.0.{2 + number}", PORT) for number in range(2))
        rows, ids = torch.arange(60_000).view(3, 20_000) - 30_000, (4, 5, 6)
        with Session(Parties(addresses, 60, certificates=CERTIFICATES / "server")) as session:
            shared, local = session.share(rows, ids), LocalRows(rows, ids)
            assert torch.equal(shared.total(), local.total())
            assert torch.equal(shared.squared_norms(), local.squared_norms())
        print(f"the same over {len(networks)} networks")
    finally:
        for party in parties:
            party.kill()
            party.communicate()


if __name__ == "__main__":
    main()
