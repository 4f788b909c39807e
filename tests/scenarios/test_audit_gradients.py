"""Canary gradients: they count batches exactly where there is no noise, hold where it is right, and find too little."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

from autoflip_secure.cell import Cell
from autoflip_secure.interfaces import ClientJob, PrivateSteps, Schedule
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer
from autoflip_secure.training.poisson import poisson_batches
from defenses.differential_privacy import fit
from defenses.guarantees import guarantee
from defenses.privacy_ledger import schedule_of
from scenarios.audit_gradients import _APART, _evidence, _seen, _Target, _targets, gradient_epsilon
from scenarios.audit_view import Effort
from scenarios.loading import load
from scenarios.problems import Builder
from scenarios.sweep import plan

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
    return Builder().cell(block.cells[0], block.cells[0], torch.device("cpu"))


def two_runs(cell: Cell, trainer: Trainer, target: _Target) -> tuple[Tensor, Tensor, list[Tensor]]:
    thrown = [torch.rand(30, generator=torch.Generator().manual_seed(s)) < 0.5 for s in (1, 2)]
    return *_seen(cell, trainer, target, thrown, 100), thrown


def test_without_noise_a_canary_is_counted_once_a_batch(tmp_path: Path) -> None:
    cell = built(tmp_path)
    target = replace(_targets(cell)[3], steps=PrivateSteps(0.7, 0.0))
    seen, steps, thrown = two_runs(cell, StackedTrainer(), target)
    for run, included in enumerate(thrown):
        expected, total, count = torch.zeros(30), 0, int(included.sum())
        for number in target.rounds:
            epochs = 2 if number else 1
            rows = torch.zeros(count + 100, dtype=torch.long)
            seed, address = cell.seed + _APART * (1 + run), (number, target.client)
            job = ClientJob(torch.zeros(1), rows, rows, seed, address, None, target.steps)
            batches = poisson_batches(job, Schedule(batch_size=16, epochs=epochs))
            expected[included] += batches[:, :count].sum(0)
            total += len(batches)
        assert expected.sum() > 10
        assert torch.allclose(seen[run].float(), expected, atol=1e-3)
        assert int(steps[run]) == total


def test_both_trainers_show_the_same(tmp_path: Path) -> None:
    cell = built(tmp_path)
    target = _targets(cell)[0]
    stacked, steps, _ = two_runs(cell, StackedTrainer(), target)
    opacus, same, _ = two_runs(cell, SequentialTrainer(private=fit), target)
    assert torch.equal(steps, same)
    assert torch.allclose(stacked, opacus, atol=1e-3)
    noise = target.steps.noise_multiplier * steps.sqrt()
    assert (stacked / noise).std() == pytest.approx(1, abs=0.3)


def test_evidence_is_the_likelihood_ratio() -> None:
    seen, steps, rate, sigma = torch.tensor([[-1.0, 3.0, 40.0]]).double(), torch.tensor([[50.0]]), 0.1, 1.5
    wide, narrow = (sigma**2 * 50 + 50 * 0.1 * 0.9) ** 0.5, sigma * 50**0.5
    expected = stats.norm.logpdf(seen, 5, wide) - stats.norm.logpdf(seen, 0, narrow)
    assert _evidence(seen, steps, rate, sigma).numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "epsilon", [pytest.param(0.5, marks=pytest.mark.slow), 2, pytest.param(8, marks=pytest.mark.slow)]
)
def test_a_sound_mechanism_holds_and_the_bound_is_not_empty(tmp_path: Path, epsilon: float) -> None:
    found = gradient_epsilon(built(tmp_path, f"target_epsilon: {epsilon}"), StackedTrainer(), Effort(), 0.95)
    assert found is not None
    assert found.proven is not None
    assert 0.2 * found.proven < found.lower < found.proven
    assert not found.violated


def test_a_tiny_clip_norm_is_audited_too(tmp_path: Path) -> None:
    cell = built(tmp_path, "noise_multiplier: 1")
    privacy = cell.protocol.privacy.model_copy(update={"clip": 1e-7})
    tiny = replace(cell, protocol=cell.protocol.model_copy(update={"privacy": privacy}))
    found = gradient_epsilon(tiny, StackedTrainer(), Effort(gradients=2000), 0.95)
    assert found is not None
    assert found.proven is not None
    assert 0 < found.lower < found.proven


class Quieter(StackedTrainer):
    """A planted bug: less noise than the ledger was told."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def train(self, module, layout, x, jobs, schedule):  # type: ignore[no-untyped-def]
        wrong = [
            replace(job, private=replace(job.private, noise_multiplier=self.factor * job.private.noise_multiplier))
            for job in jobs
        ]
        return super().train(module, layout, x, wrong, schedule)


@pytest.mark.parametrize("factor", [0.3, pytest.param(0.0, marks=pytest.mark.slow)])
def test_too_little_noise_is_found(tmp_path: Path, factor: float) -> None:
    found = gradient_epsilon(built(tmp_path, "target_epsilon: 1"), Quieter(factor), Effort(), 0.95)
    assert found is not None
    assert found.violated, (found.lower, found.proven)


def test_the_client_that_pays_most_is_attacked_and_bad_ones_are_not(tmp_path: Path) -> None:
    cell = built(tmp_path, "noise_multiplier: 2", "attack: {kind: gaussian_noise, sigma: 0.5, scope: 0.4}\n")
    targets = _targets(cell)
    assert targets
    assert not any(bool(cell.bad_clients[target.client]) for target in targets)
    found = gradient_epsilon(cell, StackedTrainer(), Effort(gradients=300), 0.95)
    assert found is not None
    attacked = int(re.findall(r"at client (\d+)", found.what)[0])
    paid = {entry.client: entry.rdp or 0 for entry in guarantee(schedule_of(cell), "server").clients}
    assert paid[attacked] == max(paid.values()) > min(paid.values())


def test_clients_of_one_batch_are_left_alone(tmp_path: Path) -> None:
    small = "data: {kind: digits, train_samples: 160, test_samples: 20}\n"
    cell = built(tmp_path, "noise_multiplier: 2", small)
    assert {len(rows) for rows in cell.problem.clients} == {16}
    assert gradient_epsilon(cell, StackedTrainer(), Effort(), 0.95) is None
