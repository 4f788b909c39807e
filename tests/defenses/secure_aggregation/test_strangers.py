"""Who calls a party has little memory, ten seconds and one of few places until it has said what it wants."""

import contextlib
import socket
import struct
import threading
import time
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import pytest
from callers import Start, call, is_hung_up, soon

from autoflip_secure.defenses.secure_aggregation import party
from autoflip_secure.defenses.secure_aggregation.certificates import make_certificates
from autoflip_secure.defenses.secure_aggregation.greeting import Joins, greet
from autoflip_secure.defenses.secure_aggregation.wire import Channel, WireError, dial


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sealed") / "certificates"
    make_certificates(folder, [["127.0.0.1"]], 1)
    return folder


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
