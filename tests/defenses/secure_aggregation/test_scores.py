"""Scores on secret rows: equal to the plain aggregators, and what liars and broken arithmetic change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from sizes import every, sized
from torch import Tensor, nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.agreement_statistics import STATISTICS
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.defenses.aggregators.krum import Krum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median
from autoflip_secure.errors import InputError
from autoflip_secure.federation.secure_clients import clipped, norm_bound, own_cosine, update_points
from autoflip_secure.federation.secure_updates import SecretUpdates, secure_aggregate
from autoflip_secure.interfaces import Aggregate, Exploration, Guidance, PublicView, RoundView
from autoflip_secure.models.layout import Layout
from autoflip_secure.secure_rows.secret_rows import LocalRows, SecretRows, Sketch

LAYOUT = Layout.of(nn.Sequential(nn.Linear(16, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 12), nn.Linear(12, 5)))
P, CLIENTS, COHORT = LAYOUT.size, 12, 6
AGREEMENT = AgreementWeighted(statistics=("profile", "size", "direction"))
CLAIMED = AgreementWeighted()
RADIAL = RadialAgreement(noise="norm")


def secret(
    updates: Tensor, bound: float, live: Tensor, clients: list[int], energy: Tensor | None = None
) -> SecretUpdates:
    points = update_points(bound, P)
    rows = clipped(updates, bound, live)
    owners = tuple(clients)
    root = None if energy is None else (energy * live).sqrt()
    claims = None if root is None else torch.tensor([own_cosine(row, root, live) for row in rows])
    return SecretUpdates(LocalRows(points.encode(rows, owners), owners), points, bound, claimed(claims))


def claimed(claims: Tensor | None) -> Any:
    """Clients that say these numbers, whatever they are asked."""
    return None if claims is None else lambda vector: claims


class Federation:
    """A server with plain rows and one with secret rows, side by side over several rounds."""

    def __init__(self, aggregator: Any, seed: int, width: int | None = None) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.aggregator, self.width = aggregator, width
        trainable = LAYOUT.trained
        self.energy = torch.rand(P, generator=self.draw) ** 5 * trainable
        self.weights = torch.randn(P, generator=self.draw)
        self.mask = (torch.rand(P, generator=self.draw) < 0.8) | ~LAYOUT.prunable
        nobody = torch.zeros(0)
        exploration = Exploration(nobody.long(), nobody, torch.zeros(0, P), self.energy, nobody, nobody.bool())
        self.plain = self.secure = aggregator.start(LAYOUT, self.weights, CLIENTS, exploration)

    def rows(self) -> tuple[Tensor, list[int]]:
        clients = torch.randperm(CLIENTS, generator=self.draw)[:COHORT].sort().values.tolist()
        rows = self.energy.sqrt() * (0.5 * self.weights + torch.randn(COHORT, P, generator=self.draw))
        for i, k in enumerate(clients):
            if k == 1:
                rows[i] += 0.5 * torch.randn(P, generator=self.draw)
            if k == 2:
                rows[i] *= 5
            if k == 3:
                rows[i] = -rows[i]
        return rows * self.mask, clients

    def views(self, rows: Tensor, clients: list[int]) -> tuple[RoundView, PublicView]:
        common: dict[str, Any] = {
            "round": 1,
            "clients": torch.tensor(clients),
            "samples": torch.tensor([10.0 + k for k in clients]),
            "weights": self.weights * self.mask,
            "mask": self.mask,
            "guidance": Guidance(self.energy, torch.ones(P)),
            "layout": LAYOUT,
            "shrinkage": torch.linspace(0, 0.05, len(clients)),
        }
        return RoundView(updates=rows, **common), PublicView(**common)

    def bound(self) -> float:
        return norm_bound(self.aggregator.typical_norm(self.secure), self.weights)

    def round(self) -> tuple[Aggregate, Aggregate]:
        rows, clients = self.rows()
        open_view, view = self.views(rows, clients)
        bound = self.bound()
        rows = clipped(rows, bound, view.live)
        plain = self.aggregator.aggregate(self.plain, replace(open_view, updates=rows.float()))
        asked = "landscape" in getattr(self.aggregator, "statistics", ())
        updates = secret(rows, bound, view.live, clients, self.energy if asked else None)
        secure = secure_aggregate(self.aggregator, self.secure, view, updates, self.draw, self.width)
        self.plain, self.secure = plain.state, secure.state
        return plain, secure


def flat(state: Any) -> dict[str, Any]:
    return {k: v for k, x in vars(state).items() for k, v in (x.items() if isinstance(x, dict) else [(k, x)])}


@pytest.mark.parametrize("aggregator", [AGREEMENT, CLAIMED, RADIAL], ids=["profile", "landscape", "radial"])
@pytest.mark.parametrize("seed", every(2, range(10, 14)))
def test_exact_scores_steps_and_memories_equal_the_plain_ones(aggregator: Any, seed: int) -> None:
    federation = Federation(aggregator, seed)
    filtered = 0
    for _ in range(8):
        plain, secure = federation.round()
        assert plain.scores is not None
        assert secure.scores is not None
        filtered += int((plain.scores < 0.5).sum())
        torch.testing.assert_close(secure.scores, plain.scores, rtol=0, atol=2e-3)
        torch.testing.assert_close(secure.trust, plain.trust, rtol=0, atol=2e-3)
        torch.testing.assert_close(secure.delta, plain.delta, rtol=0, atol=2e-3 * float(plain.delta.abs().max()))
        for name, value in plain.statistics.items():
            torch.testing.assert_close(secure.statistics[name], value, rtol=1e-3, atol=1e-3, equal_nan=True)
        for name, value in flat(plain.state).items():
            torch.testing.assert_close(flat(secure.state)[name], value, rtol=1e-3, atol=1e-3, equal_nan=True)
    assert filtered > 0  # something was there to be scored


@pytest.mark.parametrize("aggregator", [AGREEMENT, RADIAL], ids=["profile", "radial"])
def test_sketched_scores_are_near_the_exact_ones(aggregator: Any) -> None:
    federation = Federation(aggregator, 10, width=4096)
    gaps = []
    for _ in range(6):
        plain, secure = federation.round()
        assert plain.scores is not None
        assert secure.scores is not None
        gaps.append((plain.scores - secure.scores).abs())
    assert float(torch.cat(gaps).mean()) < 0.05


class Unsigned(LocalRows):
    """A sketch without signs: entries of one bucket no longer cancel."""

    def squared_norms(self, sketch: Sketch | None = None, starts: Tensor | None = None) -> Tensor:
        assert sketch is not None
        return super().squared_norms(replace(sketch, signs=sketch.signs.abs()), starts)


def score(
    rows: SecretRows, federation: Federation, clients: list[int], updates: SecretUpdates, width: int
) -> Aggregate:
    _, view = federation.views(torch.zeros(len(clients), P), clients)
    return secure_aggregate(
        AGREEMENT, federation.secure, view, replace(updates, rows=rows), torch.Generator().manual_seed(1), width
    )


def test_a_sketch_without_signs_is_noticed() -> None:
    federation = Federation(AGREEMENT, 10)
    rows, clients = federation.rows()
    rows, live = rows.abs(), federation.mask & LAYOUT.trained
    updates = secret(rows, federation.bound(), live, clients)
    assert isinstance(updates.rows, LocalRows)
    true = -(rows * live).norm(dim=1).log()
    right = score(updates.rows, federation, clients, updates, 64).statistics["size"]
    broken = score(Unsigned(updates.rows.values, updates.rows.clients), federation, clients, updates, 64)
    assert float((right - true).abs().max()) < 0.15
    assert float((broken.statistics["size"] - true).abs().min()) > 0.15


def test_truncation_or_a_lost_bit_is_noticed() -> None:
    """The doubt of the equality test: 16 bits truncated, as an MPC library does by default, do not pass."""
    federation = Federation(AGREEMENT, 10)
    rows, clients = federation.rows()
    rows = rows * 1e-4  # as small as late updates are
    view = federation.views(rows, clients)[1]
    bound = float(rows.norm(dim=1).max())
    updates = secret(rows, bound, view.live, clients)
    assert isinstance(updates.rows, LocalRows)
    draws = torch.Generator().manual_seed(2)
    right = secure_aggregate(AGREEMENT, federation.secure, view, updates, draws, None).statistics["size"]
    lost = updates.points.bits - 16
    coarse = LocalRows((updates.rows.values >> lost) << lost, updates.rows.clients)
    wrong = secure_aggregate(AGREEMENT, federation.secure, view, replace(updates, rows=coarse), draws, None)
    true = -(rows * view.live).norm(dim=1).log()
    torch.testing.assert_close(right, true, rtol=0, atol=1e-5)
    assert float((wrong.statistics["size"] - true).abs().max()) > 1e-3


@pytest.mark.parametrize("aggregator", [AGREEMENT, RADIAL], ids=["agreement", "radial"])
@pytest.mark.parametrize("lie", ["multiples of 2^32", "100 B", "random"])
def test_a_row_that_would_wrap_around_is_filtered_and_leaves_no_memory(aggregator: Any, lie: str) -> None:
    federation = Federation(aggregator, 11)
    rows, clients = federation.rows()
    view = federation.views(rows, clients)[1]
    bound = federation.bound()
    updates = secret(rows, bound, view.live, clients)
    assert isinstance(updates.rows, LocalRows)
    liar = updates.rows.values[3]
    if lie == "multiples of 2^32":
        liar.copy_(2**32 * torch.randint(-9, 10, (P,), generator=federation.draw))
        assert int((liar * liar).sum()) == 0  # its norm alone would say: nothing to see
    elif lie == "100 B":
        liar.copy_((100 * bound * 2.0**updates.points.bits * nn.functional.normalize(rows[3], dim=0)).long())
    else:
        liar.copy_(torch.randint(-(2**62), 2**62, (P,), generator=federation.draw))
    result = secure_aggregate(aggregator, federation.secure, view, updates, federation.draw)
    assert result.scores is not None
    assert float(result.scores[3]) == 0
    assert float(result.trust[3]) == 0
    assert float(result.trust.sum()) == pytest.approx(1)
    assert float(result.delta.norm()) <= bound
    memory = result.state.log_norms if isinstance(aggregator, AgreementWeighted) else result.state.radial
    assert bool(memory[clients[3]].isnan())


@given(st.integers(0, 10**6))
@settings(max_examples=sized(6, 25), deadline=None)
def test_claims_count_for_no_more_than_the_profile(seed: int) -> None:
    """A liar that claims an agreement of 1 gets the profile of its real update; one that claims nonsense gets 0."""
    federation = Federation(CLAIMED, seed)
    rows, clients = federation.rows()
    rows[0] = torch.randn(P, generator=federation.draw) * federation.mask
    view = federation.views(rows, clients)[1]
    bound = federation.bound()
    updates = secret(rows, bound, view.live, clients, federation.energy)
    assert updates.ask is not None
    claims = updates.ask(torch.zeros(P))
    honest = secure_aggregate(CLAIMED, federation.secure, view, updates, federation.draw, None)
    for nonsense in (torch.nan, -torch.inf, -5.0):
        claims[0] = nonsense
        result = secure_aggregate(CLAIMED, federation.secure, view, updates, federation.draw, None)
        assert float(result.statistics["landscape"][0]) == 0
        assert bool(result.delta.isfinite().all())
    claims[0] = torch.inf if seed % 2 else 1.0
    lying = secure_aggregate(CLAIMED, federation.secure, view, updates, federation.draw, None)
    start = Federation(AGREEMENT, seed).secure
    only = secure_aggregate(AGREEMENT, start, view, updates, federation.draw, None)
    assert float(lying.statistics["landscape"][0]) == pytest.approx(float(only.statistics["profile"][0]), abs=1e-4)
    assert float(lying.statistics["landscape"][0]) < 1
    torch.testing.assert_close(lying.statistics["landscape"][1:], honest.statistics["landscape"][1:])


def test_a_sum_is_never_of_one_client() -> None:
    federation = Federation(AGREEMENT, 12)
    rows, clients = federation.rows()
    view = federation.views(rows, clients)[1]
    bound = federation.bound()
    updates = secret(rows, bound, view.live, clients)
    alone = replace(view, samples=torch.tensor([7.0] + [0.0] * (COHORT - 1)))
    result = secure_aggregate(AGREEMENT, federation.secure, alone, updates, federation.draw)
    assert float(result.delta.abs().max()) == 0
    assert float(result.trust.sum()) == 0


def test_the_bound_follows_what_is_public() -> None:
    federation = Federation(AGREEMENT, 10)
    assert federation.bound() == pytest.approx(4 * float(federation.weights.norm()))
    federation.round()
    typical = float(federation.secure.log_norms.nanquantile(0.4).exp())
    assert federation.bound() == pytest.approx(8 * typical, rel=1e-4)
    assert norm_bound(None, torch.zeros(P)) == 1.0


def test_capabilities() -> None:
    assert [a.obstacle() for a in (Mean(), AGREEMENT, CLAIMED, RADIAL)] == [None] * 4
    for aggregator in (Median(), Krum()):
        assert f"'{aggregator.kind}' needs every client's update" in str(aggregator.obstacle())
    assert "noise: norm" in str(RadialAgreement().obstacle())
    numbers = {"landscape", "profile", "size", "direction"}
    for name in STATISTICS:
        assert (AgreementWeighted(statistics=(name,)).obstacle() is None) == (name in numbers)


def test_what_is_impossible_is_refused_with_the_reason() -> None:
    federation = Federation(AGREEMENT, 10)
    rows, clients = federation.rows()
    view = federation.views(rows, clients)[1]
    updates = secret(rows, 50.0, view.live, clients)
    with pytest.raises(InputError, match=r"needs a number that clients state, and there is none"):
        secure_aggregate(CLAIMED, federation.secure, view, updates, federation.draw)
    with pytest.raises(InputError, match="statistic 'sign' compares single updates"):
        secure_aggregate(AgreementWeighted(statistics=("sign",)), federation.secure, view, updates, federation.draw)
