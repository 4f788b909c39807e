"""One clear sentence for everything that can be wrong in a scenario file or in what replaces its parts."""

import re
from pathlib import Path

import pytest
import yaml
from settings_read import read, settings

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.settings import json_schema


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        read(text, *overrides)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ --set


def test_set_replaces_and_descends() -> None:
    scenario = settings("data: digits\nattack: {kind: gaussian_noise, sigma: 0.1}", "data=mnist", "attack.sigma=2")
    assert scenario.data.model_dump()["kind"] == "mnist"
    assert scenario.attack.model_dump()["sigma"] == 2.0


def test_set_expands_short_forms_on_its_way() -> None:
    pruner = settings("algorithm: autoflip", "algorithm.pruner.threshold=0.45").algorithm.pruner
    assert pruner.model_dump()["threshold"] == 0.45


def test_set_seeds_of_a_sweep() -> None:
    scenario = read("seeds: {first: 10, count: 5}\nsweep: {product: {rounds: [3, 4]}}", "seeds.count=2")
    assert [c.seed for c in scenario.cells] == [10, 11, 10, 11]


def test_set_on_an_axis_is_refused_with_two_ways_out_that_work() -> None:
    text = "attack: gaussian_noise\nsweep: {product: {attack.sigma: [1, 2]}}\nseeds: [1]"
    message = refusal(text, "attack.sigma=3")
    assert "--set attack.sigma=3" in message
    assert "sweep.attack.sigma=" in message
    assert "sweep=null" in message
    assert [c.axes["attack.sigma"] for c in read(text, "sweep.attack.sigma=[3]").cells] == [3]
    assert len(read(text, "sweep=null", "attack.sigma=3").cells) == 1


def test_set_below_a_whole_axis_is_refused() -> None:
    assert "axis 'attack'" in refusal("sweep: {product: {attack: [none, gaussian_noise]}}", "attack.sigma=3")


# ------------------------------------------------------------------------------------------------ refusals

