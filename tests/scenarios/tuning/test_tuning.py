"""Tuning: which cells choose, which are reported, and what is refused before anything runs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings_read import read
from sizes import sized

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve, to_yaml
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.tuning import Tune

TUNED = "seeds: [11, 12]\ntune: {axes: {training.lr: [0.1, 0.2, 0.4]}, seeds: [1, 2]}\n"
AXES = "sweep: {product: {partition: [iid, dirichlet], algorithm: [fedavg, krum]}}\n"
SUITE = "suite: {attacks: [label_flip, {kind: gaussian_noise, sigma: 1.0}], scope: 0.4}\n"


def stage_of(scenario: LoadedScenario) -> LoadedScenario:
    assert scenario.tuning is not None
    return scenario.tuning.stage


def chosen(scenario: LoadedScenario, best: dict[tuple[str, str], float]) -> LoadedScenario:
    """The scenario when the learning rates of ``best``, by split and algorithm, come out first."""
    assert scenario.tuning is not None
    accuracies = {
        cell.key: float(
            best[cell.settings.partition.model_dump()["kind"], cell.settings.algorithm.name]
            == cell.settings.training.lr
        )
        for cell in stage_of(scenario).cells
    }
    return scenario.tuning.resolve(scenario, accuracies)


# ------------------------------------------------------------------------------------------------ the first stage


def test_every_algorithm_is_tried_with_every_value_in_every_split_without_attack() -> None:
    """By hand: 2 splits x 2 algorithms x 3 values x 2 seeds, however many attacks are reported."""
    stage = stage_of(read(TUNED + SUITE + AXES))
    found = [
        (
            c.config["partition"]["kind"], c.settings.algorithm.name, c.settings.training.lr, c.seed,
            c.config["attack"]["kind"],
        )
        for c in stage.cells
    ]  # fmt: skip
    wanted = itertools.product(("iid", "dirichlet"), ("fedavg", "krum"), (0.1, 0.2, 0.4), (1, 2), ("none",))
    assert found == [*wanted]


@pytest.mark.parametrize(
    "attacks",
    [
        "attack: label_flip\n" + AXES,
        "sweep: {product: {algorithm: [fedavg, krum], attack: [none, label_flip], partition: [iid, dirichlet]}}\n",
        "attack: gaussian_noise\nsweep: {product: {partition: [iid, dirichlet], attack.sigma: [1, 2], "
        "algorithm: [fedavg, krum]}}\n",
        "suite: optimised-1\nsweep: {product: {partition: [iid, dirichlet], algorithm: [fedavg, krum]}, "
        "zip: {attack.scope: [0.2, 0.4]}}\n",
    ],
)
def test_it_does_not_depend_on_which_attacks_are_reported(attacks: str) -> None:
    wanted = {cell.key for cell in stage_of(read(TUNED + SUITE + AXES)).cells}
    assert {cell.key for cell in stage_of(read(TUNED + attacks)).cells} == wanted


def _grids() -> st.SearchStrategy[dict[str, Any]]:
    """Sweeps with attacks and without, in a product and in step."""
    axes = {
        "algorithm": ["fedavg", "krum", "median"],
        "attack": ["none", "label_flip"],
        "partition": ["iid", "dirichlet"],
        "rounds": [3, 4],
    }
    product = st.fixed_dictionaries(
        {}, optional={path: st.lists(st.sampled_from(values), min_size=1, unique=True) for path, values in axes.items()}
    )
    zipped = st.sampled_from([{}, {"clients": [10, 20], "attack.scope": [0.2, 0.4]}, {"attack.scope": [0.3]}])
    return st.builds(lambda one, other: {"product": one, "zip": other}, product, zipped).filter(
        lambda grid: bool(grid["product"] or grid["zip"]) and not ("attack" in grid["product"] and grid["zip"])
    )


@settings(max_examples=sized(15, 100), deadline=None)
@given(st.lists(_grids(), max_size=3), st.sampled_from([None, 2, 3]))
def test_as_written_it_loads_to_the_same_cells(grids: list[dict[str, Any]], budget: int | None) -> None:
    """The file in the folder of the stage is a scenario of its own, which says how all of it was made."""
    axes = {"training.lr": [0.1, 0.2], "training.epochs": [1, 2]}
    tune = {"axes": axes, "budget": budget}
    document = Document("s", {"attack": "label_flip", "seeds": [11], "sweep": grids, "tune": tune})
    stage = stage_of(resolve(document))
    again = read(to_yaml(stage.written))
    assert again.tuning is None
    assert [(c.key, c.axes) for c in again.cells] == [(c.key, c.axes) for c in stage.cells]
    assert again.header.seeds == (0, 1, 2)


# ------------------------------------------------------------------------------------------------ the choice


def test_a_tuned_cell_is_the_one_with_its_value_written_out() -> None:
    """Same names, and so the same numbers; one choice for each algorithm and split, kept under every attack."""
    best = {
        ("iid", "fedavg"): 0.1,
        ("iid", "krum"): 0.4,
        ("dirichlet", "fedavg"): 0.2,
        ("dirichlet", "krum"): 0.1,
    }
    found = chosen(read(TUNED + SUITE + AXES), best)
    written = [
        cell.key
        for (split, algorithm), rate in best.items()
        for cell in read(
            f"seeds: [11, 12]\ntraining: {{lr: {rate}}}\npartition: {split}\nalgorithm: {algorithm}\n{SUITE}"
        ).cells
    ]
    assert [cell.key for cell in found.cells] == written
    assert len(written) == 2 * 2 * 3 * 2
    for cell in found.cells:
        assert cell.tuning is not None
        assert cell.tuning.chosen == {"training.lr": cell.settings.training.lr}
        assert cell.axes["training.lr"] == cell.settings.training.lr
        assert cell.seed not in cell.tuning.seeds


def test_where_the_choice_is_the_same_the_curves_are_their_own() -> None:
    """A record says what its own algorithm came to with each value."""
    scenario = read(TUNED + AXES)
    found = chosen(scenario, dict.fromkeys(itertools.product(("iid", "dirichlet"), ("fedavg", "krum")), 0.2))
    keys = {cell.key: cell for cell in stage_of(scenario).cells}
    for cell in found.cells:
        assert cell.tuning is not None
        for tried in cell.tuning.tried:
            assert tried.accuracies == [float(tried.values["training.lr"] == 0.2)] * 2
            for key, seed in zip(tried.cells, cell.tuning.seeds, strict=True):
                there = keys[key]
                assert there.settings.algorithm == cell.settings.algorithm
                assert there.settings.partition == cell.settings.partition
                assert (there.seed, there.settings.training.lr) == (seed, tried.values["training.lr"])


def test_before_the_choice_the_first_values_stand_for_all() -> None:
    """To be counted and checked."""
    first = [cell.key for cell in read("seeds: [11, 12]\ntraining: {lr: 0.1}\n" + SUITE + AXES).cells]
    work = plan(read(TUNED + SUITE + AXES))
    assert sorted(work.keys) == sorted(first)
    assert work.tuning is not None
    assert len(work.tuning.stage.keys) == 24


def test_axes_of_algorithms_are_settable_paths_too() -> None:
    """A whole plug-in, or an option of one."""
    text = "seeds: [11]\nalgorithm: autoflip\ntune: {axes: {algorithm.pruner.threshold: [0.1, 0.4]}, seeds: [1]}"
    stage = stage_of(read(text))
    assert [c.config["algorithm"]["pruner"]["threshold"] for c in stage.cells] == [0.1, 0.4]
    whole = "seeds: [11]\nalgorithm: autoflip\ntune: {axes: {algorithm.aggregator: [mean, median]}, seeds: [1]}"
    assert [c.config["algorithm"]["aggregator"]["kind"] for c in stage_of(read(whole)).cells] == ["mean", "median"]


# ------------------------------------------------------------------------------------------------ the budget


def test_a_budget_below_the_grid_draws_from_it_the_same_for_all() -> None:
    axes = {"training.lr": [0.1, 0.2, 0.3, 0.4], "training.epochs": [1, 2, 3]}
    drawn = Tune(axes=axes, budget=5).candidates
    grid = list(itertools.product(range(4), range(3)))
    assert len(drawn) == 5
    assert list(drawn) == sorted(drawn)  # in the order listed, so that ties go to the first
    assert {*drawn} < {*grid}
    assert drawn == Tune(axes=axes, budget=5).candidates
    assert len({Tune(axes=axes, budget=5, seeds=(seed,)).candidates for seed in range(20)}) > 5
    assert list(Tune(axes=axes).candidates) == list(Tune(axes=axes, budget=12).candidates) == grid


def test_every_algorithm_has_the_same_budget() -> None:
    text = "tune: {axes: {training.lr: [0.1, 0.2, 0.3], training.epochs: [1, 2]}, budget: 4, seeds: [1]}\n" + AXES
    tried: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for c in stage_of(read(text)).cells:
        place = c.settings.algorithm.name, c.config["partition"]["kind"]
        tried.setdefault(place, []).append((c.settings.training.lr, c.settings.training.epochs))
    assert len(tried) == 4
    assert all(own == tried["fedavg", "iid"] and len(own) == 4 for own in tried.values())


# ------------------------------------------------------------------------------------------------ what is written


def test_without_it_nothing_changes() -> None:
    plain = read("seeds: [11, 12]\n" + SUITE + AXES)
    off = read(TUNED + SUITE + AXES, "tune=null")
    assert (plain.tuning, off.tuning) == (None, None)
    assert [(c.key, c.axes, c.tuning) for c in plain.cells] == [(c.key, c.axes, c.tuning) for c in off.cells]
    entries = [*plan(plain).manifest()["cells"], *plan(off).manifest()["cells"]]
    assert all({*entry} == {"cell", "algorithm", "seed", "axes"} for entry in entries)


@pytest.mark.parametrize(
    "overrides",
    [
        ["tune.axes.training.lr=[0.1, 0.2]", "tune.seeds={first: 3, count: 2}"],
        ["tune={axes: {training.lr: [0.1, 0.2]}, seeds: [3, 4]}"],
        ["tune={axes: {training: {lr: [0.1, 0.2]}}, seeds: [3, 4]}"],
    ],
)
def test_it_can_be_set(overrides: list[str]) -> None:
    found = read("algorithm: fedavg\nseeds: [11]\n", *overrides)
    assert [(c.settings.training.lr, c.seed) for c in stage_of(found).cells] == [(0.1, 3), (0.1, 4), (0.2, 3), (0.2, 4)]
    assert found.written["tune"]["axes"] == {"training.lr": [0.1, 0.2]}


def test_an_axis_that_is_there_can_be_changed() -> None:
    found = read(TUNED, "tune.axes.training.lr=[0.3, 0.5]")
    assert [c.settings.training.lr for c in stage_of(found).cells] == [0.3, 0.3, 0.5, 0.5]


LR = "{axes: {training.lr: [0.1, 0.2]}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "seeds: [11, 12]\ntune:\n  axes: {training.lr: [1, 2]}\n  seeds: [3, 12]",
            "s.yaml:4: tune.seeds: seed 12 would be chosen on and reported too, so what is reported would be the luck "
            "of the choice; give others: tune.seeds: [0, 1]",
        ),
        (
            f"seeds: [0, 1, 2, 3]\ntune: {LR}}}",
            "s.yaml:2: tune.seeds: seeds 0, 1, 2 would be chosen on and reported too, so what is reported would be the "
            "luck of the choice; give others: tune.seeds: [4, 5, 6]",
        ),
        (f"tune: {LR}, seeds: [1, 1]}}", "a seed is listed twice"),
        (f"tune: {LR}, seeds: 3}}", "tune.seeds = 3: should be a list of whole numbers, or {first: 10, count: 5}"),
        ("tune: 3", "s.yaml:1: tune = 3: should be a mapping"),
        ("tune: {}", "s.yaml:1: tune.axes: is missing"),
        ("tune: {axes: {training.lr: [0.1]}}", "there is one combination, so nothing to choose; list more values"),
        ("tune: {axes: {training.lr: 0.1}}", "should be a valid list"),
        ("tune: {axes: {training.lr: [0.1, 0.2, 0.1]}}", "a value of 'training.lr' is listed twice"),
        ("tune:\n  axes:\n    training.lr: [0.1, -1]", "s.yaml:3: training.lr = -1: should be greater than 0"),
        (
            "tune:\n  axes:\n    training.rl: [0.1, 1]",
            "s.yaml:3: unknown key 'rl' in training; allowed: augment, batch_size, epochs, lr",
        ),
        ("tune: {axes: {a..b: [1, 2]}}", "unknown axis 'a..b'; write a config path such as training.lr"),
        (
            "tune: {axes: {training: [{lr: 1}, {lr: 2}], training.lr: [1, 2]}}",
            "'training.lr' lies below 'training', which is tuned as a whole; keep one",
        ),
        (f"tune: {LR}, budget: 1}}", "tune.budget = 1: should be greater than or equal to 2"),
        *(
            (f"tune: {{axes: {{{path}: [1, 2]}}}}", f"'{path}' cannot be tuned: it is part of what is asked")
            for path in ("attack.scope", "data", "partition.alpha", "clients", "privacy", "seeds", "algorithm", "suite")
        ),
        (
            f"tune: {LR}}}\nsweep: {{product: {{training.lr: [1, 2]}}}}",
            "s.yaml:2: the axis 'training.lr' of the sweep is tuned; leave it out, or take training.lr out of tune",
        ),
        (
            "tune: {axes: {training: [{lr: 1}, {lr: 2}]}}\nsweep: [{zip: {training.lr: [1, 2]}}]",
            "s.yaml:2: the axis 'training.lr' of the sweep is tuned",
        ),
        (f"tune: {LR}}}\nsweep: {{product: {{tune: [1]}}}}", "'tune' cannot be an axis; it is set once"),
        (
            f"privacy: {{kind: client_level, noise_multiplier: 1}}\nrounds: 3\ntune: {LR}}}",
            "s.yaml:3: tune: a choice on private data is one more release of them, which no ledger counts; write out "
            "a value that was chosen elsewhere and leave out tune, or set privacy: none",
        ),
        (
            f"seeds: [11]\ntune: {LR}, seeds: {{first: 20, count: 6000}}}}",
            "s.yaml:2: tune: comes to 12,000 cells with 2 combinations and 6000 seeds; at most 10,000",
        ),
        (
            "tune: {axes: {" + ", ".join(f"training.{k}: [{'1, 2, 3, 4, 5, 6, 7, 8, 9, 10'}]" for k in "abcdef") + "}}",
            "the axes have 1,000,000 combinations; at most 100,000: list fewer values",
        ),
    ],
)
def test_what_is_refused(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoflip_secure.scenarios.config.loading.MOST_CELLS", 10_000)
    with pytest.raises(InputError) as error:
        read(text)
    assert said in str(error.value)
    assert "(the default)" not in str(error.value)


@pytest.mark.parametrize("order", [1, -1])
def test_a_tuned_setting_is_not_set_elsewhere(order: int) -> None:
    overrides = ["training.lr=0.3", "tune={axes: {training.lr: [0.1, 0.2]}}"]
    with pytest.raises(
        InputError, match=r"^--set training\.lr=0\.3: training\.lr is tuned, which would overwrite it; "
    ):
        read("rounds: 3", *overrides[::order])


def test_what_a_value_does_not_go_with_is_found_under_every_attack() -> None:
    """Before anything runs: with the second value an attack begins after the last round."""
    text = "attack: {kind: label_flip, window: {first: 4}}\ntune: {axes: {rounds: [5, 3]}}"
    with pytest.raises(InputError, match="the attack begins after the last round"):
        read(text)


def test_the_disjoint_seeds_of_a_preset(tmp_path: Path) -> None:
    """Presets report seeds from 10 on, so the seeds that are tuned on by default are not among them."""
    found = resolve(Document.parse("algorithm: fedavg", "s.yaml"), ["tune.axes.training.lr=[0.1, 0.2]"])
    assert not {*stage_of(found).header.seeds} & {*found.header.seeds}
