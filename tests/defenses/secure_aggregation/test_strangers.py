"""Who calls a party has little memory, ten seconds and one of few places until it has said what it wants."""

import contextlib
import os
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from autoflip_secure.cli import app
from autoflip_secure.defenses.secure_aggregation import local_parties as local_parties_module
from autoflip_secure.defenses.secure_aggregation import party, party_session
from autoflip_secure.defenses.secure_aggregation.certificates import make_certificates
from autoflip_secure.defenses.secure_aggregation.greeting import Calls, Joins, greet
from autoflip_secure.defenses.secure_aggregation.party import Party
from autoflip_secure.defenses.secure_aggregation.party_session import PartySession
from autoflip_secure.defenses.secure_aggregation.reveal import Links
from autoflip_secure.defenses.secure_aggregation.share_store import ShareStore
from autoflip_secure.defenses.secure_aggregation.wire import Address, Channel, WireError, dial
from autoflip_secure.errors import InputError, SecureSumError
from autoflip_secure.scenarios.running.parties import serve_party

Start = Callable[..., tuple[Party, Address]]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "certificates"
    make_certificates(folder, [["127.0.0.1"]], 1)
    return folder


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Start]:
    """Parties that serve in threads of this process."""
    with ExitStack() as stack:

        def begin(certificates: Path | None = None) -> tuple[Party, Address]:
            where = Address(str(tmp_path / "p"), None) if certificates is None else Address("127.0.0.1", 0)
            listener = party.listen(where)
            stack.callback(listener.close)
            one = Party(listener, certificates)
            threading.Thread(target=one.serve, daemon=True).start()
            return one, where if certificates is None else Address("127.0.0.1", listener.getsockname()[1])

        yield begin


def call(where: Address, stack: ExitStack) -> socket.socket:
    if where.port is not None:
        return stack.enter_context(socket.create_connection(where))
    caller = stack.enter_context(socket.socket(socket.AF_UNIX))
    caller.connect(where.host)
    return caller


def is_hung_up(caller: socket.socket, within: float) -> bool:
    caller.settimeout(within)
    with contextlib.suppress(ConnectionError):
        while caller.recv(4096):
            pass
    return True


def soon(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.01)
    return what()


# ------------------------------------------------------------------------------------------------------ before a proof


