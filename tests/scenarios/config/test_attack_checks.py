"""Attacks that a scenario cannot have: who knows what nobody sees, who never acts, and lists of attacks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import SeveralAttacks
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve

MODULE = """
from typing import Any, ClassVar
from autoflip_secure.interfaces import AttackView, RowAttack, Threat, UpdateAttack

class Rows(RowAttack):
    threat: ClassVar[Threat] = Threat("rows", ("update", "exploration"))
    def act(self, view): return view.updates, None

class Knows(Rows):
    threat: ClassVar[Threat] = Threat("defence", ("update",))

class Colluders(Rows):
    threat: ClassVar[Threat] = Threat("colluders", ("update", "exploration"))

class Explorer(Rows):
    threat: ClassVar[Threat] = Threat("defence", ("exploration",))

class Old(UpdateAttack):
    def updates(self, updates, malicious, active, generators): return updates

class Mute(RowAttack):
    def act(self, view): return view.updates, None
"""


@pytest.fixture(scope="module", autouse=True)
def attacks(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("attacks")
    (folder / "checked_attacks.py").write_text(MODULE)
    sys.path.insert(0, str(folder))


def read(text: str) -> LoadedScenario:
    return resolve(Document.parse(text.replace("own:", "checked_attacks:"), "s.yaml"))


def refusal(text: str) -> str:
    with pytest.raises(InputError) as error:
        read(text)
    return str(error.value)


SUMS = "algorithm: fedavg\nsecure_sum: {updates: true}\n"
PARTIES = "exploration: {method: linear}\nsecure_sum: {updates: false}\n"
REFUSALS = [
    (SUMS + 'attack: {kind: "own:Rows"}', "Rows: knows every update, and updates leave the clients in shares"),
    (SUMS + 'attack: {kind: "own:Knows"}', "Knows: knows every update and the defence, and updates leave"),
    (
        PARTIES + 'attack: {kind: "own:Rows"}',
        "(the default): checked_attacks:Rows: knows every update, and what explorers send",
    ),
    (
        'privacy: {kind: client_level, noise: distributed, noise_multiplier: 1}\nattack: {kind: "own:Rows"}',
        "at client level",
    ),
    (
        'privacy: {kind: client_level, noise: central, noise_multiplier: 1}\nattack: {kind: "own:Knows"}',
        "at client level",
    ),
    ('algorithm: lotteryfl\nattack: {kind: "own:Knows"}', "lotteryfl keeps a mask per client"),
    ("attack: {kind: label_flip, window: {first: 0, last: 0}, explorers: false}", "it would never act"),
    ('attack: {kind: "own:Explorer", explorers: false}', "changes the exploration alone, so it would never act"),
    ('attack: {kind: "own:Knows", window: {first: 0, last: 0}}', "does not act in the exploration"),
    ('attack: {kind: "own:Mute"}', "Mute does not say what it knows; set `threat"),
    ("attack:\n  - {kind: label_flip}\n  - {kind: gaussian_noise, clients: [44]}", "s.yaml:3: attack.1.clients = [44]"),
    ("attack:\n  - {kind: label_flip}\n  - {kind: gaussian_noise, sigam: 4}", "s.yaml:3: unknown key 'sigam'"),
    ("attack:\n  - {kind: label_flip}\n  - {kind: gaussian_noise, sigma: -4}", "s.yaml:3: attack.1.sigma = -4"),
    ("attack:\n  - {kind: label_flip}\n  - nine", "attack.1: unknown kind 'nine'"),
    (
        "attack:\n  - backdoor\n  - label_flip\n  - {kind: backdoor, target: 1}",
        "s.yaml:4: attack.2 = backdoor: is a second backdoor, and attack success is measured of one; cut one trigger",
    ),
    (
        "evaluation: personal\nattack: backdoor",
        "attack = backdoor: attack success is measured of the global model, and evaluation: personal tests the clients",
    ),
    (SUMS + "attack: [backdoor, norm_bound]", "norm_bound: knows every update, and updates leave the clients in"),
    ("attack: {kind: backdoor, features: []}", "attack.features"),
    ("attack: [label_flip]", "2 to 16 attacks; one alone needs no list"),
    ("attack: [label_flip, none]", "its attack 2 is none; leave it out"),
    ("attack: {kind: gaussian_noise, window: {period: 1}}", "attack.window.period = 1: should be greater"),
    ("attack: {kind: gaussian_noise, window: {acting: 2}}", "counts with a period only"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSALS)
def test_what_cannot_be_is_refused_with_its_place(text: str, expected: str) -> None:
    assert expected in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        SUMS + 'attack: {kind: "own:Colluders"}',
        SUMS + 'attack: {kind: "own:Old"}',
        PARTIES + 'attack: {kind: "own:Rows", explorers: false}',
        PARTIES + 'attack: {kind: "own:Knows"}',
        'privacy: {kind: client_level, noise: central, noise_multiplier: 1}\nattack: {kind: "own:Rows"}',
        'algorithm: lotteryfl\nattack: {kind: "own:Rows"}',
        "attack: {kind: label_flip, window: {first: 0, last: 0}}",
        SUMS + "attack: [backdoor, model_replacement, neurotoxin, {kind: norm_bound, unit: absolute}]",
        "algorithm: lotteryfl\nattack: [backdoor, model_replacement]",
    ],
)
def test_what_can_be_is_not(text: str) -> None:
    assert read(text).cells


def test_a_list_of_attacks_is_read_from_a_record_as_it_is_written_into_one() -> None:
    loaded = read("attack: [{kind: label_flip, share: 1}, gaussian_noise]\nseeds: [3]")
    [cell] = loaded.cells
    assert isinstance(cell.settings.attack, SeveralAttacks)
    written = cell.settings.resolved(3)
    assert [one["kind"] for one in written["attack"]["attacks"]] == ["label_flip", "gaussian_noise"]
    again = type(cell.settings).model_validate({key: value for key, value in written.items() if key != "seed"})
    assert again.resolved(3) == written


def test_an_axis_may_hold_lists_of_attacks() -> None:
    loaded = read("sweep: {product: {attack: [none, [label_flip, gaussian_noise]]}}\nseeds: [3]")
    assert [len(cell.settings.attack.parts) for cell in loaded.cells] == [0, 2]


def test_windows_that_are_as_they_ever_were_are_not_written_down() -> None:
    [cell] = read("attack: {kind: gaussian_noise}\nseeds: [3]").cells
    assert cell.settings.resolved(3)["attack"]["window"] == {"first": 1, "last": None}
    [cell] = read("attack: {kind: gaussian_noise, window: {period: 3}}\nseeds: [3]").cells
    assert cell.settings.resolved(3)["attack"]["window"] == {"first": 1, "last": None, "period": 3}
