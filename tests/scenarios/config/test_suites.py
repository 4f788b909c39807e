"""Suites: which cells they come to, what may stand beside them, and what they hold for ever."""

from __future__ import annotations

import itertools
import json

import pytest
from settings_read import read

from autoflip_secure.errors import InputError
from autoflip_secure.files.canonical_json import digest
from autoflip_secure.scenarios.config.loading import to_yaml
from autoflip_secure.scenarios.config.suites import ADAPTIVE, SHARED, SUITES
from autoflip_secure.scenarios.config.tables import AGGREGATORS, ATTACKS, PRUNERS

OWN = "suite: {attacks: [label_flip, {kind: gaussian_noise, sigma: 1.0}]}\nseeds: [11, 12]\n"
AXES = "sweep: {product: {algorithm: [fedavg, krum]}}\n"


def test_a_suite_is_the_attack_axis() -> None:
    """The same cells, with the same names, as those whose attacks are written out."""
    written = """
seeds: [11, 12]
sweep: {product: {algorithm: [fedavg, krum], attack: [none, label_flip, {kind: gaussian_noise, sigma: 1.0}]}}
"""
    assert {c.key for c in read(OWN + AXES).cells} == {c.key for c in read(written).cells}
    assert len(read(OWN + AXES).cells) == 12


def test_runs_without_attack_belong_to_it_once() -> None:
    with_none = read("suite: {attacks: [none, label_flip, label_flip, {kind: label_flip}]}\nseeds: [11]")
    assert [c.config["attack"]["kind"] for c in with_none.cells] == ["none", "label_flip"]


def test_what_all_attacks_share() -> None:
    shared = "suite: {attacks: [label_flip, gaussian_noise], scope: 0.4, window: {first: 2}, explorers: false}"
    attacks = [c.config["attack"] for c in read(f"{shared}\nseeds: [11]").cells]
    assert attacks[0] == {"kind": "none"}
    for attack in attacks[1:]:
        assert (attack["scope"], attack["explorers"], attack["window"]["first"]) == (0.4, False, 2)


def test_shares_as_an_axis() -> None:
    found = read(f"{OWN}sweep: {{product: {{attack.scope: [0.1, 0.4], algorithm: [fedavg]}}}}", "seeds=[11]").cells
    assert [(c.config["attack"]["kind"], c.config["attack"].get("scope")) for c in found] == [
        ("none", None),
        *itertools.product(["label_flip"], [0.1]),
        ("gaussian_noise", 0.1),
        ("label_flip", 0.4),
        ("gaussian_noise", 0.4),
    ]


def test_it_can_be_set() -> None:
    assert {c.config["attack"].get("scope") for c in read(OWN, "suite.scope=0.3").cells} == {None, 0.3}
    assert len(read(OWN, "suite=null").cells) == 2


def test_as_written_it_loads_to_the_same_cells() -> None:
    loaded = read(OWN + AXES, "suite.scope=0.3")
    assert [c.key for c in read(to_yaml(loaded.written)).cells] == [c.key for c in loaded.cells]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "suite: standart-1",
            "no suite 'standart-1'; did you mean 'standard-1'? allowed: adaptive, optimised-1, standard-1",
        ),
        ("suite: {}", "names no attack; give name: a suite, or attacks: a list of attacks"),
        ("suite: 3", "s.yaml:1: suite = 3: should be a mapping"),
        ("suite: {attacks: [3]}", "an attack of a suite is a kind, or a mapping with one"),
        (
            "suite:\n  attacks:\n    - labelflip",
            "s.yaml:3: attack: unknown kind 'labelflip'; did you mean 'label_flip'?",
        ),
        ("suite:\n  attacks:\n    - {kind: label_flip, shar: 1}", "s.yaml:3: unknown key 'shar' in attack"),
        ("suite: {attacks: [{kind: label_flip, scope: 0.2}]}", "'scope' is the same for all attacks of a suite"),
        ("suite:\n  attacks: [label_flip]\n  scope: 0.01", "s.yaml:3: attack.scope = 0.01: of 20 clients that is none"),
        ("suite: {attacks: [label_flip]}\nattack: gaussian_noise", "s.yaml:2: attack: the suite says which attacks"),
        (OWN + "sweep: {product: {attack: [none]}}", "s.yaml:3: the axis 'attack' would change the suite"),
        (OWN + "sweep: [{product: {attack.sigma: [1]}}]", "s.yaml:3: the axis 'attack.sigma' would change the suite"),
        (OWN + "sweep: {zip: {suite: [a]}}", "'suite' cannot be an axis; it is set once for the whole scenario"),
        (
            "suite: {attacks: [label_flip], scope: 0.1}\nsweep: {product: {attack.scope: [0.2]}}",
            "s.yaml:2: the axis 'attack.scope' would overwrite suite.scope; keep one of them",
        ),
        (OWN + "rounds: 3\nsweep: {product: {attack.window: [{first: 9}]}}", "the attack begins after the last round"),
        (OWN + "sweep: {product: {clients: [20000, 20001], cohort: [" + "5, " * 1000 + "]}}", "comes to 12,000 cells"),
    ],
)
def test_what_is_refused(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoflip_secure.scenarios.config.loading.MOST_CELLS", 10_000)
    with pytest.raises(InputError) as error:
        read(text)
    assert said in str(error.value)
    assert "(the default)" not in str(error.value)


def test_an_attack_beside_it_on_the_command_line() -> None:
    with pytest.raises(InputError, match=r"--set attack\.scope=0\.2: attack: the suite says which attacks are run"):
        read(OWN, "attack.scope=0.2")


# ------------------------------------------------------------------------------------------------ what suites hold

PINNED = {"standard-1": "cdbca2f25a8a3c8f", "optimised-1": "579e3c1cdc0dc43f", "adaptive": "0c6ea1508141a6ff"}


def content(name: str) -> list[object]:
    """The attacks of a suite as they are in the configuration of a cell, under every algorithm where they differ."""
    if name != "adaptive":
        return [c.config["attack"] for c in read(f"suite: {name}\nseeds: [11]").cells]
    grid = f"{{product: {{algorithm: {json.dumps(ADAPTED)}}}}}"
    found = read(f"suite: adaptive\nseeds: [11]\nsweep: {grid}").cells
    return [[c.settings.algorithm.name, c.config["attack"]] for c in found]


STANDARD = "none gaussian_noise label_flip sign_flip ipm alie min_max mimic"
OPTIMISED = "greedy_oracle opt_ipm opt_alie"
ADAPTED = [
    "fedavg",
    "agreement_only",
    "radial_only",
    "guidance_only",
    "budget_only",
    "median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "centered_clipping",
]


@pytest.mark.parametrize("name", PINNED)
def test_a_suite_never_changes(name: str) -> None:
    """Neither by its table nor by a default of an attack. A better suite has a new number; this one stays."""
    assert digest(content(name)) == PINNED[name]


def test_every_suite_is_pinned() -> None:
    assert {*PINNED} == {*SUITES, ADAPTIVE}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_spells_out_every_option(name: str) -> None:
    """So that a default can change; what needs no value is left out."""
    for attack in SUITES[name]:
        options = ATTACKS[attack["kind"]].model_fields
        required = {key for key, field in options.items() if key not in SHARED and field.default is not None}
        assert required <= {*attack} <= {*options}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("standard-1", STANDARD),
        ("optimised-1", f"none {OPTIMISED}"),
        ("[standard-1, optimised-1]", f"{STANDARD} {OPTIMISED}"),
    ],
)  # fmt: skip
def test_the_attacks_of_a_suite(name: str, kinds: str) -> None:
    """Section 6.1 of the specification, by hand."""
    assert [c.config["attack"]["kind"] for c in read(f"suite: {name}\nseeds: [11]").cells] == kinds.split()


