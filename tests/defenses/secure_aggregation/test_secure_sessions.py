"""Real party processes: what they reveal is right to the bit, what each of them receives is noise."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from party_pools import Tap, byte_counts, tapped
from scipy import stats

from autoflip_secure.defenses.secure_aggregation import session as secure_aggregation
from autoflip_secure.defenses.secure_aggregation import shared_rows
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties, local_parties
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.shared_rows import SharedRows
from autoflip_secure.defenses.secure_aggregation.shares import opened, split, square_pair
from autoflip_secure.defenses.secure_aggregation.wire import raw
from autoflip_secure.errors import SecureSumError
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import LocalRows, Sketch


def ring(rows: int, params: int, seed: int, bits: int = 30) -> torch.Tensor:
    return torch.randint(-(2**bits), 2**bits, (rows, params), generator=torch.Generator().manual_seed(seed))


IDS = (7, 8, 9)


@pytest.fixture
def own(two_parties: Parties) -> Iterator[Session]:
    """A session of one test alone, so that its batches count from 0."""
    with Session(two_parties) as session:
        yield session


@given(st.integers(3, 6), st.integers(8, 40), st.integers(0, 99), st.data())
def test_everything_revealed_is_what_one_process_computes(
    session: Session, clients: int, params: int, seed: int, data: st.DataObject
) -> None:
    rows, ids = ring(clients, params, seed), tuple(range(10, 10 + clients))
    shared, local = session.share(rows, ids), LocalRows(rows, ids)
    assert shared.events == ()
    assert torch.equal(shared.total(), local.total())
    weights = torch.tensor(data.draw(st.lists(st.integers(1, 1000), min_size=clients, max_size=clients, unique=True)))
    assert torch.equal(shared.total(weights), local.total(weights))
    vectors = ring(2, params, seed + 1)
    assert torch.equal(shared.products(vectors), local.products(vectors))
    starts = torch.tensor([0, *sorted(data.draw(st.lists(st.integers(0, params - 1), max_size=2)))])
    assert torch.equal(shared.squared_norms(None, starts), local.squared_norms(None, starts))
    sketch, places = Sketch.random(torch.arange(params) % 2, 2, 5, torch.Generator().manual_seed(seed))
    assert torch.equal(shared.squared_norms(sketch, places), local.squared_norms(sketch, places))
    shared.forget()


def test_a_sum_does_not_care_about_overflow_on_the_way(session: Session) -> None:
    rows = torch.tensor([[2**62], [2**62], [2**62], [-(2**62)], [-(2**62)]])
    assert session.share(rows, (0, 1, 2, 3, 4)).total().tolist() == [2**62]


def test_deviations_of_any_scale_lose_at_most_a_billionth(session: Session) -> None:
    """Squared deviations reach down to 1e-12; error against double is at most 1e-9 of the largest entry."""
    for scale in (1e-6, 1e-3, 1.0, 1e3):
        rows = torch.randn(20, 1000, generator=torch.Generator().manual_seed(1)).double().square() * scale
        code = FixedPoint.for_sums(float(rows.max()), 20)
        total = code.decode(session.share(code.encode(rows, range(20)), tuple(range(20))).total())
        assert float((total - rows.sum(0)).abs().max() / rows.sum(0).max()) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("parties", [4, 5])
def test_more_parties(parties: int) -> None:
    rows = ring(5, 300, 0)
    with local_parties(parties, 30) as where, Session(where) as session:
        shared, local = session.share(rows, tuple(range(5))), LocalRows(rows, tuple(range(5)))
        assert torch.equal(shared.total(), local.total())
        assert torch.equal(shared.squared_norms(), local.squared_norms())


# ------------------------------------------------------------------------------------------- what each party receives


def one_exchange(where: Parties, rows: torch.Tensor) -> list[Tap]:
    """Every kind of request once, with a tap before each party."""
    with tapped(where) as (through, taps), Session(through) as session:
        shared = session.share(rows, tuple(range(len(rows))))
        shared.total()
        shared.squared_norms()
    return taps


def payload(tap: Tap) -> np.ndarray:
    """Every 8 bytes of what arrived, at each of the eight offsets."""
    return np.concatenate(
        [np.frombuffer(tap.heard[o : len(tap.heard) - (len(tap.heard) - o) % 8], "<i8") for o in range(8)]
    )


def tells(taps: list[Tap], rows: torch.Tensor) -> list[int]:
    """Entries of rows, or differences of shares, that can be read off one party's port: how many of them."""
    secret = np.unique(rows.numpy())
    return [int(np.isin(payload(tap), secret).sum()) for tap in taps]


