"""All aggregators and pre-aggregators through one table: byzfl, equivariances, robustness, bad input, "is it on"."""

from itertools import combinations
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from aggregator_cases import AGGREGATOR_CASES, PRE_CASES, Case, PreCase, around_median, of_trimmed
from hypothesis import given, settings
from shared_rules import mixed, step, view
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.krum import MultiKrum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.defenses.pre_aggregators.nnm import NNM
from autoflip_secure.federation.aggregating import aggregate, start
from autoflip_secure.federation.clients import LARGEST_NORM, usable_rows
from autoflip_secure.federation.secure_updates import score_secretly
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, Guidance, RoundView
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.tables import AGGREGATORS, PRE_AGGREGATORS
from autoflip_secure.secure_rows.own_parties import OwnParties

LAYOUT = Layout.of(nn.Linear(6, 3))
P = LAYOUT.size
WEIGHTS = torch.randn(P, generator=torch.Generator().manual_seed(50))

each = pytest.mark.parametrize("case", AGGREGATOR_CASES, ids=lambda case: case.kind)
each_before = pytest.mark.parametrize("case", PRE_CASES, ids=lambda case: case.kind)


def test_every_plug_in_has_a_case() -> None:
    assert {case.kind for case in AGGREGATOR_CASES} == set(AGGREGATORS)
    assert {case.kind for case in PRE_CASES} == set(PRE_AGGREGATORS)


def cohort(n: int, seed: int) -> Tensor:
    """Rows that have something in common, as updates do."""
    return 0.5 + torch.randn(n, P, generator=torch.Generator().manual_seed(seed))


def shown(updates: Tensor, clients: Tensor | None = None) -> RoundView:
    plain = view(updates, of=LAYOUT)
    guidance = Guidance(torch.ones(P), torch.ones(P))
    here = plain.clients if clients is None else clients
    return RoundView(**{**vars(plain), "guidance": guidance, "weights": WEIGHTS, "clients": here})


def decided(aggregator: Aggregator, updates: Tensor, clients: Tensor | None = None) -> Aggregate:
    n = len(updates)
    ones, explored = torch.ones(n), 0.3 * WEIGHTS + cohort(n, 99)
    exploration = Exploration(torch.arange(n), ones, explored, explored.square().mean(0), ones, ones.bool())
    return aggregator.aggregate(aggregator.start(LAYOUT, WEIGHTS, n, exploration), shown(updates, clients))


def near(found: Tensor, expected: Tensor, **options: Any) -> None:
    torch.testing.assert_close(found, expected, **{"atol": 1e-4, "rtol": 1e-3, **options})


@pytest.mark.parametrize("case", [case for case in AGGREGATOR_CASES if case.oracle], ids=lambda case: case.kind)
@pytest.mark.parametrize(("n", "f"), [(5, 1), (7, 3), (10, 2)])
def test_equal_to_byzfl(case: Case, n: int, f: int) -> None:
    """The rules that byzfl lacks, or draws at random, are held to vectors alone: test_conformance.py."""
    assert case.oracle is not None
    rows = cohort(n, n)
    expected = torch.as_tensor(case.oracle(f)(rows.numpy().copy()))
    if case.kind == "mda" and n == 7:  # two subsets have one diameter, and theirs is the first
        taken = decided(case.make(f, n), rows).trust.nonzero().squeeze(1)
        diameters = {s: float(torch.pdist(rows[list(s)]).max()) for s in combinations(range(n), n - f)}
        assert diameters[tuple(taken.tolist())] == min(diameters.values())
        return
    near(decided(case.make(f, n), rows).delta, expected.float())


@each
@given(st.integers(1, 8), st.integers(0, 10**6))
@settings(max_examples=sized(8, 40))
def test_what_holds_of_all(case: Case, n: int, seed: int) -> None:
    rows = cohort(n, seed)
    before, aggregator = rows.clone(), case.make(1, 5)
    found = decided(aggregator, rows)
    assert torch.equal(rows, before), "nothing is changed in place"
    assert found.delta.isfinite().all()
    nobody = aggregator.scores_clients and not found.trust.any()  # then there is no step
    assert nobody == (not found.delta.any())
    assert float(found.trust.sum()) == pytest.approx(0 if nobody else 1, abs=1e-5)
    assert (found.trust >= 0).all()
    assert (found.scores is not None) == aggregator.scores_clients
    if case.hull:
        assert float(found.delta.norm()) <= float(rows.norm(dim=1).max()) * (1 + 1e-4)
    if n >= 5 or not isinstance(aggregator, MultiKrum):  # below, mutual neighbours tie
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        again = decided(aggregator, rows[order], order)
        near(again.delta, found.delta)
        near(again.trust, found.trust[order], atol=1e-3)
    same = rows[:1].expand(n, -1).clone()
    if not case.noise and not aggregator.scores_clients:  # scores may find all of them at fault
        near(decided(aggregator, same).delta, same[0])


