"""All pre-aggregators through one table: byzfl, what holds of all, "is it on", and all together."""

import hypothesis.strategies as st
import pytest
import torch
from aggregator_cases import AGGREGATOR_CASES, PRE_CASES, PreCase
from decided_rounds import LAYOUT, WEIGHTS, P, cohort, near, shown
from hypothesis import given, settings
from shared_rules import mixed
from sizes import sized

from autoflip_secure.federation.aggregating import aggregate, start
from autoflip_secure.interfaces import Exploration
from autoflip_secure.scenarios.config.tables import PRE_AGGREGATORS

each_before = pytest.mark.parametrize("case", PRE_CASES, ids=lambda case: case.kind)


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
            if (plain.remembers in ("clients", "rows") and "bucketing" in (first, second)) or before[1].remembers:
                continue
            rule = plain.model_copy(update={"before": before})
            ones = torch.ones(10)
            explored = Exploration(torch.arange(10), ones, rows, ones.new_ones(P), ones, ones.bool())
            state = start(rule, LAYOUT, WEIGHTS, 10, explored)
            found = aggregate(rule, state, shown(rows), lambda k: torch.Generator().manual_seed(k))
            assert found.delta.isfinite().all(), (case.kind, first, second)
            assert found.trust.shape == (10,)
            assert float(found.trust.sum()) == pytest.approx(1, abs=1e-5)
