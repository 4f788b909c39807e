"""Nothing that the other side says about a size, a count or a shape is believed, in either direction."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.defenses.secure_aggregation import messages
from autoflip_secure.defenses.secure_aggregation.greeting import greeted
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.messages import Done, Held, printable, understood
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.wire import Address, Channel, WireError
from autoflip_secure.errors import InputError, SecureSumError

ROWS, IDS = torch.arange(24).view(4, 6) * 1_000_003 + 77, (3, 5, 8, 9)
HELD: dict[str, Any] = {"held": list(IDS), "complaints": []}
DONE: dict[str, Any] = {"done": True, "between": 0, "liars": []}


def message(header: dict[str, Any], body: bytes = b"", claimed: int | None = None) -> bytes:
    """As it stands on the wire, with a length of the body that need not be true."""
    text = json.dumps(header).encode()
    return struct.pack(">IQ", len(text), len(body) if claimed is None else claimed) + text + body


Script = dict[str, bytes]
"""What a false party answers to which request."""


def pretend(channel: Channel, identity: str, script: Script) -> None:
    with closing(channel):
        try:
            greeted(channel, identity)
            channel.socket.sendall(script.get("greeting", message({"ready": True})))
            while True:
                header, size = channel.receive()
                channel.skip(size)
                if (answer := script.get(header["op"])) is not None:
                    channel.socket.sendall(answer)
        except (WireError, OSError):
            return


@contextmanager
def parties(*scripts: Script) -> Iterator[Parties]:
    """False parties; all but the answers in question are as they should be."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in scripts]

    def accept(listener: socket.socket, number: int, script: Script) -> None:
        with contextlib.suppress(OSError):  # nobody called
            connection, _ = listener.accept()
            pretend(Channel(connection, "the server", 20), f"p{number}", script)

    threads = [
        threading.Thread(target=accept, args=(listener, number, script), daemon=True)
        for number, (listener, script) in enumerate(zip(listeners, scripts, strict=True))
    ]
    for thread in threads:
        thread.start()
    try:
        yield Parties(tuple(Address(*listener.getsockname()) for listener in listeners), timeout=5)
    finally:
        for listener in listeners:
            listener.close()
        for thread in threads:
            thread.join(10)


FINE: tuple[Script, Script] = (
    {"seal": message(HELD), "total": message(DONE, bytes(48))}, {"seal": message(HELD), "total": message(DONE)},
)  # fmt: skip


def total(where: Parties) -> torch.Tensor:
    with Session(where) as session:
        return session.share(ROWS, IDS).total()


def test_false_parties_that_answer_as_they_should_are_believed() -> None:
    """The doubt: what is refused below is refused for what it says."""
    with parties(*FINE) as where:
        assert total(where).tolist() == [0] * 6


def reply(rank: int, op: str, data: bytes) -> tuple[Script, Script]:
    scripts = {**FINE[0]}, {**FINE[1]}
    scripts[rank][op] = data
    return scripts


