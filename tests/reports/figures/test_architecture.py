"""The pruned architecture: what is counted, when it is drawn, and that units and densities are the record's."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from autoflip_secure.records.run import LayerRecord, RunRecord
from autoflip_secure.reports.figures.architecture import architecture, parts
from autoflip_secure.reports.figures.pruning import layers
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]


def layer(name: str, shape: list[int], live_weights: int, live_units: int | None) -> LayerRecord:
    weights = 1
    for side in shape:
        weights *= side
    return LayerRecord(
        name=name,
        shape=shape,
        hidden=True,
        weights=weights,
        live_weights=live_weights,
        units=None if live_units is None else shape[0],
        live_units=live_units,
    )


@pytest.fixture
def pruned(record: Make, partition: dict[str, Any]) -> Callable[[list[LayerRecord]], RunRecord]:
    return lambda layers: record("autoflip", partition["iid"], {"kind": "none"}, 0).model_copy(
        update={"layers": layers}
    )


def test_densities_by_hand(pruned: Callable[[list[LayerRecord]], RunRecord]):
    conv, fc = layer("conv.weight", [4, 1, 3, 3], 18, 2), layer("fc.weight", [10, 4 * 25], 100, 10)
    found = parts([pruned([conv, fc])])
    assert [(p.name, p.units, p.live) for p in found] == [("input", 1, 1), ("conv", 4, 2), ("fc", 10, 10)]
    assert found[1].density == pytest.approx(18 / 36)
    assert found[1].inner == pytest.approx(1.0)  # two of four filters are left, and whole
    assert found[2].density == pytest.approx(100 / 1000)
    assert found[2].inner == pytest.approx(100 / 500)  # half of the columns belong to dead filters


def test_means_over_seeds(pruned: Callable[[list[LayerRecord]], RunRecord]):
    runs = [pruned([layer("a.weight", [8, 4], live, units)]) for live, units in ((16, 8), (8, 4))]
    found = parts(runs)
    assert (found[1].live, found[1].density, found[1].seeds) == (6, pytest.approx(12 / 32), 2)
    assert found[1].inner == pytest.approx((16 / 32 + 8 / 16) / 2)


def test_unknown_structure_has_no_parts(pruned: Callable[[list[LayerRecord]], RunRecord]):
    assert parts([pruned([layer("a.weight", [8, 4], 16, None)])]) == []
    assert parts([pruned([])]) == []


def test_drawn_for_algorithms_that_prune_and_only_for_them(small: list[RunRecord]):
    found = study(small)
    with drawing():
        picture = architecture(found, Palette(found))
        assert picture is not None
        unpruned = study([r for r in small if r.algorithm in ("fedavg", "agreement_only")])
        assert architecture(unpruned, Palette(unpruned)) is None
    assert {row[0] for row in picture.table.rows} == {"AutoFLIP", "AutoFLIP plus"}
    run = next(r for r in small if r.algorithm == "autoflip")
    rows = [row for row in picture.table.rows if row[0] == "AutoFLIP"]
    assert [row[3] for row in rows[1:]] == [x.units for x in run.layers]
    assert f"{run.layers[1].live_units} of {run.layers[1].units}" in picture.alt
    assert picture.vector


def test_a_deep_model_draws_its_first_layers_and_says_so(record: Make, partition: dict[str, Any]):
    deep = [layer(f"layer{i}.weight", [16, 16], 100, 12) for i in range(12)]
    cells = [record("autoflip", partition["iid"], {"kind": "none"}, 0).model_copy(update={"layers": deep})]
    found = study(cells)
    with drawing():
        picture = architecture(found, Palette(found))
    assert picture is not None
    assert any("first 8 of 13 layers" in note for note in picture.notes)
    assert len(picture.table.rows) == 13


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([f"layer{i}" for i in range(9)], [f"layer{i}" for i in range(9)]),
        ([f"features.{i // 9}.0.block.{i % 9}.0" for i in range(18)], [str(i) for i in range(1, 19)]),
        ([f"layer{i}" for i in range(53)], [str(i) for i in range(1, 54, 2)]),
    ],
)
def test_layers_of_deep_models_are_numbered_where_names_would_look_alike_or_touch(
    record: Make, partition: dict[str, Any], names: list[str], shown: list[str]
):
    deep = [layer(f"{name}.weight", [16, 16], 100, 12) for name in names]
    cells = [record("autoflip", partition["iid"], {"kind": "none"}, 0).model_copy(update={"layers": deep})]
    found = study(cells)
    with drawing():
        bars, bands = layers(found, Palette(found)), architecture(found, Palette(found))
    assert bars is not None
    assert bands is not None
    told = [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", bars.markup) if "%" not in text]
    assert [text for text in told if text in shown] == shown
    assert ("layer, by its place" in told) == (shown != names)
    assert [row[2] for row in bars.table.rows] == [f"{name}.weight" for name in names]
    under = re.findall(r"<text[^>]*>([^<]*)</text>", bands.markup)
    assert [text for text in under if text in ("1", "layer0")] == [("1" if "." in names[0] else "layer0")]