@each
@given(st.integers(5, 9), st.integers(0, 10**6), st.floats(-3, 3))
@settings(max_examples=sized(6, 40))
def test_equivariances(case: Case, n: int, seed: int, power: float) -> None:
    rows, scale = cohort(n, seed), 10.0**power
    found = decided(case.make(1, n), rows).delta
    shift = torch.randn(P, generator=torch.Generator().manual_seed(seed + 1))
    if case.scale:
        near(decided(case.make(1, n), scale * rows).delta / scale, found, atol=1e-3)
    if case.translation:
        near(decided(case.make(1, n), rows + shift).delta, found + shift, atol=2e-3)


def test_the_equivariances_that_are_not_claimed_do_not_hold() -> None:
    for case in AGGREGATOR_CASES:
        rows, aggregator = cohort(6, 3), case.make(1, 6)
        rows[0] *= 10
        found = decided(aggregator, rows).delta
        if not case.translation:
            moved = decided(aggregator, rows + 5).delta - 5
            assert float((moved - found).abs().max()) > 1e-3, case.kind


@each
@pytest.mark.parametrize(("n", "f"), [(5, 2), (5, 1), (10, 2), (11, 5)])
def test_it_is_on(case: Case, n: int, f: int) -> None:
    """f rows far away, all alike: the mean follows them, a defence does not, down to n = 2f + 1."""
    rows = 1 + 0.01 * torch.randn(n, P, generator=torch.Generator().manual_seed(0))
    rows[:f] = 1e4 * torch.randn(P, generator=torch.Generator().manual_seed(1))
    found, mean = decided(case.make(f, n), rows).delta, rows.mean(0)
    if case.kind != "mean":
        assert float((found - mean).norm()) > 1, "differs from the mean"
    honest = rows[f:].mean(0)
    away = float((found - honest).norm() / honest.norm())
    if case.robust and not (case.kind == "agreement" and f > 1):  # 40 % is no minority to a 0.4-quantile of norms
        assert away < 2, away
    elif case.kind == "mean":
        assert away > 100, "the doubt"


@each
def test_no_row_that_the_server_lets_through_makes_it_fail(case: Case) -> None:
    """Rows that are not finite, or longer than 1e18, are left out before; the longest that is left does no harm."""
    rows = cohort(8, 4)
    rows[0], rows[1], rows[2] = torch.nan, torch.inf, 1e30
    rows[3] *= 0.99 * LARGEST_NORM / rows[3].norm()
    usable = usable_rows(rows)
    assert usable.tolist() == [False, False, False, True, True, True, True, True]
    found = decided(case.make(1, 5), rows[usable])
    assert found.delta.isfinite().all()
    assert found.trust.isfinite().all()


KAPPAS = [case for case in AGGREGATOR_CASES if case.kappa is not None]


def worst_ratio(found: Tensor, rows: Tensor, f: int) -> float:
    """Largest ‖F - mean_S‖² / (mean over S of ‖x - mean_S‖²) over all S of n - f rows: kappa of this input."""
    worst, wide, step_ = 0.0, rows.double(), found.double()
    for subset in combinations(range(len(rows)), len(rows) - f):
        own = wide[list(subset)]
        centre = own.mean(0)
        spread = float((own - centre).square().sum(1).mean())
        off = float((step_ - centre).square().sum())
        worst = max(worst, off / spread if spread > 1e-9 else 0.0)
    return worst


@st.composite
def attacked(draw: st.DrawFn) -> tuple[Tensor, int]:
    """Honest rows, and some that lie: far, near, or a mixture of the honest."""
    n, f = draw(st.sampled_from([(5, 1), (6, 2), (7, 2), (8, 3)]))
    seed, length = draw(st.integers(0, 10**6)), draw(st.sampled_from([0.1, 1.0, 2.0, 10.0, 1e3]))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, P, generator=generator)
    if draw(st.booleans()):
        rows[:, 3:] = 0  # few dimensions, where distances differ most
    lie = draw(st.sampled_from(["same", "apart", "against", "copies"]))
    if lie == "same":
        rows[:f] = length * rows[:1].clone()
    elif lie == "apart":
        rows[:f] *= length
    elif lie == "against":
        rows[:f] = -length * rows[f:].mean(0)
    else:
        rows[:f] = rows[f : f + 1].clone()
    return rows, f


