"""A round of scored updates through real parties: the same as on rows that one process holds, whoever drops out."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.defenses.secure_aggregation import shared_rows
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.session import Session
from autoflip_secure.defenses.secure_aggregation.shares import Share, opened
from autoflip_secure.defenses.secure_aggregation.wire import raw
from autoflip_secure.federation.secure_updates import SecretUpdates, score_secretly, secure_aggregate
from autoflip_secure.interfaces import Aggregator, Guidance, RoundView
from autoflip_secure.models.layout import Layout
from autoflip_secure.secure_rows.fixed_point import FixedPoint
from autoflip_secure.secure_rows.secret_rows import LiveRows, LocalRows, Sketch

LAYOUT = Layout.of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)))
AGGREGATORS: list[Aggregator] = [
    AgreementWeighted(statistics=("profile", "size", "direction")),
    AgreementWeighted(),
    RadialAgreement(noise="norm"),
]


@pytest.fixture
def session(two_parties: Parties) -> Iterator[Session]:
    with Session(two_parties) as session:
        yield session


def round_of(clients: tuple[int, ...] = (1, 3, 4, 6), seed: int = 0) -> RoundView:
    source = torch.Generator().manual_seed(seed)
    params, count = LAYOUT.size, len(clients)
    mask = torch.rand(params, generator=source) < 0.8
    energy = torch.rand(params, generator=source) ** 4
    common = torch.randn(params, generator=source)
    return RoundView(
        round=1, clients=torch.tensor(clients), samples=torch.arange(1.0, count + 1),
        updates=(torch.randn(count, params, generator=source) * 0.3 + common) * mask * 0.1,
        weights=torch.randn(params, generator=source) * mask, mask=mask,
        guidance=Guidance(energy, torch.ones(params)), layout=LAYOUT, shrinkage=torch.zeros(count),
    )  # fmt: skip


def start(aggregator: Aggregator, view: RoundView) -> Any:
    if isinstance(aggregator, RadialAgreement):
        from autoflip_secure.algorithm.radial_agreement import RadialState

        unseen = torch.full((8,), torch.nan)
        assert view.guidance is not None
        return RadialState(unseen, unseen, unseen, 0.0, view.guidance.energy)
    return aggregator.start(LAYOUT, view.weights, 8, None)


def in_the_open(aggregator: Any, state: Any, view: RoundView, width: int | None) -> Any:
    """Scores of rows that this process holds, masked coordinates and all; the bound and the bits by their equations."""
    bound = 4 * float((view.weights * view.mask).norm())  # round 1: four norms of the weights
    assert float(view.updates.norm(dim=1).max()) < bound, "nobody has to clip"
    bits = math.floor(math.log2((2**31.5 - LAYOUT.size**0.5 / 2) / (16 * bound)))  # norms up to 16 B, squared, fit
    points, ids = FixedPoint(bits, 16 * bound), tuple(view.clients.tolist())
    assert view.guidance is not None
    own, root = view.updates.double().abs() * LAYOUT.trained, (view.guidance.energy * view.mask).double().sqrt()
    claims = own @ root / (own.norm(dim=1) * root.norm())
    secret = SecretUpdates(LocalRows(points.encode(view.updates, ids), ids), points, bound, lambda vector: claims)
    return secure_aggregate(aggregator, state, view.public, secret, torch.Generator().manual_seed(5), width)


def score(
    session: Session, aggregator: Aggregator, view: RoundView, width: int | None, malicious: int | None = None
) -> Any:
    honest = torch.ones(len(view.clients), dtype=torch.bool)
    if malicious is not None:
        honest[malicious] = False
    state = start(aggregator, view)
    draws = torch.Generator().manual_seed(5)
    return score_secretly(session, aggregator, state, view.public, view.updates, honest, draws, width)


@pytest.mark.parametrize("width", [None, 16])
@pytest.mark.parametrize("aggregator", AGGREGATORS, ids=["profile", "landscape", "radial"])
def test_parties_give_what_one_process_gives(session: Session, aggregator: Aggregator, width: int | None) -> None:
    view = round_of()
    found = score(session, aggregator, view, width)
    expected = in_the_open(aggregator, start(aggregator, view), view, width)
    assert found.events == ()
    assert bool(found.taken.all())
    assert torch.equal(found.aggregate.scores, expected.scores)
    assert torch.equal(found.aggregate.trust, expected.trust)
    assert torch.equal(found.aggregate.delta, expected.delta)
    assert bool((found.aggregate.delta[~view.mask] == 0).all())
    assert found.revealed.sums == 1
    assert 0 < found.revealed.products <= 24
    assert 0 < found.revealed.norms <= 32


def test_who_cannot_be_encoded_is_left_out_and_named(session: Session) -> None:
    view = round_of()
    wild = view.updates.clone()
    wild[2] *= 1e6
    found = score(session, AGGREGATORS[0], replace(view, updates=wild), None, malicious=2)
    assert found.taken.tolist() == [True, True, False, True]
    assert found.events[0].startswith("client 4 sent a value beyond +-")
    rest = torch.tensor([0, 1, 3])
    left = replace(
        view, clients=view.clients[rest], samples=view.samples[rest], updates=view.updates[rest],
        shrinkage=view.shrinkage[rest],
    )  # fmt: skip
    expected = in_the_open(AGGREGATORS[0], start(AGGREGATORS[0], view), left, None)
    torch.testing.assert_close(found.aggregate.delta, expected.delta, rtol=1e-6, atol=1e-9)


def test_who_drops_out_between_two_parties_is_left_out(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Client 3 is gone after one of two shares; the others' claims of the landscape agreement stay with the others."""
    view, deal = round_of(), session.from_client

    def gone(header: dict[str, Any], shares: list[Share]) -> None:
        if header["op"] == "share" and header["client"] == 3:
            session._channels[0].send(header, raw(opened(shares[0])))
        else:
            deal(header, shares)

    monkeypatch.setattr(session, "from_client", gone)
    found = score(session, AGGREGATORS[1], view, None)
    assert found.taken.tolist() == [True, False, True, True]
    assert found.events == ("client 3 left out of the secure sum: party 1 has no share of it",)
    rest = torch.tensor([0, 2, 3])
    left = replace(
        view, clients=view.clients[rest], samples=view.samples[rest], updates=view.updates[rest],
        shrinkage=view.shrinkage[rest],
    )  # fmt: skip
    expected = in_the_open(AGGREGATORS[1], start(AGGREGATORS[1], view), left, None)
    assert torch.equal(found.aggregate.scores, expected.scores)
    assert torch.equal(found.aggregate.delta, expected.delta)


