"""What a scenario compares: as written, or found from what its sweep varies."""

from typing import Any

import pytest
import yaml

from autoflip_secure.errors import InputError
from autoflip_secure.records.compared import Compared, axes_of
from autoflip_secure.scenarios.catalogue.entries import Catalogue
from autoflip_secure.scenarios.config.sources import read_source

ASKED = {  # what the question of each preset asks about, read by a person
    "ablation": ("algorithm",),
    "audit_demo": ("privacy",),
    "client_level_dp": ("privacy",),
    "demo": ("algorithm",),
    "explorers": ("exploration.explorers",),
    "interplay": ("algorithm", "privacy", "secure_sum"),
    "label_flip": ("algorithm",),
    "noise_magnitude": ("algorithm",),
    "noise_scope": ("algorithm",),
    "privacy_cost": ("privacy",),
    "secure_exploration": ("secure_sum",),
    "threshold": ("algorithm.pruner.threshold",),
    "worst_case": ("algorithm",),
}


def test_every_preset_compares_what_its_question_asks() -> None:
    found = {name: Compared.of(read_source(name).data).paths for name in Catalogue.read().presets}
    assert {name: paths for name, paths in found.items() if name in ASKED} == ASKED


def sweep(text: str) -> dict[str, Any]:
    return {"sweep": yaml.safe_load(text)}


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("{product: {algorithm: [fedavg, autoflip], attack: [none, x]}}", ("algorithm",)),
        ("{product: {algorithm: [fedavg, autoflip], training.lr: [0.1, 0.2]}}", ("algorithm",)),
        ("{product: {training.lr: [0.1, 0.2], attack: [none, x]}}", ("training.lr",)),
        ("{product: {attack: [none, x], partition: [iid, other]}}", ("attack",)),
        ("{product: {partition: [iid, other]}}", ("partition",)),
        ("{product: {algorithm: [fedavg], privacy: [none]}}", ("algorithm",)),
        ("{product: {privacy: [{kind: sample_level}], privacy.target_epsilon: [1, 2]}}", ("privacy",)),
        ("[{product: {algorithm: [a, b]}}, {product: {algorithm: [a], secure_sum: [{parties: 3}]}}]", ("secure_sum",)),
        ("{zip: {exploration.epochs: [1, 2], guidance.x: [3, 4]}}", ("exploration.epochs", "guidance.x")),
        ("{product: {algorithm: [a, b], algorithm.pruner.threshold: [1, 2], privacy: [none, x]}}",
         ("algorithm", "algorithm.pruner.threshold", "privacy")),
        ("null", ("algorithm",)),
        ("[1, {product: 3}, {product: {a: b}}]", ("algorithm",)),
    ],
)  # fmt: skip
def test_found_from_the_sweep(text: str, paths: tuple[str, ...]) -> None:
    assert Compared.of(sweep(text)).paths == paths


def test_written_wins_and_is_kept_in_order() -> None:
    scenario = sweep("{product: {privacy: [none, x], algorithm: [a, b]}}")
    assert Compared.of({**scenario, "compare": "algorithm"}).paths == ("algorithm",)
    assert str(Compared.of({**scenario, "compare": ["privacy", "algorithm", "privacy"]})) == "privacy, algorithm"


@pytest.mark.parametrize("wrong", [5, [], [1], {"a": 1}, [""], ""])
def test_what_is_no_path_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="should be algorithm, privacy, secure_sum, attack, another axis"):
        Compared.of({"compare": wrong})


def test_a_suite_varies_attacks() -> None:
    assert len(axes_of({"suite": "standard-1"})["attack"]) == 2