REFUSALS = [
    ("rounds: 3\nclinets: 3", "s.yaml:2: unknown key 'clinets'; did you mean 'clients'?"),
    ("attack:\n  kind: gaussian_noise\n  sigam: 3", "s.yaml:3: unknown key 'sigam' in attack; did you mean 'sigma'?"),
    ("attack: gausian_noise", "s.yaml:1: attack: unknown kind 'gausian_noise'; did you mean 'gaussian_noise'?"),
    ("attack: {sigma: 3}", "key 'kind' is missing; allowed: alie"),
    ("attack: null", "attack = None: should be one of alie"),
    (
        "\n\nattack: {kind: gaussian_noise, scope: 1.5}",
        "s.yaml:3: attack.scope = 1.5: should be less than or equal to 1",
    ),
    ("attack: {kind: label_flip, clients: [3, 44]}", "attack.clients = [44]: no such client; ids are 0 to 19"),
    ("attack: {kind: label_flip, window: {first: 900}}", "attack.window.first = 900: the attack begins after"),
    ("cohort: 30", "s.yaml:1: cohort = 30: is larger than clients = 20; lower cohort or raise clients"),
    ("exploration: {explorers: 33}", "exploration.explorers = 33: is larger than clients = 20"),
    ("rounds: sixty", "rounds = 'sixty': should be a valid integer"),
    ("rounds: 0", "rounds = 0: should be greater than or equal to 1"),
    ("rounds: true", "rounds = True: should be a number"),
    ('rounds: "60"', "rounds = '60': should be a number"),
    ("training: {lr: .nan}", "training.lr = nan: should be a finite number"),
    ("training: 5", "training = 5: should be a mapping (`key: value` lines) with keys of: optimizer"),
    ("training: {optimizer: rmsprop}", "training.optimizer = 'rmsprop'"),
    ("algorithm: autofli", "algorithm: unknown name 'autofli'; did you mean 'autoflip'?"),
    ("algorithm: {name: autoflip, pruner: {threshold: 1.5}}", "algorithm.pruner.threshold = 1.5: should be less than"),
    ("algorithm: {name: autoflip, pruner: {treshold: 1}}", "unknown key 'treshold' in algorithm.pruner; did you mean"),
    ("partition: {kind: pathological, classes_per_client: 0}", "partition.classes_per_client = 0"),
    ("seeds: 5", "seeds = 5: should be a list of whole numbers"),
    ("seeds: [1, 1]", "seeds = [1, 1]: a seed is listed twice"),
    ("seeds: []", "seeds = []: should have at least 1 item"),
    ("name: a/b", "name = 'a/b': should be letters"),
    ("rounds: 3\nrounds: 4", "s.yaml:2: key 'rounds' appears twice (first on line 1)"),
    ("attack:\n  kind: none\n  kind: none", "s.yaml:3: key 'attack.kind' appears twice"),
    ("rounds: [1", "s.yaml:1: not valid YAML"),
    ("x: !!python/object:os.system {}", "s.yaml:1: x: the tag `!!python/object:os.system` is not"),
    ("- 1", "s.yaml:1: a scenario is a mapping"),
    ("", "s.yaml: the file is empty"),
    ("1: 2", "s.yaml:1: key `1`: keys must be text; write '1' in quotes"),
    ("device: tpu", "device = 'tpu': should be 'auto', 'cpu' or 'cuda'"),
    ("sweep: 5", "sweep = 5: should be a mapping"),
    ("sweep: {attack.sigma: [1]}", "unknown key 'attack.sigma' in sweep; allowed: product, zip"),
    ("sweep: {}", "no axis is given"),
    ("sweep: {product: {cohort: []}}", "sweep.product.cohort = []: should have at least 1 item"),
    ("sweep: {product: {cohort: 4}}", "sweep.product.cohort = 4: should be a valid list"),
    ("sweep: {zip: {cohort: [5, 6], clients: [9]}}", "zip axes go in step"),
    ("sweep: {zip: {cohort: [5]}, product: {cohort: [3]}}", "'cohort' is in product and in zip"),
    ("sweep: {product: {seeds: [3]}}", "'seeds' cannot be an axis"),
    ("sweep: {product: {outcome: [last]}}", "'outcome' cannot be an axis; it is set once for the whole scenario"),
    ("outcome: best", "outcome = 'best': should be 'last', or 'mean of the last 5' with a number from 2 to 999"),
    ("outcome: 5", "outcome = 5: "),
    ("sweep: {product: {clients.x: [3]}}", "s.yaml:1: clients = {'x': 3}: should be a valid integer"),
    ("clients: 9\nsweep: {product: {clients.x: [3]}}", "'clients.x' cannot be set: clients = 9 has no keys below it"),
    ("sweep:\n  product:\n    cohort:\n      - 5\n      - 50", "s.yaml:5: cohort = 50: is larger than clients"),
    (
        "sweep:\n  - zip:\n      attack:\n        - none\n        - {kind: nine}",
        "s.yaml:5: attack: unknown kind 'nine'",
    ),
    ("sweep:\n  product: {partiton: [iid]}", "s.yaml:2: unknown key 'partiton'; did you mean 'partition'?"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSALS, ids=[text.replace("\n", "|") for text, _ in REFUSALS])
def test_refusal_names_place_key_value_and_way_out(text: str, expected: str) -> None:
    assert expected in refusal(text)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("cohort=77", "--set cohort=77: cohort = 77: is larger than clients"),
        ("cohort", "--set cohort: write it as key=value"),
        ("=3", "write it as key=value"),
        ("cohrt=7", "--set cohrt=7: unknown key 'cohrt'; did you mean 'cohort'?"),
        ("rounds.x=7", "--set rounds.x=7: 'rounds.x' cannot be set: rounds = 3 has no keys below it"),
        ("rounds=[", "--set rounds=[: the value is not valid YAML"),
        ("sweep.rounds=[3]", "--set sweep.rounds=[3]: there is no sweep"),
    ],
)
def test_override_refusal_names_the_override(override: str, expected: str) -> None:
    assert expected in refusal("rounds: 3", override)


def test_all_findings_of_a_cell_are_told_at_once() -> None:
    lines = refusal("rounds: 0\ncohort: 0\nclients: 0").splitlines()
    assert [line.split(":")[1] for line in lines] == ["3", "2", "1"]


def test_a_correct_scenario_is_not_refused() -> None:
    """The refusals above would mean nothing if everything were refused."""
    assert len(read("rounds: 3\nseeds: [1]").cells) == 1


@pytest.mark.parametrize(("make", "expected"), [("missing.yaml", "no such file"), ("demoo", "did you mean 'demo'")])
def test_unreadable_source(make: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        load(make)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load(binary)


def test_file_name_is_the_default_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("rounds: 3")
    assert load(tmp_path / "mine.yaml").header.name == "mine"


def test_plain_data_agrees_with_safe_load() -> None:
    """Oracle: PyYAML itself, on what all versions of YAML read alike."""
    text = "a: &x {b: [1, 2.5, true, null, text, '2026-01-01']}\nc: *x\nd:\n  <<: *x\n  e: '1e-3'"
    assert Document.parse(text, "t").data == yaml.safe_load(text)


def test_the_outcome_changes_no_cell():
    plain, last = read("rounds: 4"), read("rounds: 4\noutcome: last")
    assert [cell.key for cell in plain.cells] == [cell.key for cell in last.cells]
    assert (plain.header.outcome, last.header.outcome) == ("mean of the last 5 evaluations", "last")
    assert read("rounds: 4", "outcome=mean of the last 9").header.outcome == "mean of the last 9"
    assert "outcome" in json_schema()["properties"]
