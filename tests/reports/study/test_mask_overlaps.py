"""Overlaps of final masks, counted weight by weight from planted ones, and what chance would give, by drawing."""

from __future__ import annotations

import base64
import itertools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autoflip_secure.records.final_model import ClassAccuracies, FinalMask
from autoflip_secure.records.run import LayerRecord, RunRecord
from autoflip_secure.reports.figures.mask_overlaps import mask_overlap
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.study.mask_overlaps import chance, overlaps
from autoflip_secure.reports.study.study import study

SIZES = (400, 1600)  # weights of the two hidden tensors


def masked(run: RunRecord, alive: np.ndarray, *, stable: bool = False) -> RunRecord:
    """``run`` with this final mask over two hidden tensors, and an output layer that is none."""
    ends = (0, SIZES[0], sum(SIZES))
    layers = [
        LayerRecord(
            name=f"{i}.weight", shape=[b - a, 1], hidden=True, weights=b - a, live_weights=int(alive[a:b].sum()),
            units=None, live_units=None,
        )
        for i, (a, b) in enumerate(itertools.pairwise(ends))
    ]  # fmt: skip
    output = layers[0].model_copy(update={"name": "out.weight", "hidden": False, "live_weights": 5})
    packed = base64.b64encode(zlib.compress(np.packbits(alive).tobytes())).decode()
    config = run.config | ({"measures": ["stability"]} if stable else {})
    change: dict[str, Any] = {
        "layers": [*layers, output],
        "mask": FinalMask(prunable=len(alive), bits=packed),
        "classes": ClassAccuracies(samples=[1], accuracy=[1.0]),
        "config": config,
    }
    return run.model_copy(update=change)


def drawn(seed: int, *shares: float) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return np.concatenate([draws.random(size) < share for size, share in zip(SIZES, shares, strict=True)])


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    both = sum(bool(a) and bool(b) for a, b in zip(one, other, strict=True))
    return both / sum(bool(a) or bool(b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def cell(
    record: Callable[..., RunRecord], partition: dict[str, Any], attack: dict[str, Any]
) -> Callable[..., RunRecord]:
    def make(seed: int, explorers: int | None = 10, malicious: Any = None) -> RunRecord:
        exploration = {"explorers": explorers, "epochs": 5}
        return record(
            "autoflip", partition["iid"], malicious or attack["clean"](), seed, rounds=3, exploration=exploration
        )

    return make


def test_pairs_of_seeds_are_counted_weight_by_weight(cell: Callable[..., RunRecord], attack: dict[str, Any]) -> None:
    masks = {seed: drawn(seed, 0.2, 0.6) for seed in range(4)}
    runs = [masked(cell(seed), mask) for seed, mask in masks.items()]
    attacked = [masked(cell(seed, malicious=attack["noise"](0.5)), drawn(9, 0.5, 0.5)) for seed in range(4)]
    (found,) = overlaps(study(runs + attacked))
    expected = [jaccard(a, b) for a, b in itertools.combinations(masks.values(), 2)]
    assert (found.between, found.algorithm, found.other, found.pairs) == ("seeds", "AutoFLIP", "", 6)
    assert (found.value.mean, found.lowest, found.highest) == pytest.approx(
        (np.mean(expected), min(expected), max(expected))
    )
    assert found.value.low is found.value.high is None
    assert found.chance == pytest.approx(found.value.mean, abs=0.02), "the masks were drawn at random"


def test_chance_is_what_random_masks_have(cell: Callable[..., RunRecord]) -> None:
    pair = masked(cell(0), drawn(0, 0.1, 0.8)), masked(cell(1), drawn(1, 0.5, 0.3))
    live = [[layer.live_weights for layer in run.layers[:2]] for run in pair]
    draws, values = np.random.default_rng(2), []
    for _ in range(300):
        places = [
            np.concatenate([draws.permutation(size) < count for size, count in zip(SIZES, counts, strict=True)])
            for counts in live
        ]
        values.append(jaccard(*places))
    assert chance(pair) == pytest.approx(np.mean(values), abs=0.002)


def test_numbers_of_explorers_are_compared_with_the_most_at_the_same_seed(cell: Callable[..., RunRecord]) -> None:
    masks = {(count, seed): drawn(100 * (count or 0) + seed, 0.3, 0.3) for count in (1, 5, None) for seed in range(3)}
    for seed in range(3):
        masks[5, seed] = masks[None, seed] | drawn(7, 0.05, 0.05)  # close to that of all
    runs = [masked(cell(seed, count), mask) for (count, seed), mask in masks.items()]
    found = {one.algorithm: one for one in overlaps(study(runs)) if one.between == "explorers"}
    assert set(found) == {"AutoFLIP · explorers 1", "AutoFLIP · explorers 5"}
    for count in (1, 5):
        one = found[f"AutoFLIP · explorers {count}"]
        expected = [jaccard(masks[count, seed], masks[None, seed]) for seed in range(3)]
        assert one.other == "AutoFLIP · explorers none"
        assert (one.value.mean, one.value.n, one.pairs) == pytest.approx((np.mean(expected), 3, 3))
        assert one.value.low is not None
    assert found["AutoFLIP · explorers 5"].value.mean > 0.8 > found["AutoFLIP · explorers 1"].value.mean
    with drawing():
        picture = mask_overlap(study(runs), Palette(study(runs)))
    assert picture is not None
    assert {row[0] for row in picture.table.rows} == {"seeds", "explorers"}
    assert 'data-series="AutoFLIP · explorers 5"' in picture.markup


def test_it_is_drawn_where_stability_was_measured_and_something_is_pruned(cell: Callable[..., RunRecord]) -> None:
    runs = [masked(cell(seed), drawn(seed, 0.2, 0.6)) for seed in range(3)]
    whole = [masked(cell(seed), np.ones(sum(SIZES), bool), stable=True) for seed in range(3)]
    measured = [masked(cell(seed), drawn(seed, 0.2, 0.6), stable=True) for seed in range(3)]
    with drawing():
        assert mask_overlap(study(runs), Palette(study(runs))) is None
        assert mask_overlap(study(whole), Palette(study(whole))) is None
        assert mask_overlap(study(measured[:1]), Palette(study(measured[:1]))) is None
        picture = mask_overlap(study(measured), Palette(study(measured)))
    assert picture is not None
    assert picture.slug == "mask-overlap"