# ------------------------------------------------------------------------------------------------ adaptive


def test_every_algorithm_meets_the_attacks_that_know_it() -> None:
    found: dict[str, list[str]] = {}
    for cell in read(f"suite: adaptive\nseeds: [11]\nsweep: {{product: {{algorithm: {json.dumps(ADAPTED)}}}}}").cells:
        found.setdefault(cell.settings.algorithm.name, []).append(cell.config["attack"]["kind"])
    directions = ["greedy_oracle", "score_evasion", "anchor_inflation"]  # the first tries what scores stay high under
    assert found == {
        "fedavg": ["none", "greedy_oracle"],
        "agreement_only": ["none", "greedy_oracle", *directions, "memory_evasion"],
        "radial_only": ["none", "greedy_oracle", *directions, "layer_trick", "boosted_flip"],
        "guidance_only": ["none", "greedy_oracle", "landscape_lie", "landscape_lie", "mask_collusion"],
        "budget_only": ["none", "greedy_oracle", "landscape_lie", "landscape_lie"],
        **{name: ["none", "greedy_oracle", "fang"] for name in ("median", "trimmed_mean", "krum", "multi_krum")},
        "centered_clipping": ["none", "greedy_oracle", "rop"],
    }


def test_a_part_that_is_changed_brings_its_own_attacks() -> None:
    text = "suite: adaptive\nseeds: [11]\nsweep: {product: {algorithm: [fedavg], algorithm.aggregator: [mean, radial]}}"
    kinds = [c.config["attack"]["kind"] for c in read(text).cells]
    assert kinds.count("layer_trick") == 1


def test_a_pre_aggregator_brings_its_own_attacks_too() -> None:
    cells = read("suite: adaptive\nseeds: [11]\nalgorithm: held_only").cells
    kinds = [cell.config["attack"]["kind"] for cell in cells]
    assert kinds.count("step_reversal") == 1
    assert "memory_evasion" in kinds


@pytest.mark.parametrize("kind", AGGREGATORS)
def test_an_aggregator_that_scores_names_attacks_that_know_it(kind: str) -> None:
    aggregator = AGGREGATORS[kind]
    assert bool(aggregator.known_by) or not aggregator.scores_clients
    assert all(attack["kind"] in ATTACKS for attack in aggregator.known_by)


@pytest.mark.parametrize("kind", PRUNERS)
def test_a_pruner_that_believes_explorers_names_attacks_that_know_it(kind: str) -> None:
    """Of random weights only the number follows from the guidance."""
    pruner = PRUNERS[kind]
    assert bool(pruner.known_by) == (pruner.needs_guidance and kind != "random_weights")
    assert all(attack["kind"] in ATTACKS for attack in pruner.known_by)


def test_where_attackers_cannot_know_the_defence_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"s\.yaml:1: attack = greedy_oracle: knows every update and the defence"):
        read("suite: adaptive\nsecure_sum: {parties: 2, updates: true}\nalgorithm: fedavg")


def test_shares_are_an_axis_of_attacks_that_know_the_algorithm_too() -> None:
    text = "suite: adaptive\nseeds: [11]\nalgorithm: fedavg\nsweep: {product: {attack.scope: [0.2, 0.4]}}"
    found = [(c.config["attack"]["kind"], c.config["attack"].get("scope")) for c in read(text).cells]
    assert found == [("none", None), ("greedy_oracle", 0.2), ("greedy_oracle", 0.4)]
