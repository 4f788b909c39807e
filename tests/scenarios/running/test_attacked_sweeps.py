"""Attacks on every way through the engine: in the open, through parties, with masks of the clients' own, on buffers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sizes import every

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Attack
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.config.tables import ATTACKS
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.reading import read_record

NETS = """
from torch import nn

def normed(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, num_classes))
"""
BASE = """
data: {kind: digits, train_samples: 192, test_samples: 60}
MODEL
clients: 6
cohort: 5
rounds: 2
seeds: [3]
training: {epochs: 1}
"""


@pytest.fixture(scope="module", autouse=True)
def nets(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nets")
    (folder / "attacked_nets.py").write_text(NETS)
    sys.path.insert(0, str(folder))


def planned(text: str, model: str = "{kind: mlp, hidden: [8]}") -> Plan:
    return plan(resolve(Document.parse(BASE.replace("MODEL", f"model: {model}") + text, "s.yaml")))


def swept(text: str, folder: Path, *model: str) -> list[RunRecord]:
    run_sweep(planned(text, *model), folder, 1, Listener(lambda *_: None, lambda _: None))
    records = [read_record(file) for file in sorted((folder / "cells").glob("*.json"))]
    assert len(records) == len(planned(text, *model).cells)
    return records


KINDS = [kind for kind, cls in ATTACKS.items() if issubclass(cls, Attack) and kind != "buffers"]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", every(2, ["fedavg", "autoflip", "autoflip_plus", "taylor", "krum"]))
def test_all_attacks_go_through_a_sweep_and_repeat(algorithm: str, tmp_path: Path) -> None:
    text = f"algorithm: {algorithm}\nsweep: {{product: {{attack: [{', '.join(KINDS)}]}}}}"
    once, again = swept(text, tmp_path / "a"), swept(text, tmp_path / "b")
    assert [one.numbers() for one in once] == [one.numbers() for one in again]
    assert {one.config["attack"]["kind"] for one in once} == set(KINDS)


@pytest.mark.slow
def test_attackers_with_a_memory_that_know_the_defence_repeat_alone_and_in_a_block(tmp_path: Path) -> None:
    several = "[{kind: label_flip}, mimic, {kind: fault, sends: free_rider, noise: 0.1}]"
    axis = f"sweep: {{product: {{attack: [{several}, greedy_oracle, landscape_lie]}}}}"
    block = {one.cell: one.numbers() for one in swept(f"algorithm: autoflip\n{axis}", tmp_path / "block")}
    (alone,) = swept(f"algorithm: autoflip\nattack: {several}", tmp_path / "alone")
    first, second = dict(alone.numbers()), dict(block[alone.cell])
    for one in (first, second):  # the place in the sweep differs
        one.pop("axes")
    assert first == second
    assert alone.threats is not None
    assert [(one.kind, one.memory) for one in alone.threats] == [
        ("label_flip", False),
        ("mimic", True),
        ("fault", True),
    ]


@pytest.mark.slow
def test_who_knows_its_own_row_attacks_through_parties(tmp_path: Path) -> None:
    text = "algorithm: agreement_only\nexploration: {method: linear}\nsecure_sum: {updates: true, parties: 2}\n"
    (clean,) = swept(text, tmp_path / "clean")
    (flipped,) = swept(f"{text}attack: {{kind: sign_flip, scope: 0.4, scale: 3}}", tmp_path / "flipped")
    assert flipped.rounds[-1].test_loss != clean.rounds[-1].test_loss
    assert len(flipped.malicious_clients) == 2


def test_attacks_with_masks_of_the_clients_own(tmp_path: Path) -> None:
    found = swept("algorithm: lotteryfl\nsweep: {product: {attack: [none, alie, sign_flip, mimic]}}", tmp_path)
    assert len({one.rounds[-1].test_loss for one in found}) == 4


OPTIONS = [
    ("{kind: backdoor, size: 9}", "s.yaml:10: attack.size = 9: images are 8 x 8; give at most 8, or features"),
    ("[label_flip, {kind: backdoor, features: [64]}]", "attack.1.features = 64: a sample has 64 numbers"),
    ("{kind: backdoor, size: 2, trigger_parts: 5}", "attack.trigger_parts = 5: the trigger has 4 places"),
    ("{kind: backdoor, target: 10}", "attack names class 10, and the data has classes 0 to 9"),
]


@pytest.mark.parametrize(("attack", "expected"), OPTIONS)
def test_a_trigger_that_does_not_fit_the_data_is_refused_with_its_place(attack: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        check(planned(f"algorithm: fedavg\nattack: {attack}").blocks)
    assert expected in str(error.value)


@pytest.mark.slow
def test_a_backdoor_is_composed_with_what_is_done_to_updates_in_the_open_and_through_parties(tmp_path: Path) -> None:
    parts = "[{kind: backdoor, scope: 0.4}, {kind: model_replacement, scope: 0.4}, {kind: neurotoxin, scope: 0.4}]"
    axes = f"sweep: {{product: {{attack: [none, {parts}]}}}}"
    sums = "exploration: {method: linear}\nsecure_sum: {updates: true, parties: 2}\n"
    for text in ("algorithm: fedavg\n", f"algorithm: agreement_only\n{sums}", "algorithm: autoflip\n"):
        found = swept(text + axes, tmp_path / str(hash(text)))
        clean, attacked = sorted(found, key=lambda one: len(one.malicious_clients))
        assert clean.backdoor is None
        assert clean.rounds[-1].attack_success is None
        assert attacked.backdoor is not None
        assert all(entry.attack_success is not None for entry in attacked.rounds if entry.test_accuracy is not None)
        assert attacked.threats is not None
        assert {one.goal for one in attacked.threats} == {"backdoor"}


@pytest.mark.slow
def test_false_running_statistics_reach_the_server_and_are_refused_where_there_are_none(tmp_path: Path) -> None:
    text = "algorithm: fedavg\nsweep: {product: {attack: [none, {kind: buffers, scope: 0.8}]}}"
    found = swept(text, tmp_path, '"attacked_nets:normed"')
    clean, lied = sorted(found, key=lambda one: len(one.malicious_clients))
    assert lied.rounds[0].test_accuracy is not None
    assert (lied.rounds[0].test_loss, lied.rounds[1].step_norm) != (
        clean.rounds[0].test_loss,
        clean.rounds[1].step_norm,
    )
    with pytest.raises(InputError, match=r"s\.yaml.*'buffers' changes running statistics, and this model has none"):
        check(planned("algorithm: fedavg\nattack: buffers").blocks)
