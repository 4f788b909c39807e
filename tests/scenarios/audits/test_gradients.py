"""Canary gradients: they count batches exactly where there is no noise, hold where it is right, and find too little."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted_faults import FAULTS, planted
from torch import Tensor

from autoflip_secure.defenses.privacy.accountants import Mechanism
from autoflip_secure.defenses.privacy.guarantees import guarantee
from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import ClientJob, PrivateSteps, TrainingSchedule
from autoflip_secure.scenarios.audits.gradients import _APART, _own_count, _seen, _Target, _target, gradient_epsilons
from autoflip_secure.scenarios.audits.view import Effort
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer
from autoflip_secure.training.poisson import poisson_batches

BASE = """
name: audited
model: {kind: mlp, hidden: [16]}
clients: 10
cohort: 5
rounds: 6
training: {optimizer: adam, lr: 0.01, batch_size: 16, epochs: 2}
exploration: {epochs: 1}
algorithm: autoflip
seeds: [21]
"""


def built(folder: Path, noise: str = "target_epsilon: 2", more: str = "") -> Cell:
    path = folder / "audited.yaml"
    data = "" if "data:" in more else "data: digits\n"
    path.write_text(f"{BASE}{data}{more}privacy: {{kind: sample_level, clip: 0.7, {noise}}}\n")
    block = plan(load(str(path))).blocks[0]
    return CellBuilder().cell(block.cells[0], block.cells[0], torch.device("cpu"))


def two_runs(cell: Cell, trainer: Trainer, target: _Target) -> tuple[Tensor, list[Tensor]]:
    thrown = [torch.rand(30, generator=torch.Generator().manual_seed(s)) < 0.5 for s in (1, 2)]
    return _seen(cell, trainer, target, thrown, _APART), thrown


def target_of(cell: Cell, noise: float | None = None) -> _Target:
    found = _target(cell)
    assert found is not None
    return found if noise is None else replace(found, steps=PrivateSteps(0.7, noise))


@pytest.mark.slow
def test_without_noise_a_canary_is_counted_once_a_batch(tmp_path: Path) -> None:
    cell = built(tmp_path)
    target = target_of(cell, 0.0)
    assert 0 in target.rounds
    seen, thrown = two_runs(cell, StackedTrainer(), target)
    for run, included in enumerate(thrown):
        expected = torch.zeros(30)
        for number in target.rounds:
            epochs = 2 if number else 1
            rows = torch.zeros(target.samples, dtype=torch.long)
            seed, address = cell.seed + _APART + run, (number, target.client)
            draws = replace(cell, seed=seed).draws
            job = ClientJob(torch.zeros(1), rows, rows, seed, address, None, target.steps, draws)
            batches = poisson_batches(job, TrainingSchedule(batch_size=16, epochs=epochs))
            expected[included] += batches[:, :30][:, included].sum(0)
        assert expected.sum() > 10
        assert torch.allclose(seen[run].float(), expected, atol=1e-3)


def test_both_trainers_show_the_same(tmp_path: Path) -> None:
    cell = built(tmp_path)
    target = target_of(cell)
    stacked, _ = two_runs(cell, StackedTrainer(), target)
    opacus, _ = two_runs(cell, SequentialTrainer(private=fit), target)
    assert torch.allclose(stacked, opacus, atol=1e-3)
    ((mechanism, steps),) = _own_count(cell, target)
    assert (stacked / (mechanism.noise_multiplier * steps**0.5)).std() == pytest.approx(1, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "epsilon", [pytest.param(0.5, marks=pytest.mark.slow), 2, pytest.param(8, marks=pytest.mark.slow)]
)
def test_a_sound_mechanism_holds_and_the_bounds_are_not_empty(tmp_path: Path, epsilon: float) -> None:
    found = gradient_epsilons(built(tmp_path, f"target_epsilon: {epsilon}"), StackedTrainer(), Effort(), 0.98)
    assert [(bound.noise, bound.part) for bound in found] == [
        ("as run", "everything"), ("calibrated", "everything"), ("calibrated", "exploration"),
    ]  # fmt: skip
    for bound in found:
        assert bound.proven is not None
        assert 0.1 * bound.proven < bound.lower < bound.proven < bound.ceiling
        assert not bound.violated
        assert bound.can_fail
    assert found[0].factor == 1
    assert 0.5 < (found[1].proven or 0) < 1.6


def test_what_is_claimed_is_the_ledgers_own_number_at_its_own_delta(tmp_path: Path) -> None:
    cell = built(tmp_path)
    made = ledger(cell)
    assert made is not None
    worst = max(made.guarantees[0].clients, key=lambda entry: entry.epsilon or 0.0)
    found = gradient_epsilons(cell, StackedTrainer(), Effort(gradient_runs=2), 0.98)
    assert found[0].proven == worst.epsilon
    assert {bound.delta for bound in found} == {worst.delta}
    assert {bound.relation for bound in found} == {made.guarantees[0].relation}


@pytest.mark.slow
def test_a_tiny_clip_norm_is_audited_too(tmp_path: Path) -> None:
    cell = built(tmp_path, "noise_multiplier: 1")
    privacy = cell.protocol.privacy.model_copy(update={"clip": 1e-7})
    tiny = replace(cell, protocol=cell.protocol.model_copy(update={"privacy": privacy}))
    found = gradient_epsilons(tiny, StackedTrainer(), Effort(gradient_runs=40), 0.95)[0]
    assert found.proven is not None
    assert 0 < found.lower < found.proven


@pytest.mark.slow  # a quick one is at client level, in test_auditing.py
@pytest.mark.parametrize("epsilon", [1, 2, 4, 8])
@pytest.mark.parametrize("fault", FAULTS[1:])
def test_every_planted_fault_is_found_at_every_target(tmp_path: Path, fault: str, epsilon: int) -> None:
    with planted(fault) as spoil:
        cell, trainer = spoil(built(tmp_path, f"target_epsilon: {epsilon}"), StackedTrainer())
        found = gradient_epsilons(cell, trainer, Effort(), 0.98)
    assert any(bound.violated for bound in found), [(b.lower, b.proven) for b in found]


def test_the_client_that_pays_most_is_attacked_and_bad_ones_are_not(tmp_path: Path) -> None:
    cell = built(tmp_path, "noise_multiplier: 2", "attack: {kind: gaussian_noise, sigma: 0.5, scope: 0.4}\n")
    target = target_of(cell)
    assert not bool(cell.malicious_clients[target.client])
    paid = {entry.client: entry.rdp or 0 for entry in guarantee(schedule_of(cell), "server").clients}
    assert paid[target.client] == max(paid.values()) > min(paid.values())


def test_clients_of_one_batch_are_attacked_and_smaller_ones_left_alone(tmp_path: Path) -> None:
    small = "data: {kind: digits, train_samples: 160, test_samples: 20}\n"
    cell = built(tmp_path, "noise_multiplier: 2", small)
    assert {len(rows) for rows in cell.problem.clients} == {16}
    target = target_of(cell)
    assert _own_count(cell, target)[0][0] == Mechanism(2.0, 1.0, "none")
    larger = cell.protocol.model_copy(update={"training": cell.protocol.training.model_copy(update={"batch_size": 17})})
    assert _target(replace(cell, protocol=larger)) is None
