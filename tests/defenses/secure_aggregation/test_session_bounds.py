"""What a party keeps for those who have proven who they are is bounded too, and who can reach it is said."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from callers import Start, is_hung_up, soon
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.defenses.secure_aggregation import local_parties as local_parties_module
from autoflip_secure.defenses.secure_aggregation import party, party_session
from autoflip_secure.defenses.secure_aggregation.greeting import Calls, Joins, greet
from autoflip_secure.defenses.secure_aggregation.party_session import PartySession
from autoflip_secure.defenses.secure_aggregation.reveal import Links
from autoflip_secure.defenses.secure_aggregation.share_store import ShareStore
from autoflip_secure.defenses.secure_aggregation.wire import Address, Channel, dial
from autoflip_secure.errors import InputError, SecureSumError
from autoflip_secure.scenarios.running.parties import serve_party

# ------------------------------------------------------------------------------------------------------- after a proof


def sockets() -> set[str]:
    """Of this process, by name: those that an earlier test left behind may go at any moment and are no one's leak."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if name.startswith("socket:")}


def test_a_link_to_a_session_that_never_begins_is_let_go(listening: Start) -> None:
    one, where = listening()
    before = sockets()
    channels = [dial(where, "the party", 5) for _ in range(3)]
    for number, channel in enumerate(channels):
        greet(channel, Joins(session=f"s{number}", rank=0, patience=0.3))
    assert soon(lambda: len(one._arrived) == 3)
    assert all(is_hung_up(channel.socket, 5) for channel in channels)
    assert soon(lambda: not one._arrived)
    for channel in channels:
        channel.close()
    assert soon(lambda: sockets() <= before)


def test_links_beyond_bounds_and_twins_are_let_go(monkeypatch: pytest.MonkeyPatch, listening: Start) -> None:
    monkeypatch.setattr(party, "_MOST_ARRIVED", 2)
    one, where = listening()
    with ExitStack() as stack:
        channels = []
        for session in ("a", "a", "b", "c"):
            channels.append(dial(where, "the party", 5))
            stack.callback(channels[-1].close)
            greet(channels[-1], Joins(session=session, rank=0, patience=60.0))
            assert soon(lambda s=session: (s, 0) in one._arrived)
            time.sleep(0.05)
        assert is_hung_up(channels[0].socket, 5)
        assert is_hung_up(channels[1].socket, 5)
        assert sorted(one._arrived) == [("b", 0), ("c", 0)]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_server_that_is_gone_is_not_waited_for(listening: Start, tmp_path: Path, rank: int) -> None:
    """It said that its session may take a day to begin; the other party never comes."""
    one, where = listening()
    before = sockets()
    parties = [where, where]
    parties[1 - rank] = Address(str(tmp_path / "nobody"), None)
    channel = dial(where, "the party", 5)
    greet(channel, Calls(session="s", rank=rank, timeout=86_400.0, parties=parties))
    assert soon(lambda: len(one._sessions) == 1)
    time.sleep(0.1)
    assert len(one._sessions) == 1, "as long as the server is there it waits"
    channel.close()
    assert soon(lambda: not one._sessions)
    assert soon(lambda: sockets() <= before)


def test_sessions_have_a_bound_and_are_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, listening: Start, tmp_path: Path
) -> None:
    monkeypatch.setattr(party, "MOST_SESSIONS", 1)
    one, where = listening()
    parties = [where, Address(str(tmp_path / "nobody"), None)]
    with ExitStack() as stack:
        channels = [dial(where, "the party", 5) for _ in range(2)]
        for number, channel in enumerate(channels):
            stack.callback(channel.close)
            greet(channel, Calls(session=f"s{number}", rank=0, timeout=60.0, parties=parties))
            assert soon(lambda: len(one._sessions) == 1)
        header, _ = channels[1].receive()
        assert header["error"] == "already serves 1 sessions; wait for other sweeps to end, or take fewer --workers"


