"""Cells of a block are scored together, and each gets what it gets alone, to the bit; oracles are other libraries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from aggregator_cases import AGGREGATOR_CASES
from decided_rounds import LAYOUT, WEIGHTS, cohort, shown
from hypothesis import given, settings
from sizes import sized
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.agreement_statistics import STATISTICS
from autoflip_secure.algorithm.client_memory import exponential_mean, remembered_norms, typical
from autoflip_secure.algorithm.order_statistics import each, quantile, shares
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.aggregating import Question, aggregate, aggregate_cells, alike
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, PublicView, RoundView, RowReader
from autoflip_secure.seeds import Purpose, generator

SCORING = [
    AgreementWeighted(),
    AgreementWeighted(statistics=tuple(STATISTICS), clip=None),
    RadialAgreement(),
    RadialAgreement(noise="norm", tolerated_noise=0.01),
]
SHAPES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=6)


def same(one: Any, other: Any) -> None:
    """To the bit, NaN where NaN is."""
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    elif is_dataclass(one):
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert [*one] == [*other]
        for key, value in one.items():
            same(value, other[key])
    elif isinstance(one, (list, tuple)):
        for mine, yours in zip(one, other, strict=True):
            same(mine, yours)
    else:
        assert one == other or (one != one and other != other)  # noqa: PLR0124 - NaN


def begun(aggregator: Aggregator, clients: int, seed: int) -> Any:
    ones, explored = torch.ones(clients), 0.3 * WEIGHTS + cohort(clients, seed)
    found = Exploration(torch.arange(clients), ones, explored, explored.square().mean(0), ones, ones.bool())
    return aggregator.start(LAYOUT, WEIGHTS, clients, found)


def seen(count: int, clients: int, seed: int) -> RoundView:
    """Some of the clients; a few rows are long, or full of noise."""
    draw = torch.Generator().manual_seed(seed)
    here = torch.randperm(clients, generator=draw)[:count].sort().values
    rows = cohort(count, seed) * torch.exp(2 * torch.randn(count, 1, generator=draw))
    samples = torch.randint(1, 900, (count,), generator=draw).float()
    return replace(
        shown(rows, here), samples=samples, generator=lambda *more: generator(seed, Purpose.AGGREGATION, *more)
    )


def rounds(aggregator: Aggregator, shapes: Iterable[tuple[int, int]], seed: int) -> None:
    """Three rounds of cells of these shapes: (participants, clients beyond them)."""
    cells = [(count, count + absent, 1000 * seed + number) for number, (count, absent) in enumerate(shapes)]
    states = [begun(aggregator, clients, own) for _, clients, own in cells]
    for round_ in range(3):
        views = [seen(count, clients, own + 77 * round_) for count, clients, own in cells]
        together = aggregator.aggregate_cells(states, views)
        alone = [aggregator.aggregate(state, view) for state, view in zip(states, views, strict=True)]
        backwards = aggregator.aggregate_cells(states[::-1], views[::-1])[::-1]
        same(together, alone)
        same(together, backwards)
        states = [one.state for one in together]


@pytest.mark.parametrize("aggregator", SCORING, ids=lambda one: f"{one.kind}-{len(getattr(one, 'statistics', ''))}")
@given(SHAPES, st.integers(0, 10**6))
@settings(max_examples=sized(4, 150), deadline=None)
def test_scores_do_not_depend_on_the_other_cells(
    aggregator: Aggregator, shapes: list[tuple[int, int]], seed: int
) -> None:
    rounds(aggregator, shapes, seed)


@pytest.mark.parametrize("case", AGGREGATOR_CASES, ids=lambda case: case.kind)
@pytest.mark.parametrize("seed", range(sized(1, 10)))
def test_every_aggregator_gives_each_cell_what_it_gets_alone(case: Any, seed: int) -> None:
    rounds(case.make(1, 6), [(6, 0), (6, 4), (6, 0), (7, 1)], seed)


def test_cells_with_equal_rules_are_asked_together_and_come_back_in_order() -> None:
    asked = list[int]()

    class Noting(AgreementWeighted):
        def aggregate_cells(self, states: Any, views: Any) -> list[Aggregate]:
            asked.append(len(views))
            return super().aggregate_cells(states, views)

    rules = [Noting(), Mean(), Noting(), Noting(rho=0.1), Mean(weighting="equal"), Noting()]
    assert [places for _, places in alike(rules)] == [[0, 2, 5], [1], [3], [4]]
    states, views = [begun(rule, 7, n) for n, rule in enumerate(rules)], [seen(4, 7, n) for n in range(len(rules))]
    parts = list(zip(rules, states, views, strict=True))
    together = aggregate_cells([Question(*part, no_draws) for part in parts])
    assert asked == [3, 1]
    same(together, [aggregate(*part, no_draws) for part in parts])


def no_draws(place: int) -> torch.Generator:
    raise AssertionError(place)


class OwnDecision(AgreementWeighted):
    """From outside, written when cells were decided one by one."""

    def decide(self, state: Any, reader: RowReader, view: PublicView) -> Aggregate:
        found = super().decide(state, reader, view)
        return replace(found, delta=-found.delta)


class OwnAggregate(RadialAgreement):
    """The same, one floor above."""

    asked: ClassVar[list[int]] = []

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        self.asked.append(len(view.updates))
        return super().aggregate(state, view)


def test_a_subclass_that_decides_for_itself_is_asked_cell_by_cell() -> None:
    rule, states = OwnDecision(), [begun(OwnDecision(), 5, seed) for seed in range(3)]
    views = [seen(4, 5, seed) for seed in range(3)]
    plain = AgreementWeighted().aggregate_cells(states, views)
    for one, other in zip(rule.aggregate_cells(states, views), plain, strict=True):
        same(one.delta, -other.delta)
        same(one.state, other.state)
    states = [begun(OwnAggregate(), 5, seed) for seed in range(3)]
    same(OwnAggregate().aggregate_cells(states, views), RadialAgreement().aggregate_cells(states, views))
    assert OwnAggregate.asked == [4, 4, 4]


@given(st.integers(1, 6), st.integers(1, 70), st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=sized(15, 500), deadline=None)
def test_quantiles_of_several_populations(cells: int, clients: int, seed: int, q: float) -> None:
    """Against numpy's, and to the bit what each population gives alone; some are not seen, or none is."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(cells, clients, generator=draw)
    x[torch.rand(cells, clients, generator=draw) < 0.3] = torch.nan
    x[0] = torch.nan if seed % 3 == 0 else x[0]
    found = quantile(x, q)
    same(found, torch.stack([quantile(own, q) for own in x]))
    for own, one in zip(x.double().numpy(), found.tolist(), strict=True):
        known = own[~np.isnan(own)]
        if len(known):
            assert one == pytest.approx(float(np.quantile(known, q)), rel=1e-5, abs=1e-6)
        else:
            assert np.isnan(one)


