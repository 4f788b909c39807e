"""Scenario files: short forms, resolution, and hashes that change when numbers do."""

import copy
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from settings_read import read, settings

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config import tables
from autoflip_secure.scenarios.config.algorithms import ALGORITHMS
from autoflip_secure.scenarios.config.loading import to_yaml
from autoflip_secure.scenarios.config.settings import DEFAULTS, content_hash, json_schema
from autoflip_secure.scenarios.data import datasets, partitions
from autoflip_secure.scenarios.models import architectures as models

# ------------------------------------------------------------------------------------------------ short forms


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("data: mnist", "data: {kind: mnist}"),
        ("partition: by_group", "partition: {kind: by_group}"),
        ('model: "my.nets:small"', 'model: {kind: custom, factory: "my.nets:small"}'),
        ("attack: gaussian_noise", "attack: {kind: gaussian_noise}"),
        ("algorithm: fedavg", "algorithm: {name: fedavg, pruner: {kind: none}, aggregator: {kind: mean}}"),
        (
            "algorithm: {name: autoflip, pruner: {threshold: 0.2}}",
            "algorithm: {name: autoflip, pruner: {kind: threshold, threshold: 0.2}, aggregator: {kind: agreement}}",
        ),
        (
            "algorithm: autoflip_static",
            "algorithm: {name: autoflip_static, pruner: {kind: threshold, refine_every: null}, aggregator: agreement}",
        ),
        (
            "algorithm: {name: autoflip, pruner: budget}",
            "algorithm: {name: autoflip, pruner: {kind: budget}, aggregator: {kind: agreement}}",
        ),
        ("seeds: {first: 3, count: 2}", "seeds: [3, 4]"),
        ("training: {lr: 1e-3}", "training: {lr: 0.001}"),
        ("", "rounds: 60"),
    ],
)
def test_a_short_form_means_its_full_form(short: str, full: str) -> None:
    short, full = f"question: a\n{short}", f"question: b\n{full}"
    assert [c.key for c in read(short).cells] == [c.key for c in read(full).cells]


def test_a_part_of_another_kind_replaces_the_whole_part() -> None:
    """Settings of the table's kind must not leak into another kind."""
    pruner = settings("algorithm: {name: autoflip_static, pruner: {kind: budget, threshold: 0.4}}").algorithm.pruner
    assert pruner.model_dump()["kind"] == "budget"
    assert pruner.model_dump()["threshold"] == 0.4


def test_algorithm_of_ones_own() -> None:
    algorithm = settings("algorithm: {name: mine, pruner: random_units, aggregator: krum}").algorithm
    kinds = algorithm.model_dump()["pruner"]["kind"], algorithm.model_dump()["aggregator"]["kind"]
    assert (algorithm.name, kinds) == ("mine", ("random_units", "krum"))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_of_the_table_resolves_to_its_parts(name: str) -> None:
    needed = {
        "nbafl": "privacy: {kind: nbafl, allow_unproven: true}\n",
        "fedmask": "evaluation: personal\n",
        "spafl": "evaluation: personal\n",
        "ppflex": "secure_sum: {parties: 3, updates: true}\nexploration: {method: linear}\n",
    }
    more = needed.get(name, "")
    resolved = settings(f"{more}algorithm: {name}").algorithm.model_dump(mode="json")
    table = ALGORITHMS[name]
    assert resolved["name"] == name
    assert table.pruner.items() <= resolved["pruner"].items()
    assert table.aggregator.items() <= resolved["aggregator"].items()


def test_fedavg_is_no_pruning_and_the_mean() -> None:
    assert ALGORITHMS["fedavg"].pruner == {"kind": "none"}
    assert ALGORITHMS["fedavg"].aggregator == {"kind": "mean"}


def test_every_plugin_class_is_in_its_table() -> None:
    """Forgetting one fails: concrete classes of the packages against the tables."""
    import importlib
    import inspect
    import pkgutil

    from autoflip_secure.interfaces import Aggregator, Attack, LocalRule, PreAggregator, Pruner

    families = {Aggregator: tables.AGGREGATORS, Pruner: tables.PRUNERS, Attack: tables.ATTACKS}
    families |= {LocalRule: tables.LOCAL_RULES, PreAggregator: tables.PRE_AGGREGATORS}
    modules = []
    for package in (
        "attacks.poisoning",
        "defenses.aggregators",
        "defenses.pre_aggregators",
        "pruning",
        "local_rules",
        "algorithm",
    ):
        root = importlib.import_module(f"autoflip_secure.{package}")
        names = [m.name for m in pkgutil.iter_modules(root.__path__, f"{root.__name__}.")]
        modules += [importlib.import_module(name) for name in names]
    found = {c for module in modules for _, c in inspect.getmembers(module, inspect.isclass)}
    for base, table in families.items():
        concrete = {c for c in found if issubclass(c, base) and not inspect.isabstract(c) and "kind" in c.model_fields}
        assert concrete <= set(table.values()), base
    assert set(tables.DATASETS.values()) == set(datasets.DATASETS)
    assert set(tables.PARTITIONS.values()) == set(partitions.PARTITIONS)
    assert set(tables.MODELS.values()) == set(models.MODELS)


