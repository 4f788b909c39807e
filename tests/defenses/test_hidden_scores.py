"""Scores that nobody learns: field, statements, proofs before real parties, rounds against the equations."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from party_views import coalitions, received, watched
from scipy import stats
from torch import Tensor, nn

from attacks.label_inference import class_scores
from autoflip_secure.agreement import AgreementWeighted
from autoflip_secure.errors import SecureSumError
from autoflip_secure.interfaces import Exploration, Guidance, RoundView
from autoflip_secure.parameters import Layout
from autoflip_secure.profile import GROUPS
from autoflip_secure.radial import RadialAgreement
from autoflip_secure.robust import quantile
from defenses import hidden_rows, statements
from defenses.anonymous_votes import BINS, centre, middles, quantile_of, threshold, vote
from defenses.crew import Parties
from defenses.hidden_rows import HiddenRows
from defenses.hidden_scores import HiddenState, refusal, score_hidden
from defenses.mean import Mean
from defenses.prime_field import P, elements, fold, mixed, scalar, signed, split_elements, summed, times, total
from defenses.secure_aggregation import Session
from defenses.statements import LARGEST, PROJECTIONS, SCALE, Ballot, Passes, Statement

FIELD = st.integers(0, P - 1) | st.sampled_from([0, 1, P - 1, 2**31 - 1, 2**31, 2**60, P // 2, P // 2 + 1])


def words(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


# ------------------------------------------------------------------------------------------------------- the field


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=20))
def test_field_arithmetic_is_that_of_python_integers(pairs: list[tuple[int, int]]) -> None:
    a, b = (words(list(column)) for column in zip(*pairs, strict=True))
    assert times(a, b).tolist() == [x * y % P for x, y in pairs]
    assert total(a) == sum(x for x, _ in pairs) % P
    assert fold(a - b).tolist() == [(x - y) % P for x, y in pairs]
    assert torch.equal(fold(signed(a)), a)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_every_word_has_one_element(values: list[int]) -> None:
    assert fold(words(values)).tolist() == [x % P for x in values]


@given(st.lists(FIELD, min_size=1, max_size=9), st.integers(2, 7))
def test_shares_sum_to_the_row_also_when_the_sum_is_taken_modulo_2_64(values: list[int], parties: int) -> None:
    shares = torch.stack(split_elements(words(values), parties))
    assert int(shares.min()) >= 0
    assert int(shares.max()) < P
    assert summed(shares.sum(0)).tolist() == values


@given(st.lists(FIELD, min_size=64, max_size=64), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_sums_of_elements_whose_bits_are_set(weights: list[int], sets: list[int]) -> None:
    by_hand = [sum(w for i, w in enumerate(weights) if chosen >> i & 1) % P for chosen in sets]
    assert mixed(words(weights), words(sets)).tolist() == by_hand


def test_projections_are_of_minus_one_zero_and_one_in_the_right_shares() -> None:
    statement, _ = passing(10)
    unit = torch.zeros(SENT, dtype=torch.int64)
    found = []
    for place in range(SENT):
        unit.zero_()[place] = 1
        signs = statement.projections(unit)
        assert len(signs) == PROJECTIONS
        if int(statement.groups[place]) < 0:
            assert set(signs) == {0}
        else:
            found += signs
    counts = np.bincount(np.array(found) + 1, minlength=3)
    assert stats.chisquare(counts, np.array([1, 2, 1]) / 4 * len(found)).pvalue > 1e-4


def test_elements_are_uniform_in_the_field() -> None:
    drawn = elements(200_000)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < P
    counts = torch.bincount(drawn >> 53, minlength=256).numpy()
    assert stats.chisquare(counts).pvalue > 1e-6


# -------------------------------------------------------------------------------------------------- what is proved

SENT = 120


def passing(seed: int, heading: bool = True, affinity: bool = True) -> tuple[Passes, Tensor]:
    """A statement and a row that passes it with little room."""
    draw = torch.Generator().manual_seed(seed)
    groups = torch.arange(SENT) * GROUPS // SENT
    groups[::17] = -1
    live = groups >= 0
    row = (torch.randn(SENT, generator=draw, dtype=torch.float64) * torch.exp(-groups / 4.0)) * 2**16
    row = (row / (row * live).norm() * (0.9 * LARGEST)).round().long()
    profile = torch.zeros(GROUPS, dtype=torch.float64).index_add(0, groups.clamp_min(0), (row * live).double().square())
    a = (profile / profile.sum()).sqrt()
    h = row * live + 2**20 * torch.randn(SENT, generator=draw, dtype=torch.float64) * live
    cosine = float((row * live).double() @ h / ((row * live).double().norm() * h.norm()))
    statement = Passes(
        groups=groups,
        affinity=(a * SCALE).round().long() if affinity else None,
        profile=int(0.99 * SCALE) if affinity else 0,
        heading=(h / h.norm() * SCALE).round().long() if heading else None,
        direction=int((cosine - 0.01) * SCALE) if heading else 0,
        signs=seed,
    )
    return statement, row


def residue(statement: Statement, vector: Tensor, seed: int = 5) -> int:
    """f(v) by Python integers."""
    equation = statement.equation(seed)
    values = zip(equation.squares.tolist(), equation.linear.tolist(), vector.tolist(), strict=True)
    return (sum(q * v * v + lin * v for q, lin, v in values) + equation.constant) % P


def vector_of(statement: Passes, row: Tensor, counts: int) -> Tensor:
    return torch.cat([row, words([counts]), statement.witness(row, counts)])


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_honest_rows_and_zero_rows_prove_themselves(seed: int, heading: bool, affinity: bool) -> None:
    statement, row = passing(seed, heading, affinity)
    assert statement.holds(row)
    for own, counts in ((row, 1), (torch.zeros_like(row), 0), (torch.zeros_like(row), 1)):
        vector = vector_of(statement, own, counts)
        assert len(vector) == statement.length
        assert residue(statement, vector, seed) == 0


@given(st.integers(0, 20), st.data())
def test_no_entry_of_the_vector_can_be_changed(seed: int, data: st.DataObject) -> None:
    """Each one appears in an equation; entries that are not scored are free."""
    statement, row = passing(seed)
    vector = vector_of(statement, row, 1)
    place = data.draw(st.integers(0, len(vector) - 1))
    changed = vector.clone()
    changed[place] += data.draw(st.sampled_from([1, -1, 2**31, 2**60]))
    free = place < SENT and int(statement.groups[place]) < 0
    assert (residue(statement, changed) == 0) == free


def test_rows_that_do_not_pass_cannot_be_proved() -> None:
    """With the best witness there is: the right norms, and the lowest bits of every slack."""
    statement, row = passing(10)
    live = (statement.groups >= 0).long()
    noise = torch.randn(SENT, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * live
    lies = {
        "too long": (row * 1.2).long(),
        "another profile": (noise / noise.norm() * 0.9 * LARGEST).long(),
        "another direction": -row,
    }
    for name, lie in lies.items():
        assert not statement.holds(lie), name
        assert residue(statement, vector_of(statement, lie, 1)) != 0, name
    assert residue(statement, vector_of(statement, row, 0)) != 0  # a row that does not count must be zero
    assert residue(statement, vector_of(statement, row, 2)) != 0  # and b is a bit


def wrapping(statement: Passes) -> Tensor:
    """Two scored entries of any size whose squares sum to a small number modulo p."""
    row = torch.zeros(SENT, dtype=torch.int64)
    for a in range(2**60 - 1, 2**60 - 999, -1):
        rest = (10**6 - a * a) % P
        b = pow(rest, (P + 1) // 4, P)
        if b * b % P == rest:
            row[1], row[2] = a, b if b <= P // 2 else b - P
            return row
    raise AssertionError("half of all elements are squares")


def test_squares_that_wrap_around_show_in_the_projections(monkeypatch: pytest.MonkeyPatch) -> None:
    statement, _ = passing(3, heading=False, affinity=False)
    row = wrapping(statement)
    claims = [1000, 0, 2000, LARGEST - 1000]  # N, E - N^2, 2N - E + N^2, bound - N: as if the norm were 1000

    def witness(projections: list[int]) -> Tensor:
        return torch.cat([row, words([1, 1000]), statements.bits_of(claims + projections, statement.widths)])

    true = [x + statements.SPAN for x in statement.projections(row)]
    assert residue(statement, witness(true)) != 0
    blind = replace(statement)
    blind.__dict__["_words"] = torch.zeros(2, SENT, dtype=torch.int64)
    assert residue(blind, witness([statements.SPAN] * PROJECTIONS)) == 0, "without projections the lie would pass"


@given(st.lists(st.integers(2, 9), min_size=1, max_size=3), st.data())
def test_a_ballot_has_one_vote_a_row(rows: list[int], data: st.DataObject) -> None:
    ballot = Ballot(tuple(rows))
    places = [data.draw(st.integers(0, n - 1)) for n in rows]
    bits = torch.cat([torch.arange(n) == place for n, place in zip(rows, places, strict=True)]).long()
    assert residue(ballot, bits) == 0
    twice = bits.clone()
    twice[data.draw(st.integers(0, len(bits) - 1))] += data.draw(st.sampled_from([1, -1, 5]))
    assert residue(ballot, twice) != 0


def test_two_wrongs_of_one_ballot_do_not_make_a_right() -> None:
    """-1 and 2 sum to 1, but are no bits."""
    assert residue(Ballot((3,)), words([-1, 2, 0])) != 0


# ----------------------------------------------------------------------------------------- votes are as good as numbers


@given(st.lists(st.floats(0.6, 0.999), min_size=5, max_size=60))
def test_centres_from_votes_are_those_of_the_numbers_up_to_a_bin(values: list[float]) -> None:
    votes = torch.stack([vote("profile", value) for value in values]).sum(0).double()
    low, high, count = BINS["profile"]
    exact = torch.tensor(values, dtype=torch.float64)
    ordered = exact.sort().values
    place = 0.6 * (len(values) - 1)
    gap = float(ordered[min(int(place) + 1, len(values) - 1)] - ordered[max(int(place) - 1, 0)])
    assert abs(centre("profile", votes) - float(quantile(exact, 0.6))) <= gap + (high - low) / count


def test_quantiles_of_votes_by_hand() -> None:
    values, weights = words([3, 1, 2]).double(), torch.tensor([1.0, 1.0, 2.0]).double()
    assert [quantile_of(values, weights, q) for q in (0.1, 0.25, 0.5, 0.75, 0.76, 1.0)] == [1, 1, 2, 2, 3, 3]
    assert quantile_of(values, weights, 0.5, width=0.4) == pytest.approx(2.0)  # half of what lies at 2
    assert quantile_of(values, weights, 0.75, width=0.4) == pytest.approx(2.2)
    votes = vote("direction", 0.5).double() * 10
    middle = float(middles("direction")[vote("direction", 0.5).argmax()])
    found = threshold("direction", votes, 2.0)
    assert found == pytest.approx(middle + 0.1 / 32 - 2 * 0.15)  # nobody differs: the floor


# ------------------------------------------------------------------------------------------------ before real parties


@pytest.fixture(scope="module")
def session(two_parties: Parties) -> Iterator[Session]:
    with Session(two_parties) as session:
        yield session


def shared(session: Session, statement: Passes, rows: list[Tensor], counts: list[int]) -> HiddenRows:
    both = torch.stack([torch.cat([row, words([b])]) for row, b in zip(rows, counts, strict=True)])
    return HiddenRows.share(session, both, tuple(range(len(rows))))


def proved(session: Session, statement: Passes, rows: list[Tensor], counts: list[int]) -> tuple[HiddenRows, Any]:
    hidden = shared(session, statement, rows, counts)
    return hidden, hidden.prove(statement, lambda row: statement.witness(row[:-1], int(row[-1])))


@pytest.mark.parametrize("seed", range(10, 13))
def test_parties_find_the_liar_and_reveal_the_sum_of_the_others(two_parties: Parties, seed: int) -> None:
    statement, row = passing(seed)
    zero = torch.zeros_like(row)
    with Session(two_parties) as session:
        hidden, failed = proved(session, statement, [row, -row, zero, row // 2, row], [1, 1, 0, 1, 0])
        assert failed == (1, 4)
        assert hidden.clients == (0, 2, 3)
        assert hidden.count() == 2
        assert torch.equal(hidden.total(words([5, 7, 3]))[:-1], 5 * row + 3 * (row // 2))
        hidden.forget()


def test_three_parties_agree(three_parties: Parties) -> None:
    statement, row = passing(10)
    with Session(three_parties) as session:
        hidden, failed = proved(session, statement, [row, row, -row], [1, 1, 1])
        assert failed == (2,)
        assert hidden.count() == 2
        assert torch.equal(hidden.total(words([1, 1]))[:-1], 2 * row)


def test_who_knew_the_challenges_could_lie(two_parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubt: a client that knows e puts its lie right with c_0; drawn afterwards, it does not help."""
    statement, row = passing(10)
    e, send = 12345, HiddenRows._send

    def adapted(self: HiddenRows, op: str, client: int, content: Tensor, **more: Any) -> None:
        if op == "ends" and client == 1:
            lie = residue(statement, vector_of(statement, -row, 1), seed=e)
            content = fold(content + words([lie * e % P * e % P, 0]))
        send(self, op, client, content, **more)

    monkeypatch.setattr(HiddenRows, "_send", adapted)
    for known, found in ((True, ()), (False, (1,))):
        draws = iter([e, e if known else 54321])
        monkeypatch.setattr(hidden_rows, "draw", lambda: next(draws))  # noqa: B023
        with Session(two_parties) as session:
            assert proved(session, statement, [row, -row, row], [1, 1, 1])[1] == found