@pytest.mark.parametrize(
    ("rank", "op", "data", "said"),
    [
        (0, "total", message(DONE, claimed=2**50), r"party 0 .* sent 1125899906842624 bytes where 48 were requested"),
        (0, "total", message(DONE, claimed=2**64 - 1), r"party 0 .* sent 18446744073709551615 bytes where 48"),
        (0, "total", message(DONE, bytes(40)), r"party 0 .* sent 40 bytes where 48 were requested"),
        (0, "total", message(DONE, bytes(47)), r"party 0 .* sent 47 bytes where 48 were requested"),
        (0, "total", message(DONE), r"party 0 .* sent 0 bytes where 48 were requested"),
        (1, "total", message(DONE, bytes(48)), r"party 1 .* sent 48 bytes where 0 were requested"),
        (1, "seal", message(HELD, claimed=2**62), r"party 1 .* sent 4611686018427387904 bytes where 0 were requested"),
        (0, "total", message({"done": True}, bytes(48)), r"party 0 .* header that is not a valid done \(between: "),
        (0, "total", message({**DONE, "between": "much"}, bytes(48)), r"valid done \(between: "),
        (0, "total", message({**DONE, "between": -1}, bytes(48)), r"valid done \(between: "),
        (0, "total", message({**DONE, "liars": "all"}, bytes(48)), r"valid done \(liars: "),
        (0, "total", message({**DONE, "more": 1}, bytes(48)), r"valid done \(more: "),
        (1, "seal", message({"complaints": []}), r"party 1 .* valid held \(held: "),
        (1, "seal", message({**HELD, "held": [[3]]}), r"valid held \(held\.0: "),
        (1, "seal", message({**HELD, "complaints": [7]}), r"valid held \(complaints\.0: "),
        (1, "seal", message({**HELD, "complaints": ["no"] * 1002}), r"valid held \(complaints: "),
        (0, "seal", struct.pack(">IQ", 2**31, 0), r"party 0 .* does not speak this protocol \(a header of 2147483648"),
        (0, "seal", struct.pack(">IQ", 9, 0) + b"{\"a\": NaN", r"party 0 .* \(its header is not a mapping\)"),
    ],
)  # fmt: skip
def test_a_reply_of_another_size_or_kind_ends_the_sum_with_one_sentence(
    rank: int, op: str, data: bytes, said: str
) -> None:
    with parties(*reply(rank, op, data)) as where, pytest.raises(SecureSumError, match=said) as caught:
        total(where)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_first_answer_that_is_none(two_parties: Parties) -> None:
    for greeting in (message({"ready": "yes"}), message({"ready": True}, claimed=2**40), message({"party": ["x"]})):
        scripts = {**FINE[0], "greeting": greeting}, FINE[1]
        with parties(*scripts) as where, pytest.raises(InputError, match=r"secure sum: party 0 \(\S+\) sent "):
            Session(where)


def test_of_a_dead_party_another_one_tells_and_it_is_no_matter_of_input() -> None:
    words = {"error": "party 1 (127.0.0.1:7) is gone"}
    for more, kind in (({"gone": True}, SecureSumError), ({"gone": False}, InputError), ({}, InputError)):
        scripts = {**FINE[0], "greeting": message({**words, **more})}, FINE[1]
        with (
            parties(*scripts) as where,
            pytest.raises(kind, match=r"party 0 \(\S+\): party 1 \(127\.0\.0\.1:7\) is gone"),
        ):
            Session(where)


def test_words_of_a_party_are_cut_and_made_harmless() -> None:
    words = "out of \x1b[31mmemory\n" * 1000
    with (
        parties(*reply(1, "total", message({"error": words}))) as where,
        pytest.raises(SecureSumError, match=r"party 1 \(\S+\): out of \?\[31mmemory out of") as caught,
    ):
        total(where)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@given(st.text(max_size=600))
def test_printable_words_are_printable_and_short(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) <= 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KINDS = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Message)]


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(["batch", "held", "done", "clients", "x"]), JSON))
def test_any_header_is_understood_or_refused(kind: type[messages.Message], header: dict[str, Any]) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(understood(kind, header, "somebody"), kind)


# --------------------------------------------------------------------------------------- what a server says to a party

Act = Callable[[Session], object]


def ask(header: dict[str, Any], body: bytes = b"", claimed: int | None = None) -> Act:
    def act(session: Session) -> None:
        for channel in session._channels:
            channel.socket.sendall(message(header, body, claimed))

    return act


ONE = {"batch": f"{0:012d}"}  # the first of a session