def test_no_party_receives_an_entry_of_a_row_and_all_but_one_hold_noise(three_parties: Parties) -> None:
    rows = ring(6, 14_000, 3) + 2**40  # far from uniform: 23 leading bits are the same in all entries
    taps = one_exchange(three_parties, rows)
    assert tells(taps, rows) == [0, 0, 0]
    assert len(taps[-1].heard) > 8 * rows.numel()  # the taps sit where shares pass, in full to the last party
    for left_out in (0, 1):  # who does not hear the last party has keys only (test_what_parties_see expands them)
        seen = b"".join(bytes(tap.heard) for rank, tap in enumerate(taps) if rank != left_out)
        numbers = np.frombuffer(seen[: len(seen) // 8 * 8], np.uint8)
        kept = numbers[: len(numbers) // 4096 * 4096].reshape(-1, 4096)
        noise = np.array([stats.chisquare(byte_counts(block.tobytes())).pvalue for block in kept])
        assert (noise > 1e-6).mean() > 0.97, "all but headers, and what is public, looks uniform"


def test_a_leak_would_be_seen(three_parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaking(row: torch.Tensor, parties: int) -> list[torch.Tensor]:
        return [row, *map(opened, split(torch.zeros_like(row), parties - 1))]

    rows = ring(6, 2_000, 3) + 2**40
    monkeypatch.setattr(secure_aggregation, "split", leaking)
    assert tells(one_exchange(three_parties, rows), rows)[0] >= rows.numel()


def test_party_0_cannot_undo_the_square_pairs(two_parties: Parties) -> None:
    """Sums of any two words that reach party 0 (its shares, its pairs, what is opened) hold no entry of a row."""
    rows = ring(3, 40, 5) + 2**40
    tap = one_exchange(two_parties, rows)[0]
    words = np.unique(np.frombuffer(tap.heard[-(len(tap.heard) // 8 * 8) :], "<i8"))
    with np.errstate(over="ignore"):
        sums = np.add.outer(words, words)
    assert not np.isin(rows.numpy(), sums).any()


# -------------------------------------------------------------------------------------------------- what parties refuse


def refused(where: Parties, message: str, rows: torch.Tensor, *asks: Callable[[SharedRows], object]) -> None:
    with Session(where) as session:
        shared = session.share(rows, tuple(range(len(rows))))
        *fine, last = asks
        for ask in fine:
            ask(shared)
        with pytest.raises(SecureSumError, match=message):
            last(shared)


def test_parties_refuse_what_would_tell_a_row(two_parties: Parties) -> None:
    rows = ring(3, 10, 1)
    only = torch.tensor([0, 1, 0])
    refused(two_parties, r"refuses sum 1 of 3 clients, 1 of them with a weight", rows, lambda s: s.total(only))
    refused(two_parties, r"refuses sum 1 of 1 clients", rows[:1], lambda s: s.total())
    refused(two_parties, r"refuses sum 2 of 2 clients", rows[:2], lambda s: s.total(), lambda s: s.total())
    weights = torch.tensor([1, 2, 3])
    refused(
        two_parties, r"refuses sum 3 of 3 clients", rows, lambda s: s.total(), lambda s: s.total(weights),
        lambda s: s.total(weights.flip(0)),
    )  # fmt: skip
    four, r4 = ring(4, 10, 2), r"refuses sum 2 of 4 clients, 2 of them with a weight: it would tell a single"
    first, second = torch.tensor([1, 1, 1, 0]), torch.tensor([0, 1, 1, 0])  # their difference is row 0
    refused(two_parties, r4, four, lambda s: s.total(first), lambda s: s.total(second))
    refused(two_parties, r"refuses sum 1 of 4", four, lambda s: s.total(torch.zeros(4, dtype=torch.int64)))
    for digits in ([1, 2**60, 0, 0], [1, -1, 0, 0]):  # a + 2^60 b tells a to 60 digits
        uneven = torch.tensor(digits)
        refused(
            two_parties, r"refuses a sum with weights outside \[0, 4294967296\]", four, lambda s, w=uneven: s.total(w)
        )
    steps = [torch.tensor(w) for w in ([1, 1, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])]
    refused(two_parties, r"refuses sum 3; at most 2", four, *(lambda s, w=w: s.total(w) for w in steps))
    refused(two_parties, r"refuses 10 products", rows, lambda s: s.products(torch.eye(10, dtype=torch.int64)))
    refused(two_parties, r"refuses 10 squared norms", rows, lambda s: s.squared_norms(None, torch.arange(10)))


# --------------------------------------------------------------------------------------- clients that do not keep to it


def test_a_client_whose_shares_do_not_reach_every_party_is_left_out_and_named(own: Session) -> None:
    rows, session = ring(4, 6, 2), own
    clients = (3, 5, 8, 9)
    session.request({"op": "open", "batch": "0", "clients": list(clients), "params": 6})
    for client, row in zip(clients[:3], rows, strict=False):  # client 9 never starts
        shares = split(row, 2)
        if client == 5:  # drops out after its first share
            first = {"op": "share", "batch": "0", "client": 5, "dtype": "<i8"}
            session._channels[0].send(first, raw(opened(shares[0])))
        else:
            session._deal("0", client, shares)
    shared = session._sealed("0", clients, 6)
    assert shared.clients == (3, 8)
    assert shared.events == (
        "client 9 left out of the secure sum: party 0 has no share of it",
        "client 5 left out of the secure sum: party 1 has no share of it",
        "client 9 left out of the secure sum: party 1 has no share of it",
    )
    assert torch.equal(shared.total(), rows[0] + rows[2])


def test_shares_of_wrong_length_type_or_owner_and_duplicates(own: Session) -> None:
    rows, session = ring(5, 6, 2), own
    clients = (0, 1, 2, 3)
    session.request({"op": "open", "batch": "0", "clients": list(clients), "params": 6})
    for client in clients:
        session._deal("0", client, split(rows[client][: 5 if client == 1 else 6], 2))
    session._deal("0", 3, split(rows[4], 2))  # once more, and another row
    session._deal("0", 7, split(rows[4], 2))  # nobody asked
    for channel, share in zip(session._channels, split(rows[2], 2), strict=True):
        floats = opened(share).to(torch.float64)
        channel.send({"op": "share", "batch": "0", "client": 1, "dtype": "<f8"}, raw(floats))
    shared = session._sealed("0", clients, 6)
    assert shared.clients == (0, 2, 3)
    assert [event for event in shared.events if event.startswith("party 1")] == [
        "party 1: client 1 sent 40 bytes, not 48: left out",
        "party 1: client 3 sent its share twice: the first counts",
        "party 1: client 7 sent a share that nobody asked for: not taken",
        "party 1: client 1 sent a share of type <f8, not <i8: left out",
    ]
    assert torch.equal(shared.total(), rows[0] + rows[2] + rows[3])


def test_bytes_are_counted_and_do_not_depend_on_the_noise(two_parties: Parties) -> None:
    rows, counts = ring(5, 100, 2), []
    for _ in range(2):
        with Session(two_parties) as session:
            before = session.traffic
            session.share(rows, (0, 1, 2, 3, 11)).total()
            counts.append(session.traffic - before)
    assert counts[0] == counts[1]
    assert 5 * (800 + 32) < counts[0].from_clients < 5 * (800 + 32 + 600)  # in full to one, a key to the other
    assert 0 < counts[0].from_server < 2 * 8 * 300
    assert 800 < counts[0].to_server < 800 + 2000


def lying(width: int, starts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A square pair that makes the row look smaller by three typical squared norms."""
    mask, squares = square_pair(width, starts)
    return mask, squares - 3 * 2**49


@pytest.mark.parametrize("in_turn", [(True, False), (False, True), (True, True)])
def test_a_client_with_a_false_square_pair_is_found_and_named(
    own: Session, monkeypatch: pytest.MonkeyPatch, in_turn: tuple[bool, bool]
) -> None:
    """A lie in the pair, in the one that checks it, or the same in both; chance 1/4,096 of failing."""
    rows, calls = ring(3, 50, 4), iter([False, False, *in_turn, False, False])

    def dealt(width: int, starts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return lying(width, starts) if next(calls) else square_pair(width, starts)

    monkeypatch.setattr(shared_rows, "square_pair", dealt)
    shared, local = own.share(rows, IDS), LocalRows(rows, IDS)
    starts = torch.tensor([0, 20])
    found, expected = shared.squared_norms(None, starts), local.squared_norms(None, starts)
    assert found[1].tolist() == [shared_rows.TOO_LARGE] * 2
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
    assert shared.events == ("client 8 dealt a square pair that is none: it counts as far too large",)
    assert torch.equal(shared.total(), local.total()), "its row is what it was"
