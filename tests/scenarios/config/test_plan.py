"""Grids against itertools; blocks fixed by the scenario alone."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.grid import Axes, assignments
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.scenarios.config.plan import BLOCK_CELLS, plan


def read(text: str) -> LoadedScenario:
    return resolve(Document.parse(text, "s.yaml"))


def points(text: str) -> list[tuple[object, ...]]:
    return [(*c.axes.values(), c.seed) for c in read(text).cells]


def test_product_is_every_combination_with_every_seed() -> None:
    found = points("seeds: [1, 2]\nsweep: {product: {rounds: [3, 4], cohort: [5, 6, 7]}}")
    assert found == [(r, c, s) for r, c in product([3, 4], [5, 6, 7]) for s in [1, 2]]


def test_zip_goes_in_step_inside_a_product() -> None:
    found = points("seeds: [1]\nsweep:\n  product: {rounds: [3, 4]}\n  zip: {clients: [10, 20], cohort: [5, 6]}")
    assert found == [(r, n, c, 1) for r in [3, 4] for n, c in [(10, 5), (20, 6)]]


def test_a_list_is_the_union_without_duplicates() -> None:
    scenario = read("seeds: [1]\nsweep:\n  - product: {rounds: [3, 4]}\n  - product: {rounds: [4, 5]}")
    assert [c.settings.rounds for c in scenario.cells] == [3, 4, 5]
    assert len({c.key for c in scenario.cells}) == 3


def test_shorter_paths_are_applied_first_however_they_are_written() -> None:
    text = "seeds: [1]\nsweep: {product: {algorithm.pruner.threshold: [0.1, 0.4], algorithm: [autoflip, budget_only]}}"
    found = {
        (c.settings.algorithm.name, c.settings.algorithm.pruner.model_dump()["threshold"]) for c in read(text).cells
    }
    assert found == set(product(["autoflip", "budget_only"], [0.1, 0.4]))


def test_axes_of_whole_plugins_are_kept_as_written() -> None:
    text = "seeds: [1]\nsweep: {product: {attack: [none, {kind: label_flip, share: 0.3}], partition: [iid]}}"
    assert [c.axes for c in read(text).cells] == [
        {"attack": "none", "partition": "iid"},
        {"attack": {"kind": "label_flip", "share": 0.3}, "partition": "iid"},
    ]


def test_one_cell_does_not_leak_into_the_next() -> None:
    text = (
        "seeds: [1]\nattack: gaussian_noise\nsweep:\n"
        "  - product: {attack.sigma: [9.0]}\n  - product: {rounds: [7]}\n  - product: {attack.scope: [0.9]}"
    )
    found = [(c.settings.attack.model_dump(include={"sigma", "scope"}), c.settings.rounds) for c in read(text).cells]
    assert found == [
        ({"sigma": 9.0, "scope": 0.2}, 60),
        ({"sigma": 0.5, "scope": 0.2}, 7),
        ({"sigma": 0.5, "scope": 0.9}, 60),
    ]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1))
def test_size_of_a_product(axes: dict[str, list[int]]) -> None:
    found = [tuple(a.axes[path] for path in axes) for a in assignments(Axes(product=axes))]
    assert found == list(product(*axes.values()))


# ------------------------------------------------------------------------------------------------ blocks


def test_blocks_hold_every_cell_once_and_are_of_the_fixed_size() -> None:
    work = plan(read("seeds: {first: 0, count: 9}\nsweep: {product: {cohort: [3, 4, 5]}}"))
    assert [len(b.cells) for b in work.blocks] == [BLOCK_CELLS, BLOCK_CELLS, 27 - 2 * BLOCK_CELLS]
    assert sorted(work.keys) == sorted(
        c.key for c in read("seeds: {first: 0, count: 9}\nsweep: {product: {cohort: [3, 4, 5]}}").cells
    )


def test_blocks_for_a_gpu_are_large_and_those_of_auto_the_same_on_every_machine() -> None:
    many = "seeds: {first: 0, count: 600}\ndevice: "
    sizes = {one: [len(b.cells) for b in plan(read(many + one)).blocks] for one in ("cpu", "auto", "cuda")}
    assert sizes == {"cpu": [12] * 50, "auto": [12] * 50, "cuda": [512, 88]}


@pytest.mark.parametrize(
    "path",
    [
        "rounds",
        "model.hidden",
        "training.lr",
        "training.epochs",
        "exploration.epochs",
        "exploration.patience",
        "trainer",
        "data",
    ],
)
def test_what_cannot_be_one_program_is_not_in_one_block(path: str) -> None:
    values = {
        "rounds": "[3, 4]",
        "model.hidden": "[[4], [5]]",
        "training.lr": "[0.1, 0.2]",
        "training.epochs": "[1, 2]",
        "exploration.epochs": "[1, 2]",
        "exploration.patience": "[1, null]",
        "trainer": "[stacked, sequential]",
        "data": "[digits, {kind: digits, train_samples: 100}]",
    }
    work = plan(read(f"seeds: [1, 2]\nsweep: {{product: {{{path}: {values[path]}}}}}"))
    assert [len(b.cells) for b in work.blocks] == [2, 2]


@pytest.mark.parametrize(
    "axis",
    [
        "partition: [iid, dirichlet]",
        "attack: [none, label_flip]",
        "algorithm: [fedavg, autoflip_plus]",
        "clients: [10, 20]",
    ],
)
def test_what_can_be_one_program_is_in_one_block(axis: str) -> None:
    work = plan(read(f"seeds: [1, 2]\nsweep: {{product: {{{axis}}}}}"))
    assert [len(b.cells) for b in work.blocks] == [4]


def test_blocks_are_the_same_every_time() -> None:
    text = "sweep: {product: {algorithm: [fedavg, autoflip], rounds: [3, 4], attack: [none, label_flip]}}"
    assert plan(read(text)).manifest() == plan(read(text)).manifest()
