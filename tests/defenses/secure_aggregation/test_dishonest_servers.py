"""A server that breaks the protocol: what parties refuse, what they cannot know. A lying client costs itself only."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.messages import Done, Held
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.shared_rows import TOO_LARGE, SharedRows
from autoflip_secure.defenses.secure_aggregation.shares import Share, opened, split
from autoflip_secure.defenses.secure_aggregation.wire import raw
from autoflip_secure.errors import SecureSumError

ROWS = torch.arange(120).view(4, 30) * 1_000_003 + 77
IDS = (3, 5, 8, 9)


def refused(where: Parties, message: str, act: Callable[[Session], object]) -> None:
    with Session(where) as session, pytest.raises(SecureSumError, match=message):
        act(session)


def empty(session: Session) -> str:
    """A batch of whose rows no share has been sent."""
    session.request({"op": "open", "batch": "b", "clients": list(IDS), "params": 30})
    return "b"


@pytest.mark.parametrize("op", ["total", "products", "deal"])
def test_memory_that_no_share_was_written_to_is_not_revealed(two_parties: Parties, op: str) -> None:
    """It would be what other sessions have left there."""

    def ask(session: Session) -> None:
        body = torch.ones(4 if op == "total" else 30, dtype=torch.int64)
        more: dict[str, Any] = {"products": {"vectors": 1, "dtype": "<i8"}, "deal": {"sketch": None, "groups": 1}}
        session.request(
            {"op": op, "batch": empty(session), **more.get(op, {})}, raw(body[:1] if op == "deal" else body)
        )
        session.replies(Done)

    refused(two_parties, r"before the shares of clients \[3, 5, 8, 9\] are here", ask)


def test_a_row_that_stands_twice_would_be_alone_in_a_sum(two_parties: Parties) -> None:
    def keep(session: Session) -> None:
        shared = session.share(ROWS, IDS)
        session.request({"op": "keep", "batch": shared.batch, "clients": [8, 8]})
        replace_clients(shared, (8, 8)).total()

    def begin(session: Session) -> None:
        session.request({"op": "open", "batch": "b", "clients": [8, 8], "params": 30})
        session.replies(Held)

    refused(two_parties, "refuses to keep a client twice", keep)
    refused(two_parties, "refuses a batch in which a client stands twice", begin)


def replace_clients(shared: SharedRows, clients: tuple[int, ...]) -> SharedRows:
    return SharedRows(shared.session, shared.batch, clients, shared.params)


# ------------------------------------------------------------------------------------------------------- lying clients


def deals(session: Session, change: Callable[[dict[str, Any], list[Share]], list[list[Share]]]) -> None:
    """From now on ``change`` says what client 8 sends instead of its square pairs."""
    send = session.from_client

    def sent(header: dict[str, Any], shares: list[Share]) -> None:
        for each in change(header, shares) if header["op"] == "pair" and header["client"] == 8 else [shares]:
            send(header, each)

    session.from_client = sent  # type: ignore[method-assign, assignment]


def keyless(header: dict[str, Any], shares: list[Share]) -> list[list[Share]]:
    first, *rest = shares
    return [[replace(first, key=b"short"), *rest]]  # type: ignore[type-var, list-item]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header, shares: [], []),
        (
            lambda header, shares: [[opened(share)[:-1] for share in shares]],
            ["client 8 sent square pairs of 488 bytes, not 496: not taken"],
        ),
        (keyless, ["client 8 sent a key of 5 bytes, not 32: left out"]),
    ],
    ids=["none", "short", "no key"],
)
def test_a_client_without_square_pairs_counts_as_too_large_and_stops_nobody(
    two_parties: Parties, change: Any, said: list[str]
) -> None:
    with Session(two_parties) as session:
        shared = session.share(ROWS, IDS)
        deals(session, change)
        norms = shared.squared_norms()[:, 0]
        true = ROWS.square().sum(1)
        assert torch.equal(norms, torch.tensor([true[0], true[1], TOO_LARGE, true[3]]))
        assert "client 8 dealt no square pair to every party: it counts as far too large" in shared.events
        for text in said:
            assert any(event.endswith(text) for event in shared.events)
        assert torch.equal(shared.total(), ROWS.sum(0))


def test_the_first_square_pair_counts(two_parties: Parties) -> None:
    with Session(two_parties) as session:
        shared = session.share(ROWS, IDS)
        deals(session, lambda header, shares: [shares, [-opened(share) for share in shares]])
        assert torch.equal(shared.squared_norms()[:, 0], ROWS.square().sum(1))
        assert "party 0: client 8 sent square pairs twice or unasked: not taken" in shared.events


def test_a_share_of_which_the_key_is_too_short_is_left_out(two_parties: Parties) -> None:
    with Session(two_parties) as session:
        session.request({"op": "open", "batch": "b", "clients": list(IDS), "params": 30})
        for client, row in zip(IDS, ROWS, strict=True):
            shares = split(row, 2)
            session._deal("b", client, keyless({}, shares)[0] if client == 8 else shares)
        shared = session._sealed("b", IDS, 30)
        assert shared.clients == (3, 5, 9)
        assert "party 0: client 8 sent a key of 5 bytes, not 32: left out" in shared.events
        assert torch.equal(shared.total(), ROWS[[0, 1, 3]].sum(0))


def test_whoever_speaks_in_the_name_of_a_client_learns_the_others_row(two_parties: Parties) -> None:
    """The doubt, and a limit that the threat model states: parties do not know clients, and zeros hide nothing."""

    def known(session: Session) -> Tensor:
        return session.share(torch.stack([ROWS[0], torch.zeros_like(ROWS[0])]), (3, 5)).total()

    with Session(two_parties) as session:
        assert torch.equal(known(session), ROWS[0])