@pytest.mark.parametrize(
    ("header", "body", "claimed", "said"),
    [
        ({"op": "total", **ONE}, b"", 2**50, "was sent 1125899906842624 bytes where 32 belong"),
        ({"op": "total", **ONE}, bytes(24), None, "was sent 24 bytes where 32 belong"),
        ({"op": "products", **ONE, "vectors": 1, "dtype": "<i8"}, b"", 2**40, "1099511627776 bytes where 48 belong"),
        ({"op": "products", **ONE, "vectors": 2**40, "dtype": "<i8"}, b"", None, r"valid products \(vectors: "),
        ({"op": "products", **ONE, "vectors": -1, "dtype": "<i8"}, b"", None, r"valid products \(vectors: "),
        ({"op": "products", **ONE, "vectors": 1, "dtype": "<f8"}, b"", None, r"valid products \(dtype: "),
        ({"op": "deal", **ONE, "sketch": None, "groups": 2**40}, b"", None, r"valid deal \(groups: "),
        ({"op": "deal", **ONE, "sketch": None, "groups": 2}, struct.pack("<2q", 0, 99), None, r"at \[0, 99\] of 6"),
        ({"op": "deal", **ONE, "sketch": None, "groups": 1}, struct.pack("<q", -1), None, r"begin at \[-1\] of 6"),
        ({"op": "deal", **ONE, "sketch": 5, "groups": 1}, bytes(8), None, "does not know sketch 5"),
        ({"op": "sketch", **ONE, "sketch": 0, "width": 4}, b"", 2**50, "1125899906842624 bytes where 30 belong"),
        ({"op": "sketch", **ONE, "sketch": 0, "width": 2**33}, bytes(30), None, "refuses sketch 1 of 8589934592"),
        ({"op": "open", "batch": "b", "clients": [1], "params": 2**40}, b"", None, r"valid open \(params: "),
        ({"op": "open", "batch": "b", "clients": [*range(9000)], "params": 2**33}, b"", None, r"refuses to hold"),
        ({"op": "open", "batch": "b", "clients": [1], "params": 0}, b"", None, r"valid open \(params: "),
        ({"op": "open", "batch": "b", "clients": [-1], "params": 1}, b"", None, r"valid open \(clients\.0: "),
        ({"op": "seal", **ONE}, b"", 2**63, "was sent 9223372036854775808 bytes where 0 belong"),
        ({"op": "seal", "batch": "nobody's"}, b"", None, 'does not know the batch "nobody\'s"'),
        ({"op": "seal"}, b"", None, r"valid about \(batch: "),
        ({"op": ["seal"]}, b"", None, r"does not know the request \['seal'\]"),
        ({"op": "run", **ONE}, b"", None, "does not know the request 'run'"),
    ],
)  # fmt: skip
def test_a_request_of_another_size_or_kind_ends_the_session_with_one_sentence(
    two_parties: Parties, header: dict[str, Any], body: bytes, claimed: int | None, said: str
) -> None:
    with Session(two_parties) as session:
        session.share(ROWS, IDS)
        ask(header, body, claimed)(session)
        with pytest.raises(SecureSumError, match=rf"party [01] \(\S+\): .*{said}") as caught:
            session.replies(Done)
        assert "\n" not in str(caught.value)
    with Session(two_parties) as session:
        assert torch.equal(session.share(ROWS, IDS).total(), ROWS.sum(0)), "the party serves on"


def test_complaints_have_an_end(two_parties: Parties) -> None:
    with Session(two_parties) as session:
        session.request({"op": "open", "batch": "b", "clients": list(IDS), "params": 6})
        for _ in range(messages.MOST_COMPLAINTS + 200):
            session.request({"op": "share", "batch": "b", "client": 77, "dtype": "<i8"})
        session.request({"op": "seal", **{"batch": "b"}})
        for held, _ in session.replies(Held):
            assert len(held.complaints) == messages.MOST_COMPLAINTS + 1
            assert held.complaints[-1] == "more was not taken than is told here"


@pytest.mark.parametrize(
    "greeting",
    [
        {"timeout": 1e999}, {"timeout": float("nan")}, {"timeout": -1}, {"rank": 9}, {"rank": "0"}, {"session": ""},
        {"parties": [["a", 1]] * 6}, {"parties": [["a", 1]]}, {"parties": [["a", 10**9]] * 2}, {"parties": [{}] * 2},
        {"parties": 10**999}, {"role": "king"}, {"more": "x" * 9000},
    ],
)  # fmt: skip
def test_a_greeting_out_of_bounds_is_hung_up_on(two_parties: Parties, greeting: dict[str, Any]) -> None:
    fine = {"protocol": 4, "role": "server", "session": "s", "rank": 0, "timeout": 1.0, "parties": [["a", 1]] * 2}
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(10)
        caller.connect(two_parties.addresses[0].host)
        caller.sendall(message({**fine, **greeting}))
        with contextlib.suppress(ConnectionResetError):  # where it did not read all of it
            assert caller.recv(1) == b""
