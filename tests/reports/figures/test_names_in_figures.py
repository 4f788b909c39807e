"""Names in figures: none is cut so that two look alike, none covers a point, and axes speak the field's words."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.architecture import architecture
from autoflip_secure.reports.figures.defence import detection_roc, score_map
from autoflip_secure.reports.figures.pruning import importance
from autoflip_secure.reports.figures.style import Palette, drawing, percent, powers
from autoflip_secure.reports.figures.worst_case import heat_map, worst_bars
from autoflip_secure.reports.study.labels import in_lines, told_apart
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.study.worst_cases import worst_cases

Make = Callable[..., RunRecord]
LONG = "whole clients, server adds noise, no guarantee against the server, target ε "


def test_names_that_differ_at_their_ends_are_shown_with_their_ends() -> None:
    for names in ([f"{LONG}2", f"{LONG}8"], [f"a{LONG}2", f"b{LONG}2"], [f"a {LONG}x", f"b {LONG}x", f"a {LONG}y"]):
        short = told_apart(names)
        assert len(set(short.values())) == len(names)
        assert list(short) == names


def test_a_legend_of_long_levels_tells_them_apart(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    cells = [
        record("fedavg", partition["iid"], attack["clean"](), 0, rounds=2, label=f"{LONG}{level}") for level in (2, 8)
    ]
    found = study(cells)
    figure = Figure()
    Palette(found).legend(figure, found.algorithms)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(set(shown)) == 2


def test_lines_are_as_long_as_they_may_be_and_numbers_stay_with_their_units() -> None:
    text = in_lines(f"FedAvg · {LONG}8 · noise σ 0.5 on 20 %", 40)
    assert max(map(len, text.split("\n"))) <= 40
    assert "ε\u00a08" in text
    assert text.count("\n") == 2


def test_the_name_of_the_cut_stands_where_no_weight_lives(record: Make, partition: dict[str, Any], attack: Any):
    found = study([record("autoflip", partition["iid"], attack["clean"](), 0, rounds=2)])
    with drawing():
        picture = importance(found, Palette(found))
    assert picture is not None
    (named,) = re.findall(r'<text style="([^"]*)"[^>]*>T_p 0\.3</text>', picture.markup)
    assert "text-anchor: end" in named  # so it ends at the line; live weights are to the right of it


def test_areas_beside_rocs_are_in_ink(small: list[RunRecord]):
    found = study(small)
    with drawing():
        picture = detection_roc(found, Palette(found))
    assert picture is not None
    fills = re.findall(r'<text style="([^"]*)"[^>]*>AutoFLIP (?:&gt; )?\d\.\d\d</text>', picture.markup)
    assert fills
    assert all("var(--ink)" in fill or "fill" not in fill for fill in fills)


@pytest.mark.parametrize(("low", "high"), [(2e-5, 8e-5), (1.1e-4, 1.9e-4), (0.3, 2.0), (1e-6, 1e-2), (3.0, 90.0)])
def test_a_logarithmic_axis_of_any_range_has_names(low: float, high: float) -> None:
    with drawing():
        figure = Figure()
        ax = figure.subplots()
        ax.set_yscale("log")
        ax.plot([0, 1], [low, high])
        powers(ax)
        figure.draw_without_rendering()
        ticks = [*ax.yaxis.get_major_ticks(), *ax.yaxis.get_minor_ticks()]
    bottom, top = ax.get_ylim()
    named = {t.label1.get_text(): t.get_loc() for t in ticks if t.label1.get_text() and bottom <= t.get_loc() <= top}
    assert 2 <= len(named) <= 16
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    for text, value in named.items():
        times, _, power = text.rpartition(" · ")
        said = power if not power.startswith("10") or power == "10" else f"1e{power[2:].translate(raised)}"
        assert float(times or 1) * float(said) == pytest.approx(value)


def test_no_tick_says_less_than_nothing_or_more_than_all():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.set_ylim(-0.01, 1.01)
    left.set_yticks([-0.005, 0.0, 1.0, 1.005])
    right.set_ylim(-0.5, 0.5)
    percent(left)
    percent(right, signed=True)
    figure.canvas.draw()
    assert [label.get_text() for label in left.get_yticklabels()] == ["", "0 %", "100 %", ""]
    assert {"−40", "0", "+40"} <= {label.get_text() for label in right.get_yticklabels()}


def test_titles_and_ticks_of_long_names_tell_them_apart(
    record: Make, partition: dict[str, Any], attack: dict[str, Any]
) -> None:
    """Panels of two variants of an algorithm, and places of two attacks that differ at the end of their names."""
    names = [f"{'autoflip with a name that goes on ' * 2}{end}" for end in ("A", "B")]
    made = [
        record("autoflip", partition["iid"], attack["noise"](0.5), seed, rounds=3, label=name)
        for name in names
        for seed in (0, 1)
    ]
    cells = [
        one.model_copy(update={"cell": f"{one.cell}{end}", "config": {**one.config, "attack": own}})
        for one in made
        for end in "AB"
        for own in [{**one.config["attack"], "kind": f"{LONG}{end}"}]
    ]
    found = study(cells)
    worst, cards = worst_cases(found), Cards(found)
    with drawing():
        pictures = [
            heat_map(worst, cards), worst_bars(worst, Palette(found), cards), importance(found, Palette(found)),
            architecture(found, Palette(found)), score_map(found), detection_roc(found, Palette(found)),
        ]  # fmt: skip
    for picture in pictures:
        assert picture is not None
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", picture.markup)
        assert not [text for text in texts if text.endswith("…") and texts.count(text) > 1], picture.slug
        assert any(text.startswith("…") for text in texts), picture.slug
