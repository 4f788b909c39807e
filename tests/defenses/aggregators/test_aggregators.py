"""All aggregators through one table: byzfl, equivariances, robustness, bad input, "is it on"."""

from itertools import combinations

import hypothesis.strategies as st
import pytest
import torch
from aggregator_cases import AGGREGATOR_CASES, PRE_CASES, Case, around_median, of_trimmed
from decided_rounds import LAYOUT, P, cohort, decided, near
from hypothesis import given, settings
from shared_rules import view
from sizes import sized
from torch import Tensor

from autoflip_secure.defenses.aggregators.krum import MultiKrum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.defenses.pre_aggregators.nnm import NNM
from autoflip_secure.federation.aggregating import aggregate
from autoflip_secure.federation.clients import LARGEST_NORM, usable_rows
from autoflip_secure.scenarios.config.tables import AGGREGATORS, PRE_AGGREGATORS

each = pytest.mark.parametrize("case", AGGREGATOR_CASES, ids=lambda case: case.kind)


def test_every_plug_in_has_a_case() -> None:
    assert {case.kind for case in AGGREGATOR_CASES} == set(AGGREGATORS)
    assert {case.kind for case in PRE_CASES} == set(PRE_AGGREGATORS)


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
    """NNM before F: 8 f/(n-f) (1 + kappa of F), Allouah et al. 2023."""
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
