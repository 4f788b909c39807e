"""Rounds with scores that nobody learns, through real parties, against the equations."""

from typing import Any

import numpy as np
import pytest
import torch
from party_views import coalitions, received, watched
from scipy import stats
from torch import Tensor, nn

from attacks.label_inference import class_scores
from autoflip_secure.agreement import AgreementWeighted
from autoflip_secure.interfaces import Exploration, Guidance, RoundView
from autoflip_secure.parameters import Layout
from autoflip_secure.radial import RadialAgreement
from defenses.anonymous_votes import centre
from defenses.crew import Parties
from defenses.hidden_scores import HiddenState, refusal, score_hidden
from defenses.mean import Mean
from defenses.prime_field import signed, summed
from defenses.secure_aggregation import Session

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
        assert found.watched is not None
        assert 0 < found.watched.error() < 1e-6  # entries are rounded to units of 2^-23 of the largest norm
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