# ------------------------------------------------------------------------------------------------ hashes, round trips


def test_hash_is_of_canonical_json() -> None:
    cell = read("rounds: 3").cells[0]
    text = json.dumps(cell.config, sort_keys=True, separators=(",", ":"))
    assert cell.key == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "change",
    ["rounds: 61", "attack: gaussian_noise", "guidance: {beta: 0.2}", "model: {kind: mlp, hidden: [9]}", "seeds: [77]"],
)
def test_whatever_changes_numbers_changes_the_hash(change: str) -> None:
    assert read(change).cells[0].key != read("rounds: 60").cells[0].key


def test_a_key_under_its_older_name_is_the_same_cell_and_is_named(said: list[str]) -> None:
    written = "privacy: {{kind: sample_level, noise_multiplier: 1.0, {}: true}}"
    now = read(written.format("replace_unsupported_layers")).cells[0]
    assert said == []
    old = read(written.format("fix_modules")).cells[0]
    assert said == ["privacy.fix_modules is the older name of privacy.replace_unsupported_layers; it still works"]
    assert old.key == now.key
    assert old.config == now.config
    first = {**now.config, "privacy": dict(now.config["privacy"])}
    first["privacy"]["fix_modules"] = first["privacy"].pop("replace_unsupported_layers")
    text = json.dumps(first, sort_keys=True, separators=(",", ":"))
    assert now.key == hashlib.sha256(text.encode()).hexdigest()[:16], "cells keep the name that they had"
    with pytest.raises(InputError, match="fix_modules is the older name of replace_unsupported_layers; give one"):
        read("privacy: {kind: sample_level, fix_modules: true, replace_unsupported_layers: true}")


def test_a_newer_key_counts_only_where_it_is_not_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = read("rounds: 60").cells[0], read("rounds: 60\nattack: {kind: gaussian_noise, sigma: 0.2}").cells[0]
    newer = {"rounds": 60, "attack.sigma": 0.2, "data.no_such": 1}
    newer["guidance"] = plain.settings.model_dump(mode="json")["guidance"]
    monkeypatch.setattr("autoflip_secure.records.newer_keys.NEWER", newer)
    assert plain.config == {k: v for k, v in read("clients: 20").cells[0].settings.model_dump(mode="json").items()
                            if k not in ("rounds", "guidance")} | {"seed": plain.seed}  # fmt: skip
    assert "sigma" not in other.config["attack"]
    assert other.config["attack"]["kind"] == "gaussian_noise"
    assert read("rounds: 61").cells[0].config["rounds"] == 61
    assert read("attack: {kind: gaussian_noise, sigma: 0.3}").cells[0].config["attack"]["sigma"] == 0.3
    assert read("guidance: {beta: 0.2}").cells[0].config["guidance"]["beta"] == 0.2
    assert (
        read("attack: {kind: gaussian_noise, sigma: 0.3}").cells[0].key != read("attack: gaussian_noise").cells[0].key
    )
    assert read("rounds: 60").cells[0].key == read("clients: 20").cells[0].key


def test_name_question_and_the_list_of_seeds_do_not_change_the_hash() -> None:
    one = read("name: a\nquestion: x\nseeds: [5]").cells[0]
    other = read("name: b\nquestion: y\nseeds: [5, 6]").cells[0]
    assert one.key == other.key


def test_resolved_scenario_loads_to_the_same_cells() -> None:
    text = (
        "attack: gaussian_noise\nsweep:\n  - product: {attack.sigma: [0.1, 1e-3]}\n  - zip: {rounds: [3], cohort: [2]}"
    )
    scenario = read(text, "seeds=[4, 5]", "partition.kind=dirichlet", "partition.alpha=0.7")
    again = read(to_yaml(scenario.written))
    assert [(c.key, c.axes) for c in again.cells] == [(c.key, c.axes) for c in scenario.cells]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4), st.randoms())
def test_hash_does_not_depend_on_the_order_of_keys(config: dict[str, object], random: object) -> None:
    items = list(config.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert content_hash(dict(items)) == content_hash(copy.deepcopy(config))


def test_json_schema_lists_every_kind_and_requires_no_default() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    for table in (
        tables.ATTACKS,
        tables.PRUNERS,
        tables.LOCAL_RULES,
        tables.AGGREGATORS,
        tables.PRE_AGGREGATORS,
        tables.DATASETS,
        tables.PARTITIONS,
        tables.MODELS,
    ):
        for kind in table:
            assert f'"{kind}"' in text
    assert set(DEFAULTS) <= set(schema["properties"])
    assert not set(schema.get("required", [])) & set(DEFAULTS)