def dribbles(caller: socket.socket, data: bytes) -> float:
    """Seconds for which somebody who sends a byte every 50 ms is served."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        for byte in data:
            caller.sendall(bytes([byte]))
            time.sleep(0.05)
    return time.monotonic() - began


def test_who_dribbles_has_no_more_time_than_others(monkeypatch: pytest.MonkeyPatch, listening: Start) -> None:
    """A byte now and then would hold a thread as long as it likes, were only silence limited."""
    monkeypatch.setattr(party, "GREETING_SECONDS", 0.5)
    _, where = listening()
    with ExitStack() as stack:
        assert dribbles(call(where, stack), struct.pack(">IQ", 8000, 0) + b" " * 60) < 2


@pytest.mark.parametrize("hello", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b""], ids=["in the handshake", "silent"])
def test_nor_has_who_dribbles_in_tls(
    monkeypatch: pytest.MonkeyPatch, listening: Start, sealed: Path, hello: bytes
) -> None:
    monkeypatch.setattr(party, "GREETING_SECONDS", 0.5)
    _, where = listening(sealed / "party-127.0.0.1")
    with ExitStack() as stack:
        caller = call(where, stack)
        if hello:
            assert dribbles(caller, hello + bytes(60)) < 2
        assert is_hung_up(caller, 2)


def test_handshake_and_greeting_have_one_time_for_both(
    monkeypatch: pytest.MonkeyPatch, listening: Start, sealed: Path
) -> None:
    from autoflip_secure.defenses.secure_aggregation.tls import context

    monkeypatch.setattr(party, "GREETING_SECONDS", 0.6)
    _, where = listening(sealed / "party-127.0.0.1")
    began = time.monotonic()
    with ExitStack() as stack:
        caller = call(where, stack)
        time.sleep(0.4)  # only then a handshake, and no greeting
        channel = Channel(caller, "the party", 5)
        channel.encrypt(context(sealed / "server", "calls"), "127.0.0.1")
        stack.callback(channel.close)
        assert is_hung_up(channel.socket, 3)
    assert 0.5 < time.monotonic() - began < 0.95, "not 0.4 and 0.6 seconds more"


def test_what_is_only_announced_takes_no_memory(listening: Start) -> None:
    _, where = listening()
    with ExitStack() as stack:
        callers = [call(where, stack) for _ in range(20)]
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for number, caller in enumerate(callers):
            caller.sendall(struct.pack(">IQ", 1 << 24 if number % 2 else 8192, 1 << 40))
        assert all(is_hung_up(caller, 5) for caller in callers[1::2])
        assert tracemalloc.get_traced_memory()[1] < len(callers) * 2**14


def test_a_refused_caller_is_read_in_crumbs(sealed: Path) -> None:
    """While it may still read why it was refused."""
    from autoflip_secure.defenses.secure_aggregation.tls import context

    ours, theirs = socket.socketpair()
    channel = Channel(ours, "a caller", 5)
    theirs.sendall(b"no TLS at all" * 1000)
    theirs.shutdown(socket.SHUT_WR)
    tls = context(sealed / "party-127.0.0.1", "is called")
    tracemalloc.start()
    with pytest.raises(WireError):
        channel.encrypt(tls, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    theirs.close()
    assert peak < 2**17


def test_a_newcomer_takes_the_place_of_who_takes_longest(monkeypatch: pytest.MonkeyPatch, listening: Start) -> None:
    monkeypatch.setattr(party, "MOST_CALLERS", 2)
    monkeypatch.setattr(party, "A_MOMENT", 0.2)
    one, where = listening()
    with ExitStack() as stack:
        callers = [call(where, stack)]
        for number in range(1, 4):
            assert soon(lambda n=number: len(one._callers) == min(n, 2))
            callers.append(call(where, stack))
        assert is_hung_up(callers[0], 5)
        assert is_hung_up(callers[1], 5)
        for caller in callers[2:]:
            caller.settimeout(0.2)
            with pytest.raises(TimeoutError):
                caller.recv(1)
        assert len(one._callers) == 2


def test_a_flood_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch, listening: Start) -> None:
    monkeypatch.setattr(party, "MOST_CALLERS", 4)
    monkeypatch.setattr(party, "A_MOMENT", 0.1)
    one, where = listening()
    with ExitStack() as stack:
        for _ in range(12):
            call(where, stack)
        channel = dial(where, "the party", 5)
        stack.callback(channel.close)
        assert greet(channel, Joins(session="s", rank=0, patience=5.0)).party == one.identity
        assert len(one._callers) <= 4


def test_honest_callers_wait_for_one_another(monkeypatch: pytest.MonkeyPatch, listening: Start) -> None:
    """Many workers that begin at once are no flood: nobody is hung up on."""
    monkeypatch.setattr(party, "MOST_CALLERS", 2)
    one, where = listening()
    with ExitStack() as stack:
        callers = [Channel(call(where, stack), "the party", 5) for _ in range(12)]
        for number, channel in enumerate(callers):
            assert greet(channel, Joins(session=f"s{number}", rank=0, patience=60.0)).party == one.identity


def test_no_room_for_another_thread_ends_nothing(monkeypatch: pytest.MonkeyPatch, listening: Start) -> None:
    _, where = listening()
    with ExitStack() as stack:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("can't start")))
            assert is_hung_up(call(where, stack), 5)
        channel = dial(where, "the party", 5)
        stack.callback(channel.close)
        greet(channel, Joins(session="s", rank=0, patience=5.0))


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
