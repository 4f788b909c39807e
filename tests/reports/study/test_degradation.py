"""Degradation in one number: by hand on planted accuracies, by properties, and told apart from what was not run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import at

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.degradation_curve import area, breakdown
from autoflip_secure.reports.statistics.paired import Verdict, holm
from autoflip_secure.reports.study.degradation import Line, degradations
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.summaries import degradation_rows, degradation_table

Make = Callable[..., RunRecord]
Curve = dict[float, list[float]]  # strength -> accuracy per seed


@pytest.fixture
def plant(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> Callable[..., list[Line]]:
    """Lines of a sweep over noise sigma with given accuracies per algorithm."""

    def lines(**algorithms: Curve) -> list[Line]:
        cells = []
        for name, curve in algorithms.items():
            for sigma, values in curve.items():
                config = attack["noise"](sigma) if sigma else attack["clean"]()
                for seed, value in enumerate(values):
                    cell = record(name, partition["iid"], config, seed, rounds=2)
                    cells.append(at(cell, value))
        return degradations(study(cells))

    return lines


def test_area_by_hand():
    # trapezoids: 0.1 wide at mean 0.85, 0.4 wide at mean 0.6; over a width of 0.5
    assert area([0, 0.1, 0.5], [0.9, 0.8, 0.4]) == pytest.approx((0.1 * 0.85 + 0.4 * 0.6) / 0.5)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.data())
def test_area_against_numpy_and_between_the_extremes(y: list[float], data: st.DataObject):
    steps = data.draw(st.lists(st.floats(0.01, 1), min_size=len(y) - 1, max_size=len(y) - 1))
    x = np.r_[0.0, np.cumsum(steps)]
    found = area(x.tolist(), y)
    assert found == pytest.approx(np.trapezoid(y, x) / x[-1])
    assert min(y) - 1e-9 <= found <= max(y) + 1e-9


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.9, 0.88, 0.86, 0.2], (0.2, True)),
        ([0.9, 0.8, 0.9, 0.9], (0.0, True)),  # it left the margin once: what comes after does not count
        ([0.9, 0.9, 0.95, 0.85], (0.5, False)),  # exactly at the margin is within
    ],
)
def test_breakdown_by_hand(accuracies: list[float], expected: tuple[float, bool]):
    assert breakdown([0, 0.1, 0.2, 0.5], accuracies, margin=0.05) == expected


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_margin_breaks_no_sooner(y: list[float], a: float, b: float):
    strengths = [float(i) for i in range(len(y))]
    assert breakdown(strengths, y, min(a, b))[0] <= breakdown(strengths, y, max(a, b))[0]


BASE: Curve = {0: [0.90, 0.92, 0.91], 0.1: [0.88, 0.89, 0.80], 0.5: [0.50, 0.60, 0.55]}
BETTER: Curve = {0: [0.90, 0.91, 0.91], 0.1: [0.89, 0.90, 0.90], 0.5: [0.80, 0.87, 0.88]}


def test_lines_against_numbers_by_hand(plant: Callable[..., list[Line]]):
    lines = plant(fedavg=BASE, autoflip=BETTER)
    along = {x.algorithm: x for x in lines if x.curve is not None}
    base, own = along["FedAvg"], along["AutoFLIP"]
    assert base.grid == own.grid == (0.0, 0.1, 0.5)

    def areas(curve: Curve) -> np.ndarray:
        clean, mild, hard = (np.array(v) for v in curve.values())
        return np.asarray(((clean + mild) / 2 * 0.1 + (mild + hard) / 2 * 0.4) / 0.5)

    assert base.area is not None
    assert own.area is not None
    assert own.area.against is not None
    assert base.area.value.mean == pytest.approx(areas(BASE).mean())
    np.testing.assert_allclose(own.area.against.differences, areas(BETTER) - areas(BASE))
    assert base.breakdown is not None
    assert base.breakdown.value.mean == pytest.approx((0.1 + 0.1 + 0.0) / 3)
    assert base.unbroken == 0
    assert own.breakdown is not None
    assert own.breakdown.value.mean == pytest.approx((0.1 + 0.5 + 0.5) / 3)  # two are censored at 0.5
    assert own.unbroken == 2
    assert own.worst is not None
    assert own.worst.against is not None
    np.testing.assert_allclose(own.worst.against.differences, [0.30, 0.27, 0.33])
    assert own.worst.against.verdict is Verdict.BETTER
    everything = {x.algorithm: x for x in lines if x.curve is None}
    assert everything["AutoFLIP"].over == "all 2 attacks"
    assert everything["AutoFLIP"].worst is not None
    assert everything["AutoFLIP"].worst.value == own.worst.value


def test_holm_is_over_every_test_of_the_table(plant: Callable[..., list[Line]]):
    lines = plant(fedavg=BASE, autoflip=BETTER, autoflip_plus=BETTER | {0.5: [0.81, 0.89, 0.87]})
    measures = [m for x in lines for m in (x.area, x.breakdown, x.worst) if m is not None and m.against is not None]
    pairs = [m.against for m in measures if m.against]
    assert [p.t_holm for p in pairs] == holm([p.p for p in pairs])
    assert len([p for p in pairs if p.t_holm is not None]) >= 6


def test_missing_strengths_are_said_and_compared_at_equal_ones(plant: Callable[..., list[Line]]):
    grid = {0.0: [0.9] * 3, 0.1: [0.8, 0.81, 0.8], 0.3: [0.7, 0.6, 0.7], 0.5: [0.5, 0.5, 0.6]}
    without = {x: v for x, v in grid.items() if x != 0.3}
    lines = plant(fedavg=grid, autoflip=without, guidance_only={0.5: [0.5] * 3})
    along = {x.algorithm: x for x in lines if x.curve is not None}
    own = along["AutoFLIP"]
    assert own.area is not None
    assert own.area.against is not None
    assert own.area.against.differences == pytest.approx((0.0, 0.0, 0.0))  # FedAvg without 0.3 too
    assert "0, 0.1, 0.5 only" in own.note
    few = along["guidance only"]
    assert (few.area, few.breakdown, few.worst) == (None, None, None)
    assert "too few strengths" in few.note


def test_one_seed_has_no_interval_and_no_word(plant: Callable[..., list[Line]]):
    one = [{x: v[:1] for x, v in c.items()} for c in (BASE, BETTER)]
    own = next(x for x in plant(fedavg=one[0], autoflip=one[1]) if x.algorithm == "AutoFLIP" and x.curve)
    for measure in (own.area, own.breakdown, own.worst):
        assert measure is not None
        assert measure.against is not None
        assert measure.value.low is None
        assert measure.against.verdict is Verdict.CANNOT_TELL
    row = degradation_rows([own])[0]
    assert row.area is not None
    assert row.area.interval == "no interval: one seed gives no interval"


def test_an_equal_step_of_few_seeds_is_no_equality(plant: Callable[..., list[Line]]):
    for n, word in ((5, Verdict.CANNOT_TELL), (6, Verdict.EQUAL)):
        curve = {0.0: [0.9] * n, 0.1: [0.9] * n, 0.5: [0.2] * n}
        own = next(x for x in plant(fedavg=curve, autoflip=curve) if x.algorithm == "AutoFLIP" and x.curve)
        assert own.breakdown is not None
        assert own.breakdown.against is not None
        assert own.breakdown.against.verdict is word


def test_never_reached_is_said_and_counts_as_the_last_strength(plant: Callable[..., list[Line]]):
    firm = {0.0: [0.9] * 3, 0.1: [0.9] * 3, 0.5: [0.89, 0.9, 0.88]}
    lines = plant(fedavg=BASE, autoflip=firm)
    rows = {r.line.algorithm: r for r in degradation_rows(lines) if r.line.curve is not None}
    cell = rows["AutoFLIP"].breakdown
    assert cell is not None
    assert (cell.value, cell.note) == ("> 0.5", "not reached up to 0.5 in 3 of 3 seeds")
    table = degradation_table(lines)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    found = dict(
        zip(table.columns, next(r for r in table.rows if r[2] == "AutoFLIP" and r[4] == "breakdown point"), strict=True)
    )
    assert found["value"] == pytest.approx(0.5)
    assert found["seeds within the margin to the end"] == 3


def test_without_fedavg_nothing_is_compared(plant: Callable[..., list[Line]]):
    lines = plant(autoflip=BETTER)
    assert lines
    assert all(m is None or m.against is None for x in lines for m in (x.area, x.breakdown, x.worst))


def test_without_clean_cells_there_is_no_curve(plant: Callable[..., list[Line]]):
    hard = {x: v for x, v in BASE.items() if x}
    assert [x.curve for x in plant(fedavg=hard, autoflip=hard)] == [None, None]  # only the worst case is left
