"""Strokes: nothing hides another, nothing is left out without a word."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures import costs as figures_costs
from autoflip_secure.reports.figures import style
from autoflip_secure.reports.figures.degradation import degradation
from autoflip_secure.reports.figures.drawing import LINES, dodge, draw_curves, fit_shares, fitting, spokesmen, spread
from autoflip_secure.reports.figures.privacy import _fit_points
from autoflip_secure.reports.figures.rounds import convergence
from autoflip_secure.reports.figures.sensitivity import sensitivity
from autoflip_secure.reports.figures.style import Palette, Picture, drawing
from autoflip_secure.reports.statistics.intervals import mean_interval
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]
PLACES = st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), max_size=8).map(sorted)


@given(PLACES, st.floats(0.01, 0.2))
def test_labels_are_spread_in_order_and_never_overlap(places: list[float], gap: float):
    found = spread(places, gap)
    assert len(found) == len(places)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(found))
    if all(b - a >= gap for a, b in pairwise(places)):
        assert found == pytest.approx(places)


@given(st.lists(PLACES.map(lambda xs: sorted(set(xs))), min_size=1, max_size=10))
def test_dodged_points_stay_nearest_to_their_own_level(xs: list[list[float]]):
    lines = {str(i): [(x, [0.5]) for x in places] for i, places in enumerate(xs)}
    shift = dodge(lines)
    levels = sorted({x for places in xs for x in places})
    assert set(shift) == {name for name, line in lines.items() if line}
    assert len(set(shift.values())) == len(shift) or len(levels) < 2
    half = min((b - a for a, b in pairwise(levels)), default=1.0) / 2
    assert all(abs(s) < half for s in shift.values())
    assert sum(shift.values()) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("strengths", "said"), [((0.01, 0.02, 1.0), True), ((0.25, 0.5, 1.0), False)])
def test_an_axis_that_is_not_to_scale_says_so(
    strengths: tuple[float, ...], said: bool, record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    attacks = [attack["clean"](), *map(attack["noise"], strengths)]
    found = study([record("fedavg", partition["iid"], one, seed, rounds=2) for one in attacks for seed in range(3)])
    with drawing():
        (picture,) = degradation(found, Palette(found))
    assert ("evenly spaced and not to scale" in picture.caption) == said


def test_scope_at_two_strengths_is_two_rows_of_panels(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    """Fig. 9c-d: mild and strong noise are never mixed in one line."""
    cells = [
        record(name, place, malicious, seed, rounds=2)
        for name in ("fedavg", "autoflip")
        for place in (partition["iid"], partition["two_classes"])
        for malicious in (attack["clean"](), *(attack["noise"](s, c) for s in (0.1, 0.5) for c in (0.1, 0.2, 0.4)))
        for seed in range(3)
    ]
    picture = only(cells, degradation)
    assert picture.slug == "degradation-gaussian-noise-scope"
    assert picture.markup.count("σ 0.1<") == picture.markup.count("σ 0.5<") == 2
    for fixed in ("σ 0.1", "σ 0.5"):
        for name in ("FedAvg", "AutoFLIP"):
            own = [r for r in picture.table.rows if [*r[:2], r[3]] == ["IID", fixed, name]]
            assert [r[4] for r in own] == [0.0, 0.1, 0.2, 0.4]
    mild, strong = (
        [r[5] for r in picture.table.rows if r[0] == "IID" and r[1] == fixed and r[3] == "FedAvg" and r[4] == 0.4]
        for fixed in ("σ 0.1", "σ 0.5")
    )
    own = [
        DEFAULT.accuracy(r) for r in cells
        if r.algorithm == "fedavg" and r.config["partition"]["kind"] == "iid"
        and r.config["attack"].get("sigma") == 0.5 and r.config["attack"]["scope"] == 0.4
    ]  # fmt: skip
    assert strong == [pytest.approx(100 * sum(own) / 3)]
    assert mild != strong


def only(cells: list[RunRecord], figure: Callable[..., Any]) -> Picture:
    found = study(cells)
    with drawing():
        drawn = figure(found, Palette(found))
    (picture,) = drawn if isinstance(drawn, list) else [drawn]
    return picture


def test_an_algorithm_at_one_level_has_no_line_and_the_reader_is_told(
    record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    levels = [attack["clean"](), attack["noise"](0.1), attack["noise"](0.5), attack["noise"](1.0)]
    cells = [
        record(n, partition["iid"], malicious, s, rounds=2)
        for n in ("fedavg", "autoflip")
        for malicious in levels
        for s in (0, 1)
    ]
    cells += [record("agreement_only", partition["iid"], levels[2], s, rounds=2) for s in (0, 1)]
    picture = only(cells, degradation)
    assert "agreement only" not in picture.markup
    assert "Run at one level only, so without a line (the table has it): agreement only." in picture.notes
    assert [r[4] for r in picture.table.rows if r[3] == "agreement only"] == [0.5]


def test_explorers_in_every_condition(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    """Fig. 11: a panel per condition, FedAvg as a level line, and the points are the means of the records."""
    cells = [
        record(name, place, malicious, seed, rounds=2, exploration={"explorers": n})
        for name, counts in (("fedavg", (1,)), ("autoflip", (1, 5, 20)))
        for n in counts
        for place in (partition["iid"], partition["two_classes"])
        for malicious in (attack["clean"](), attack["noise"](0.5))
        for seed in range(3)
    ]
    picture = only(cells, sensitivity)
    assert picture.slug == "sensitivity-exploration-explorers"
    rows = picture.table.rows
    assert len({r[0] for r in rows}) == 4
    assert [r[2] for r in rows if r[:2] == ["IID, no attack", "AutoFLIP"]] == [1.0, 5.0, 20.0]
    assert [r[1] for r in rows if r[2] == "any"] == ["FedAvg"] * 4
    own = [
        DEFAULT.accuracy(r) for r in cells
        if r.algorithm == "autoflip" and r.config["exploration"] == {"explorers": 5}
        and r.config["partition"]["kind"] == "iid" and r.config["attack"]["kind"] == "none"
    ]  # fmt: skip
    (found,) = (r[3] for r in rows if r[:3] == ["IID, no attack", "AutoFLIP", 5.0])
    assert found == pytest.approx(100 * sum(own) / 3)


def test_of_many_settings_the_middle_one_speaks(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [record("fedavg", partition["iid"], attack["clean"](), s, rounds=3) for s in (0, 1)]
    cells += [
        record(name, partition["iid"], attack["clean"](), s, rounds=3, threshold=t)
        for name in ("autoflip", "autoflip_plus")
        for t in (0.1, 0.2, 0.3, 0.4, 0.5)
        for s in (0, 1)
    ]
    assert spokesmen(study(cells)) == ["FedAvg", "AutoFLIP · T_p 0.3", "AutoFLIP plus · T_p 0.3"]
    assert len(spokesmen(study(cells[:6]))) == 3
    picture = only(cells, convergence)
    assert {r[2] for r in picture.table.rows} == set(study(cells).algorithms)
    assert any("3 of 11 algorithms are drawn at first" in n and "shows 8 more" in n for n in picture.notes)


def test_of_many_algorithms_eight_are_drawn_and_the_legend_has_the_others(
    record: Make, partition: dict[str, Any], attack: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    names = ["fedavg", "autoflip", "prunefl", "snip", "taylor", "fedtiny", "fedrts", "feddst", "erk", "magnitude"]
    known = ("fedavg", "autoflip")
    cells = [
        record(
            name if name in known else "random_weights", partition["iid"], attack["clean"](), s, rounds=3, label=name
        )
        for name in names
        for s in (0, 1)
    ]
    found, picture = study(cells), only(cells, convergence)
    off = set(re.findall(r'data-series="([^"]*)" class="off"', picture.markup))
    assert off == set(found.algorithms[LINES:])
    assert LINES == 8
    assert off == set(re.findall(r'data-entry="([^"]*)" class="faded"', picture.markup))
    seen = set(re.findall(r'data-series="([^"]*)"(?! class)', picture.markup))
    assert seen == set(found.algorithms[:LINES])
    assert {row[2] for row in picture.table.rows} == set(found.algorithms)
    monkeypatch.setattr(style, "SVG_LIMIT", 1000)  # a picture without switches
    picture = only(cells, convergence)
    assert not picture.vector
    assert {row[2] for row in picture.table.rows} == set(found.algorithms[:LINES])
    assert any("8 of 10 algorithms are drawn (" in note for note in picture.notes)


def test_costs_of_a_later_partition_are_inside_the_picture(
    record: Make, partition: dict[str, Any], attack: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """The panels share their axis: what only the second one holds, at a higher cost, is seen too."""
    places = [("fedavg", "iid"), ("fedavg", "two_classes"), ("agreement_only", "two_classes")]
    cells = [record(name, partition[p], attack["clean"](), s, rounds=2) for name, p in places for s in range(3)]
    dear = [
        r.model_copy(update={"costs": r.costs.model_copy(update={"bytes": type(r.costs.bytes)(**_times(r, 3))})})
        if r.algorithm == "agreement_only"
        else r
        for r in cells
    ]
    seen: list[Figure] = []
    real = figures_costs.finish
    monkeypatch.setattr(figures_costs, "finish", lambda figure, *rest: seen.append(figure) or real(figure, *rest))
    found = study(dear)
    with drawing():
        picture = figures_costs.against_bytes(found, Palette(found))
    assert picture is not None
    points = [(float(r[4]), str(r[1])) for r in picture.table.rows]
    assert max(points)[1] == "agreement only"
    (figure,) = seen
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert low == 0
        assert max(points)[0] < high


def _times(record: RunRecord, factor: int) -> dict[str, int]:
    return {name: factor * value for name, value in record.costs.bytes.model_dump().items()}


def test_long_panel_titles_go_on_on_more_lines():
    assert fitting("IID · no attack", 3) == "IID · no attack"
    assert fitting("Dirichlet 0.3 · noise σ 0.5 on 20 %", 3) == "Dirichlet 0.3 ·\nnoise σ 0.5 on 20 %"
    title = "single samples, target ε 1, 100 % labels flipped on 20 %"
    assert (
        fitting(title, 2) == "single samples, target ε 1,\n100 % labels flipped on 20 %"
    )  # in halves, not at the first
    secure = "single samples, target ε 8 · everything through 2 parties"
    assert " ".join(fitting(secure, 4).split()) == secure  # nothing is cut off where three lines have room for it
    for columns in (1, 2, 3, 4):
        lines = fitting("word " * 60, columns).split("\n")
        assert len(lines) == 3
        assert lines[2].endswith("…")
        assert max(map(len, lines)) <= 70


def test_bars_of_shares_end_where_shares_end(small: list[RunRecord]):
    """Three seeds spread widely: the t interval leaves [0, 1], the bar does not; it is the one of the table."""
    ax = Figure().subplots()
    values = {"FedAvg": [(0.0, [0.99, 0.5, 0.9]), (1.0, [0.01, 0.3, 0.0])]}
    draw_curves(ax, Palette(study(small)), values)
    (drawn,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    for segment, (_, seeds) in zip(drawn.get_segments(), values["FedAvg"], strict=True):
        wide, shown = mean_interval(seeds), mean_interval(seeds, share=True)
        assert wide.low is not None
        assert wide.high is not None
        assert wide.low < 0 or wide.high > 1
        assert [y for _, y in segment] == pytest.approx([shown.low, shown.high])


def test_bars_of_differences_go_below_zero(small: list[RunRecord]):
    """An attack that may as well have helped: the bar of what it costs ends below zero, and the axis shows that end."""
    ax, seeds = Figure().subplots(), [0.03, -0.04, 0.02]
    draw_curves(ax, Palette(study(small)), {"FedAvg": [(0.0, seeds), (1.0, seeds)]}, share=False)
    (drawn,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    interval = mean_interval(seeds)
    assert interval.low is not None
    assert interval.low < 0
    for segment in drawn.get_segments():
        assert [y for _, y in segment] == pytest.approx([interval.low, interval.high])
    _fit_points(ax, seeds, [interval])
    low, high = ax.get_ylim()
    assert low < interval.low
    assert interval.high is not None
    assert high > interval.high


def test_the_axis_of_perfect_shares_ends_at_a_hundred_per_cent():
    ax = Figure().subplots()
    fit_shares(ax, [1.0, 1.0])
    low, high = ax.get_ylim()
    assert low < 0.98
    assert 1.0 < high <= 1.01