@pytest.mark.parametrize("case", KAPPAS, ids=lambda case: case.kind)
@given(attacked())
@settings(max_examples=sized(12, 150))
def test_f_kappa_robustness(case: Case, drawn: tuple[Tensor, int]) -> None:
    rows, f = drawn
    n = len(rows)
    assert case.kappa is not None
    found = decided(case.make(f, n), rows).delta
    assert worst_ratio(found, rows, f) <= case.kappa(n, f) * (1 + 1e-3)


@given(attacked())
@settings(max_examples=sized(12, 150))
def test_mixing_makes_a_rule_as_good_as_its_bound_says(drawn: tuple[Tensor, int]) -> None:
    """NNM before F: 8 f/(n-f) (1 + kappa of F), Allouah et al. 2023 (quoted from memory)."""
    rows, f = drawn
    n = len(rows)
    for rule, kappa in ((TrimmedMean(bad_share=f / n, before=(NNM(),)), of_trimmed(n, f)),
                        (Median(before=(NNM(bad_share=f / n),)), around_median(n, f))):  # fmt: skip
        found = aggregate(rule, None, view(rows, of=LAYOUT), lambda _: torch.Generator()).delta
        assert worst_ratio(found, rows, f) <= 8 * f / (n - f) * (1 + kappa) * (1 + 1e-3)


def test_the_mean_has_no_kappa() -> None:
    rows = torch.randn(5, P, generator=torch.Generator().manual_seed(0))
    rows[0] *= 1e3
    assert worst_ratio(decided(Mean(), rows).delta, rows, 1) > 1e4


@each_before
@given(st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=sized(10, 60))
def test_what_holds_of_all_pre_aggregators(case: PreCase, n: int, seed: int) -> None:
    rows, one = cohort(n, seed), case.make()
    before, f = rows.clone(), one.assumed(n, None)
    found = mixed(one, rows, f)
    assert torch.equal(rows, before), "nothing is changed in place"
    assert len(found) == one.rows_after(n)
    assert one.keeps_clients == (one.rows_after(7) == 7)
    assert float(found.norm(dim=1).max()) <= float(rows.norm(dim=1).max()) * (1 + 1e-5)
    if case.scale:
        near(mixed(one, 7 * rows, f) / 7, found)
    if case.translation:
        near(mixed(one, rows + 1, f), found + 1, atol=1e-3)
    if case.permutation:
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        near(mixed(one, rows[order], f), found[order])
    same = rows[:1].expand(n, -1).clone()
    near(mixed(one, same, f), same[: len(found)])
    if not case.mixes:
        torch.testing.assert_close(torch.cosine_similarity(found, rows), torch.ones(n))


@pytest.mark.parametrize("case", [case for case in PRE_CASES if case.oracle], ids=lambda case: case.kind)
@pytest.mark.parametrize(("n", "f"), [(5, 1), (7, 3), (10, 2)])
def test_pre_aggregators_equal_byzfl(case: PreCase, n: int, f: int) -> None:
    assert case.oracle is not None
    rows = cohort(n, n) * torch.arange(1, n + 1)[:, None]
    near(mixed(case.make(), rows, f), torch.as_tensor(case.oracle(f)(rows.numpy().copy())).float())


@pytest.mark.parametrize("case", [case for case in PRE_CASES if case.changes], ids=lambda case: case.kind)
def test_a_pre_aggregator_is_on(case: PreCase) -> None:
    """One absurd row is not what comes out, and the mean of what comes out is where the claim is clipping."""
    rows = cohort(10, 0)
    rows[0] *= 1e4
    found = mixed(case.make(), rows, 2)
    assert found.shape != rows.shape or not torch.equal(found, rows)
    assert float(found.norm(dim=1).max()) < 0.6 * float(rows.norm(dim=1).max())


def test_all_together_in_every_order() -> None:
    """Every aggregator takes every pre-aggregator that it may have, and every pair of them."""
    rows = cohort(10, 6)
    for case in AGGREGATOR_CASES:
        for first, second in [(a, b) for a in PRE_AGGREGATORS for b in PRE_AGGREGATORS][:: sized(3, 1)]:
            before = (PRE_AGGREGATORS[first](), PRE_AGGREGATORS[second]())
            plain = case.make(1, 10)
            if (plain.remembers == "clients" and "bucketing" in (first, second)) or before[1].remembers:
                continue
            rule = plain.model_copy(update={"before": before})
            ones = torch.ones(10)
            explored = Exploration(torch.arange(10), ones, rows, ones.new_ones(P), ones, ones.bool())
            state = start(rule, LAYOUT, WEIGHTS, 10, explored)
            found = aggregate(rule, state, shown(rows), lambda k: torch.Generator().manual_seed(k))
            assert found.delta.isfinite().all(), (case.kind, first, second)
            assert found.trust.shape == (10,)
            assert float(found.trust.sum()) == pytest.approx(1, abs=1e-5)