@given(st.integers(1, 6), st.integers(1, 200), st.integers(0, 10**6))
@settings(max_examples=sized(15, 500), deadline=None)
def test_numbers_of_several_cells_are_those_of_each(cells: int, clients: int, seed: int) -> None:
    """Sums, logarithms and exponentials are where neighbours could show in the last bits."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(cells, clients, generator=draw) * torch.exp(5 * torch.randn(cells, 1, generator=draw))
    x[-1] = 0 if seed % 4 == 0 else x[-1]
    same(shares(x), torch.stack([shares(own.clone()) for own in x]))
    for function in (torch.log, torch.exp, lambda own: own.pow(4)):  # of these the last differs on AVX2 and AVX-512
        same(each(function, x), torch.stack([function(own.clone()) for own in x]))
    old = torch.where(x > x.mean(), torch.nan, x)
    here = torch.stack([torch.randperm(clients, generator=draw)[: max(1, clients // 2)] for _ in range(cells)])
    fresh = x.gather(1, here)
    parts = list(zip(old, here, fresh, strict=True))
    same(exponential_mean(old, here, fresh, 0.3), torch.stack([exponential_mean(*part, 0.3) for part in parts]))
    memory = remembered_norms(old, here, fresh, 0.3)
    same(memory, torch.stack([remembered_norms(*(one.clone() for one in part), 0.3) for part in parts]))
    same(typical(memory), torch.stack([typical(own) for own in memory]))