def refused(where: Parties, message: str, act: Any) -> None:
    statement, row = passing(10)
    with Session(where) as session, pytest.raises(SecureSumError, match=message):
        act(session, statement, [row, row, torch.zeros_like(row)])


def test_parties_refuse_what_would_tell_more(two_parties: Parties) -> None:
    def unproved(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        shared(session, statement, rows, [1, 1, 0]).total(words([1, 1, 1]))

    def one_counts(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows[1:], [1, 0])
        assert hidden.count() == 1
        hidden.total(words([1, 1]))

    def uncounted(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        proved(session, statement, rows, [1, 1, 0])[0].total(words([1, 1, 1]))

    def others(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, [*rows, rows[0]], [1, 1, 0, 1])
        hidden.count()
        replace(hidden, clients=(0, 1)).total(words([1, 1]))

    def twice(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        hidden.count()
        hidden.total(words([1, 1, 1]))
        hidden.total(words([1, 2, 1]))

    def weighted_out(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        hidden.count()
        hidden.total(words([1, 0, 1]))

    def count_twice(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        hidden.count()
        replace(hidden, clients=(0, 1)).count()

    def check_twice(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden, _ = proved(session, statement, rows, [1, 1, 0])
        session._tell({"op": "check", "batch": hidden.batch, "clients": [0], "seed": 1, "e": 2})
        hidden._answer()

    def product(session: Session, statement: Passes, rows: list[Tensor]) -> None:
        hidden = shared(session, statement, rows, [1, 1, 0])
        vector = torch.ones(SENT + 1, dtype=torch.int64)
        header = {"op": "products", "batch": hidden.batch, "vectors": 1, "dtype": "<i8"}
        session._tell(header, hidden_rows.raw(vector))
        hidden._answer()

    refused(two_parties, "refuses to sum 3 hidden rows, 3 of them without a proof", unproved)
    refused(two_parties, "in which fewer than 2 clients count", one_counts)
    refused(two_parties, "in which fewer than 2 clients count", uncounted)
    refused(two_parties, "other hidden rows than those that were counted", others)
    refused(two_parties, "that is not the first", twice)
    refused(two_parties, "refuses to leave a hidden row out of a sum by its weight", weighted_out)
    refused(two_parties, "refuses to count hidden rows twice", count_twice)
    refused(two_parties, r"proofs of clients \[0\], and does not hold all of them", check_twice)
    refused(two_parties, "refuses products with hidden rows", product)


class Careless(HiddenRows):
    """Client 0 means another statement, client 1 sends too little to one party, client 2 ends its proof twice."""

    def _send(self, op: str, client: int, content: Tensor, **more: Any) -> None:
        if (op, client) == ("witness", 0):
            more["digest"] = "what the server showed client 0"
        if (op, client) != ("witness", 1):
            super()._send(op, client, content, **more)
        else:
            header = {"op": op, "batch": self.batch, "client": client, **more}
            shares = split_elements(content, 2)
            self.session._from_client(header, [shares[0], shares[1][:-1]])
        if (op, client) == ("ends", 2):
            super()._send(op, client, content, **more)


def test_incomplete_proofs_leave_their_clients_out_and_are_named(two_parties: Parties) -> None:
    statement, row = passing(10)
    with Session(two_parties) as session:
        hidden = Careless(**vars(shared(session, statement, [row] * 4, [1] * 4)))
        assert hidden.prove(statement, lambda own: statement.witness(own[:-1], int(own[-1]))) == (0, 1)
        assert hidden.events == (
            "party 0: client 0 proves another statement: not taken",
            "party 0: client 0 ended a proof wrongly, twice or unasked: not taken",
            "party 0: client 2 ended a proof wrongly, twice or unasked: not taken",
            "party 1: client 0 proves another statement: not taken",
            "party 1: client 1 sent a witness of wrong length, twice or unasked: not taken",
            "party 1: client 0 ended a proof wrongly, twice or unasked: not taken",
            "party 1: client 1 ended a proof wrongly, twice or unasked: not taken",
            "party 1: client 2 ended a proof wrongly, twice or unasked: not taken",
        )
        assert hidden.count() == 2
        assert torch.equal(hidden.total(words([1, 2]))[:-1], 3 * row)


# --------------------------------------------------------------------------------------------------------- whole rounds

LAYOUT = Layout.of(nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 10)))
SIZE = LAYOUT.size
AGREEMENT = AgreementWeighted(statistics=("profile", "size", "direction"))


def view_of(rows: Tensor, energy: Tensor, clients: list[int], mask: Tensor) -> RoundView:
    return RoundView(
        round=1,
        clients=torch.tensor(clients),
        samples=torch.tensor([10.0 + k for k in clients]),
        updates=rows * mask,
        weights=torch.ones(SIZE),
        mask=mask,
        guidance=Guidance(energy, torch.ones(SIZE)),
        layout=LAYOUT,
        shrinkage=torch.zeros(len(clients)),
    )


def start(energy: Tensor) -> Any:
    nobody = torch.zeros(0)
    exploration = Exploration(nobody.long(), nobody, torch.zeros(0, SIZE), energy, nobody, nobody.bool())
    return AGREEMENT.start(LAYOUT, torch.ones(SIZE), 12, exploration)


@pytest.mark.parametrize("seed", range(10, 13))
def test_rounds_follow_the_equations(session: Session, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    energy = torch.rand(SIZE, generator=draw) ** 5
    mask = (torch.rand(SIZE, generator=draw) < 0.8) | ~LAYOUT.prunable
    state, common, filtered = start(energy), torch.randn(SIZE, generator=draw), 0
    for _ in range(6):
        clients = torch.randperm(12, generator=draw)[:6].sort().values.tolist()
        rows = energy.sqrt() * (common + torch.randn(6, SIZE, generator=draw))
        for i, k in enumerate(clients):
            rows[i] = {1: rows[i] + 0.6 * torch.randn(SIZE, generator=draw), 2: 9 * rows[i], 3: -rows[i]}.get(
                k, rows[i]
            )
        obeys = torch.tensor([k != 3 for k in clients])
        view = view_of(rows, energy, clients, mask)
        found = score_hidden(session, AGREEMENT, state, view, obeys)
        assert found.aggregate is not None
        scores = found.aggregate.scores
        assert scores is not None
        assert set(scores.tolist()) <= {0.0, 1.0}
        filtered += int((scores == 0).sum())
        counts = torch.zeros(6)
        counts[found.taken] = scores
        norms = view.updates.norm(dim=1)
        after = found.aggregate.state
        assert isinstance(after, HiddenState)
        r = float(np.exp(-centre("size", after.votes["size"])))
        weights = view.samples * counts / (view.samples[found.taken].mean() * counts.sum())
        by_hand = weights @ (view.updates * (2 * r / norms).clamp(max=1)[:, None])
        torch.testing.assert_close(found.aggregate.delta, by_hand, rtol=0, atol=1e-4 * float(by_hand.abs().max()))
        named = [k for k in clients if f"client {k} gave a proof that does not hold: left out" in found.events]
        assert named == [k for k, taken in zip(clients, found.taken.tolist(), strict=True) if not taken]
        if bool(state.memory.any()) and 3 in clients:
            assert named == [3]  # it does not obey, and goes where nobody goes
        state = after
    assert filtered > 0


def test_alone_or_with_nobody_that_passes_there_is_no_step(session: Session) -> None:
    energy = torch.ones(SIZE)
    rows = torch.randn(1, SIZE, generator=torch.Generator().manual_seed(0))
    view = view_of(rows, energy, [4], torch.ones(SIZE, dtype=torch.bool))
    found = score_hidden(session, AGREEMENT, start(energy), view, torch.tensor([True]))
    assert found.aggregate is None
    assert found.events == ("no step: 1 clients passed, and their sum would hide nothing",)


def test_what_can_be_hidden() -> None:
    assert refusal(AGREEMENT) is None
    assert "a mean needs the sum only" in str(refusal(Mean()))
    assert "only agreement" in str(refusal(RadialAgreement(noise="norm")))
    assert "'landscape' cannot be proved on shares" in str(refusal(AgreementWeighted()))
    assert "set clip" in str(refusal(AGREEMENT.model_copy(update={"clip": None})))


def test_coalitions_see_uniform_elements_and_no_classes(three_parties: Parties) -> None:
    """What clients send in a round, at every party and at all but one together; and the attack on their shares."""
    draw = torch.Generator().manual_seed(10)
    energy, clients = torch.rand(SIZE, generator=draw) ** 2, list(range(10))
    own = torch.stack([torch.randperm(10, generator=draw)[:2] for _ in clients])
    rows = 0.1 * torch.randn(10, SIZE, generator=draw)
    marks = torch.zeros(10, 10).scatter(1, own, 1.0)
    for segment in LAYOUT:
        if segment.output:
            width = (segment.stop - segment.start) // 10
            rows[:, segment.slice] += marks[:, :, None].expand(10, 10, width).reshape(10, -1)
    view = view_of(rows, energy, clients, torch.ones(SIZE, dtype=torch.bool))
    with watched(three_parties) as (through, taps), Session(through) as session:
        score_hidden(session, AGREEMENT, start(energy), view, torch.ones(10, dtype=torch.bool))
    seen = [received(tap) for tap in taps]

    def hits(values: Tensor) -> int:
        guesses = class_scores(values.float(), LAYOUT).argsort(dim=1, descending=True)[:, :2]
        return int(marks.gather(1, guesses).sum())

    assert hits(rows) == 20
    for coalition in [*coalitions(3), (0,), (1,), (2,)]:
        for op in ("share", "witness"):
            parts = [[seen[rank].words(op)[k] for k in clients] for rank in coalition]
            joined = [sum(each, torch.zeros(1, dtype=torch.int64)) for each in zip(*parts, strict=True)]
            together = summed(torch.stack(joined))
            for place in range(7):  # the lowest 56 of 61 bits
                counts = np.bincount((together.flatten() >> 8 * place & 255).numpy(), minlength=256)
                assert stats.chisquare(counts).pvalue > 1e-7
            if op == "share":
                assert hits(signed(together[:, -SIZE - 1 : -1])) < 14  # chance is 4, with 14 or more once in 10^7
    assert int(scalar(P)) == 0