def test_memory_is_counted_over_all_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party_session.os, "sysconf", lambda name: {"SC_PHYS_PAGES": 100}.get(name, 4096))
    ours, theirs = socket.socketpair()
    channel, held = Channel(ours, "the server", 1), [0]
    session = PartySession(channel, Links(0, {}), 1.0, lambda: held[0] + session.bytes)
    session.batches["b"] = ShareStore([1, 2], 1000)  # 16,000 of 409,600 bytes
    session._room(390_000)
    held[0] = 20_000
    with pytest.raises(SecureSumError, match="refuses to hold 426,000 bytes, more than the 409,600 of its machine"):
        session._room(390_000)
    channel.close()
    theirs.close()


def test_square_pairs_count_as_memory() -> None:
    batch = ShareStore([1, 2], 10)
    batch.width, batch.starts = 10, torch.zeros(1, dtype=torch.int64)
    words = batch.pair_space(1, 2 * 11 * 8)
    assert words is not None
    batch.take_pair(1, words)
    assert batch.bytes == 8 * (2 * 10 + 2 * 11)


# -------------------------------------------------------------------------------------------- how it is told, and where


def nobody() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return Address(*free.getsockname())


SWEEP = """
name: dead
clients: 3
cohort: 3
rounds: 1
training: {epochs: 1}
exploration: {epochs: 1, method: linear}
data: {kind: digits, train_samples: 60, test_samples: 20}
model: {kind: mlp, hidden: [4]}
algorithm: guidance_only
seeds: [10]
"""


def test_a_dead_party_has_one_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that it has in the middle of a block, for that is what it may be between two."""
    monkeypatch.chdir(tmp_path)
    where = [{"host": address.host, "port": address.port} for address in (nobody(), nobody())]
    secure = f"secure_sum: {{parties: {where}, allow_plaintext: true, timeout: 0.3}}\n".replace("'", "")
    Path("s.yaml").write_text(SWEEP + secure)
    done = CliRunner().invoke(app, ["sweep", "s.yaml", "--out", "out", "--no-report", "--workers", "1"])
    assert done.exit_code == 3, done.output
    assert f"party 0 (127.0.0.1:{where[0]['port']}) cannot be reached within 0.3 s" in done.stderr
    assert done.stderr.count("run the same command again") == 1


def begin(host: str, options: dict[str, Any], tell: Callable[[str], None]) -> None:
    serve_party(host, 0, options.get("certificates"), options.get("allow_plaintext", False), tell)


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        ("127.0.0.1", {}, "do not leave this machine; any user of it may open sessions"),
        ("localhost", {}, "do not leave this machine"),
        ("::1", {}, "do not leave this machine"),
        ("127.0.0.1", {"allow_plaintext": True}, "anybody who reads them all reads every row"),
        ("10.0.0.5", {"allow_plaintext": True}, "anybody who reads them all reads every row"),
        ("127.0.0.1", {"certificates": Path("c")}, "for holders of certificates of the same authority"),
    ],
)
def test_what_a_party_says_of_its_links(
    monkeypatch: pytest.MonkeyPatch, host: str, options: dict[str, Any], said: str
) -> None:
    class Deaf:
        def serve(self) -> None: ...

    monkeypatch.setattr(
        local_parties_module, "ready", lambda address, certificates: (Deaf(), Address(address.host, 7000))
    )
    told: list[str] = []
    serve_party(
        **{"host": host, "port": 0, "certificates": None, "allow_plaintext": False, "tell": told.append, **options}
    )
    assert told[0].startswith(f"party: listening on {host}:7000")
    assert said in "\n".join(told)


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        (
            "0.0.0.0",
            {},
            r"--host 0\.0\.0\.0 can be reached from other machines; give --certificates, .*allow-plaintext",
        ),
        ("::", {}, "can be reached from other machines"),
        ("party.example", {}, "can be reached from other machines"),
        ("127.0.0.1", {"certificates": Path("c"), "allow_plaintext": True}, "exclude each other; give one"),
    ],
)
def test_links_to_other_machines_are_not_open_by_accident(host: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        serve_party(
            **{"host": host, "port": 0, "certificates": None, "allow_plaintext": False, "tell": print, **options}
        )