def test_the_same_draws_give_the_same_noise_and_others_do_not() -> None:
    weak = next(case for case in AGGREGATOR_CASES if case.noise)
    rows = cohort(6, 1)
    clean = decided(weak.make().model_copy(update={"noise": 0.0}), rows).delta
    one, other = decided(weak.make(), rows).delta, decided(weak.make(), rows).delta
    assert torch.equal(one, other)
    added = one - clean
    assert float(added.norm()) == pytest.approx(0.1 * float(rows.norm(dim=1).median()), rel=0.7)
    seen = shown(rows)
    elsewhere = RoundView(**{**vars(seen), "generator": lambda *_: torch.Generator().manual_seed(77)})
    third = weak.make().aggregate(torch.full((6,), torch.nan), elsewhere).delta
    assert not torch.equal(one, third)


def test_norm_clip_remembers_how_long_updates_are() -> None:
    """A cohort of long rows alone is clipped to what was typical before."""
    rule = AGGREGATORS["norm_clip"]()
    state = rule.start(LAYOUT, WEIGHTS, 6, None)
    quiet, loud = cohort(3, 1), 100 * cohort(3, 2)
    first = rule.aggregate(state, shown(quiet))
    typical = np.exp(np.quantile(np.log(quiet.norm(dim=1).numpy()), 0.4))
    near(first.delta, torch.stack([r * min(1, typical / r.norm()) for r in quiet]).mean(0))
    second = rule.aggregate(first.state, shown(loud, torch.tensor([3, 4, 5])))
    logs = np.log(np.concatenate([quiet.norm(dim=1).numpy(), loud.norm(dim=1).numpy()]))
    bound = np.exp(np.quantile(logs, 0.4))
    assert bound < 10
    assert float(second.delta.norm()) <= bound * (1 + 1e-4)
    assert rule.typical_norm(second.state) == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize("kind", ["norm_clip", "weak_dp"])
def test_the_clipped_mean_is_the_same_on_shares(kind: str) -> None:
    rows, rule = cohort(6, 1), AGGREGATORS[kind]()
    rows[2] *= 20
    seen, draws = shown(rows), torch.Generator().manual_seed(0)
    state = rule.start(LAYOUT, WEIGHTS, 6, None)
    everybody, found = torch.ones(6, dtype=torch.bool), rule.aggregate(state, seen)
    scored = score_secretly(OwnParties(), rule, state, seen.public, rows, everybody, draws, None)
    assert scored.aggregate is not None
    near(scored.aggregate.delta, found.delta, atol=1e-3)
    near(scored.aggregate.trust, found.trust)
    assert scored.revealed.norms + scored.revealed.products <= 5, "one norm, and the four checks"


def test_dnc_draws_coordinates_where_there_are_more_than_it_takes() -> None:
    rows = cohort(10, 5)
    rows[0, 0] = 40.0  # seen by draws that have coordinate 0
    few = AGGREGATORS["dnc"](bad_share=0.1, coordinates=5, draws=30)
    trust = decided(few, rows).trust
    assert float(trust[0]) == 0
    assert 0 < int((trust > 0).sum()) < 10
    whole = AGGREGATORS["dnc"](bad_share=0.1)
    assert decided(whole, rows).trust.tolist() == pytest.approx([0] + [1 / 9] * 9)


def test_geometric_median_stands_still() -> None:
    rows = cohort(7, 1)
    once, again = (step(GeometricMedian(tolerance=t), rows, of=LAYOUT) for t in (1e-6, 1e-9))
    near(once, again, atol=1e-5)


def test_centered_clipping_by_hand() -> None:
    updates = torch.zeros(3, P)
    updates[0, 0], updates[1, 0], updates[2, 0] = 1.0, 2.0, 100.0
    assert float(step(CenteredClipping(), updates, of=LAYOUT)[0]) == pytest.approx((1 + 2 + 2) / 3)


def test_mean_weights_with_numbers_of_samples() -> None:
    updates = torch.stack([torch.zeros(P), torch.ones(P)])
    assert float(step(Mean(), updates, torch.tensor([1.0, 3.0]), of=LAYOUT)[0]) == 0.75
