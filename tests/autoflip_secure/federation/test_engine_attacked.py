"""The whole round trip on real digits under attack: noise, label flips, and updates that are not finite."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from digits_cells import AUTOFLIP, CLIENTS, PLUS, PROBLEM, TRAIN, X, Y, cell, run
from sizes import crossed
from torch import Tensor

from autoflip_secure.attacks.poisoning.dirty_label import DirtyLabel
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.federation.clients import client_jobs, client_labels
from autoflip_secure.interfaces import NoAttack, UpdateAttack, Window
from autoflip_secure.records.run import RunRecord


def test_noise_ruins_fedavg_and_agreement_finds_it() -> None:
    noise = GaussianNoise(sigma=1.0, scope=0.2)
    fedavg, clean, ours = run(cell(attack=noise, rounds=12), cell(rounds=12), cell(attack=noise, rounds=12, **AUTOFLIP))
    assert fedavg.final_accuracy < clean.final_accuracy - 0.2  # the attack works when nothing defends
    assert ours.final_accuracy > fedavg.final_accuracy + 0.2
    assert ours.detection is not None
    assert ours.detection.auc is not None
    assert ours.detection.auc > 0.9
    assert ours.detection.roc[0] == (0, 0)
    assert fedavg.detection is None
    assert len(ours.malicious_clients) == 2


def test_bad_clients_are_the_same_for_every_algorithm_and_nested_in_scope() -> None:
    few, many = (cell(attack=GaussianNoise(scope=s)).malicious_clients for s in (0.2, 0.5))
    assert (int(few.sum()), int(many.sum())) == (2, 5)
    assert (few <= many).all()
    assert torch.equal(few, cell(attack=LabelFlip(scope=0.2), **PLUS).malicious_clients)
    assert cell(attack=GaussianNoise(clients=(3, 7))).malicious_clients.nonzero().squeeze(1).tolist() == [3, 7]
    assert not cell(attack=NoAttack()).malicious_clients.any()


def test_label_flips_are_the_clients_own_and_the_same_in_every_round() -> None:
    attacked = cell(attack=LabelFlip(share=0.5, clients=(2,), explorers=False))
    true = Y[TRAIN][PROBLEM.clients[2]]
    assert torch.equal(client_labels(attacked, 2, 0), true)
    assert not torch.equal(client_labels(attacked, 2, 1), true)
    assert torch.equal(client_labels(attacked, 2, 1), client_labels(attacked, 2, 9))
    assert torch.equal(client_labels(attacked, 3, 1), Y[TRAIN][PROBLEM.clients[3]])


def test_flips_to_the_least_likely_class_follow_the_global_model() -> None:
    """Of the model that the client starts from, by hand, in the exploration too; asked again they are the same."""
    attacked = cell(attack=LabelFlip(share=1.0, to="least_likely", clients=(2,)), **AUTOFLIP)
    rows = PROBLEM.clients[2]
    true, module = Y[TRAIN][rows], copy.deepcopy(PROBLEM.module).eval()
    for number, weights in ((0, PROBLEM.initial), (3, -PROBLEM.initial), (3, PROBLEM.initial)):
        PROBLEM.layout.load(module, weights)
        expected = []
        for scores, label in zip(module(X[TRAIN][rows]).tolist(), true.tolist(), strict=True):
            order = sorted(range(len(scores)), key=scores.__getitem__)
            expected.append(order[1] if order[0] == label else order[0])
        mask = torch.ones_like(weights, dtype=torch.bool)
        [job] = client_jobs(attacked, weights, mask, torch.tensor([2]), number)
        assert job.labels.tolist() == expected
    assert not attacked.labels_seen
    assert torch.equal(
        client_jobs(attacked, weights, mask, torch.tensor([3]), 3)[0].labels, Y[TRAIN][PROBLEM.clients[3]]
    )


def test_flips_to_the_least_likely_class_work_and_do_not_depend_on_other_cells() -> None:
    flips = [LabelFlip(share=1.0, to=to, scope=0.3) for to in ("other", "least_likely")]
    clean, other, least = run(cell(rounds=8), *(cell(attack=one, rounds=8) for one in flips))
    assert least.final_accuracy < min(clean.final_accuracy - 0.1, other.final_accuracy)
    [alone] = run(cell(attack=flips[1], rounds=8))
    assert alone.final_accuracy == least.final_accuracy
    assert [one.trust for one in alone.rounds] == [one.trust for one in least.rounds]


def test_dirty_labels_cost_one_class_more_than_any_other() -> None:
    clean, dirty = run(cell(rounds=25), cell(attack=DirtyLabel(of=6, to=8, scope=0.8), rounds=25))
    assert clean.classes is not None
    assert dirty.classes is not None
    lost = [float(a or 0) - float(b or 0) for a, b in zip(clean.classes.accuracy, dirty.classes.accuracy, strict=True)]
    assert lost[6] > 0.5
    assert max(lost[:6] + lost[7:]) < 0.25
    assert clean.final_accuracy - dirty.final_accuracy < 0.15


class Poison(UpdateAttack):
    """Sends what cannot be computed with."""

    kind: str = "poison"
    value: str = "nan"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Every coordinate of a malicious row is the value."""
        return torch.where(malicious[:, None], torch.tensor(float(self.value)), updates)