def test_one_client_left_is_no_sum(session: Session) -> None:
    view = round_of()
    wild = view.updates.clone()
    wild[1:] *= 1e6
    honest = torch.tensor([True, False, False, False])
    state = start(AGGREGATORS[0], view)
    found = score_secretly(session, AGGREGATORS[0], state, view.public, wild, honest, torch.Generator(), None)
    assert found.aggregate is None
    assert not bool(found.taken.any())
    assert found.events[-1] == "no step: 1 clients reached the parties, and their sum would hide nothing"


def test_a_false_square_pair_costs_a_client_its_trust(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, honest = iter([False] * 4 + [True] + [False] * 3), shared_rows.square_pair

    def dealt(width: int, starts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        mask, squares = honest(width, starts)
        return mask, squares - 2**49 if next(calls) else squares

    monkeypatch.setattr(shared_rows, "square_pair", dealt)
    found = score(session, AGGREGATORS[0], round_of(), 16)
    assert found.aggregate.scores[2] == 0
    assert found.aggregate.trust[2] == 0
    assert found.events == ("client 4 dealt a square pair that is none: it counts as far too large",)


@given(st.integers(0, 99), st.integers(1, 4))
def test_rows_of_live_coordinates_are_rows_with_zeros(seed: int, clients: int) -> None:
    source = torch.Generator().manual_seed(seed)
    live = torch.rand(20, generator=source) < 0.6
    live[0] = True
    whole = torch.randint(-(2**30), 2**30, (clients, 20), generator=source) * live
    ids = tuple(range(clients))
    plain, seen = LocalRows(whole, ids), LiveRows(LocalRows(whole[:, live], ids), live)
    assert torch.equal(seen.total(), plain.total())
    weights = torch.arange(clients) + 1
    assert torch.equal(seen.total(weights), plain.total(weights))
    vectors = torch.randint(-9, 9, (3, 20), generator=source)
    assert torch.equal(seen.products(vectors), plain.products(vectors))
    assert torch.equal(seen.squared_norms(), plain.squared_norms())
    groups = torch.where(live, torch.arange(20) % 3, -1)
    for sketch, starts in (Sketch.exact(groups, 3), Sketch.random(groups, 3, 4, source)):
        assert torch.equal(seen.squared_norms(sketch, starts), plain.squared_norms(sketch, starts))