ALGORITHMS: dict[str, dict[str, Any]] = {"fedavg": {}, "autoflip": AUTOFLIP, "autoflip_plus": PLUS}


@pytest.mark.parametrize(
    ("value", "algorithm"), crossed(3, {value: value for value in ("nan", "inf", "-inf", "1e38")}, ALGORITHMS)
)
def test_updates_that_are_not_finite_are_filtered_and_said(value: str, algorithm: dict[str, Any]) -> None:
    (record,) = run(cell(attack=Poison(value=value, clients=(1, 2)), **algorithm))
    assert record.final_loss is not None
    assert record.final_accuracy > 0.2
    for entry in record.rounds:
        assert entry.rejected == [k for k in entry.participants if k in (1, 2)]
        for k, trust in zip(entry.participants, entry.trust, strict=True):
            assert trust == 0 if k in (1, 2) else trust >= 0
    assert any("client 1 sent deviations" in e for e in record.events) == bool(algorithm)
    assert any("filtered" in e for e in record.events)
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_a_round_without_one_usable_update_makes_no_step() -> None:
    poison = Poison(clients=tuple(range(CLIENTS)), explorers=False)
    (record,) = run(cell(attack=poison, **AUTOFLIP))
    assert {r.step_norm for r in record.rounds} == {0.0}
    assert sum("no step" in e for e in record.events) == 6


@pytest.mark.parametrize("algorithm", [AUTOFLIP, PLUS], ids=["autoflip", "autoflip_plus"])
def test_without_one_finite_explorer_the_landscape_is_flat_and_the_run_goes_on(algorithm: dict[str, Any]) -> None:
    poison = Poison(clients=tuple(range(CLIENTS)), window=Window(first=1, last=1))
    ruined, well = run(cell("ruined", attack=poison, **algorithm), cell("well", **algorithm))
    assert any("flat landscape" in event for event in ruined.events)
    assert ruined.exploration is not None
    assert well.exploration is not None
    assert ruined.exploration.explorers == []
    assert ruined.exploration.bytes == well.exploration.bytes  # they sent something, if nothing of use
    assert ruined.exploration.flops == well.exploration.flops
    assert ruined.rounds[1].step_norm > 0
    assert RunRecord.model_validate_json(ruined.model_dump_json()) == ruined


@pytest.mark.parametrize(
    ("sigma", "algorithm"), crossed(3, {f"{sigma:g}": sigma for sigma in (1e5, 1e13, 1e17)}, ALGORITHMS)
)
def test_noise_of_any_size_leaves_a_record_that_can_be_read(sigma: float, algorithm: dict[str, Any]) -> None:
    (record,) = run(cell(attack=GaussianNoise(sigma=sigma, scope=0.5), rounds=3, **algorithm))
    assert RunRecord.model_validate_json(record.model_dump_json()) == record
    assert 0 <= record.final_accuracy <= 1
