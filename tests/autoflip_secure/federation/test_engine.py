"""The whole round trip on real digits: against a slow FedAvg, its costs and record, and what determinism promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from digits_cells import AUTOFLIP, CLIENTS, PLUS, PROBLEM, TEST, TRAIN, X, Y, cell, run
from sizes import every
from torch import nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.attacks.poisoning.faults import Fault
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.federation.cell import Cell, Problem, Protocol
from autoflip_secure.federation.clients import client_jobs
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.exploring import _explore
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.federation.server import begin, finish_round, plan_round
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.records.run import RunRecord
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import SequentialTrainer, choose_trainer


def test_fedavg_equals_a_slow_loop_over_torch_modules() -> None:
    (record,) = run(cell(rounds=3))
    weights = PROBLEM.initial.clone()
    for round_ in range(1, 4):
        chosen = torch.randperm(CLIENTS, generator=generator(0, Purpose.COHORT, round_))[:4].sort().values
        ends, sizes = [], []
        for k in chosen.tolist():
            PROBLEM.layout.load(PROBLEM.module, weights)
            rows = PROBLEM.clients[k]
            optimizer = torch.optim.SGD(PROBLEM.module.parameters(), lr=0.5)
            order = generator(0, Purpose.BATCHES, round_, k)
            for _ in range(2):
                for batch in rows[torch.randperm(len(rows), generator=order)].split(16):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(PROBLEM.module(X[TRAIN][batch]), Y[TRAIN][batch]).backward()
                    optimizer.step()
            ends.append(PROBLEM.layout.vector(PROBLEM.module))
            sizes.append(len(rows))
        weights = sum(n / sum(sizes) * end for n, end in zip(sizes, ends, strict=True))  # type: ignore[assignment]
        PROBLEM.layout.load(PROBLEM.module, weights)
        with torch.no_grad():
            logits = PROBLEM.module(X[TEST])
        assert record.rounds[round_ - 1].participants == chosen.tolist()
        assert record.rounds[round_ - 1].test_accuracy == pytest.approx(
            float((logits.argmax(1) == Y[TEST]).float().mean())
        )
        loss = float(nn.functional.cross_entropy(logits, Y[TEST]))
        assert record.rounds[round_ - 1].test_loss == pytest.approx(loss, rel=1e-4)


def test_nothing_pruned_and_nobody_filtered_is_fedavg_exactly() -> None:
    lenient = AgreementWeighted(zero_at=1e9, full_at=1e8, clip=None)
    fedavg, ours = run(cell(), cell(pruner=ThresholdMask(threshold=0), aggregator=lenient))
    for a, b in zip(fedavg.rounds, ours.rounds, strict=True):
        assert (a.test_accuracy, a.test_loss, a.step_norm) == (b.test_accuracy, b.test_loss, b.step_norm)
    assert ours.exploration is not None
    assert fedavg.exploration is None


@pytest.mark.parametrize("algorithm", every(2, [PLUS, AUTOFLIP]), ids=["autoflip_plus", "autoflip"])
def test_a_cell_gives_the_same_numbers_alone_in_a_block_and_in_any_order(algorithm: dict[str, Any]) -> None:
    noisy = GaussianNoise(sigma=0.5)
    alone = run(cell(attack=noisy, **algorithm))[0]
    others = [cell("a", seed=1), cell("b", attack=noisy, **AUTOFLIP), cell("c", attack=LabelFlip(), seed=5, **PLUS)]
    block = run(*others, cell(attack=noisy, **algorithm))[-1]
    turned = run(cell(attack=noisy, **algorithm), *others[::-1])[0]
    assert alone.numbers() == block.numbers() == turned.numbers()


def test_sequential_training_gives_the_same_run() -> None:
    noisy = cell(attack=GaussianNoise(sigma=0.5), **AUTOFLIP)
    stacked, sequential = run(noisy)[0], run(noisy, kind="sequential")[0]
    assert (stacked.trainer.kind, sequential.trainer.kind) == ("stacked", "sequential")
    assert stacked.rounds[0].test_loss == pytest.approx(sequential.rounds[0].test_loss, rel=1e-3)
    assert stacked.final_accuracy == pytest.approx(sequential.final_accuracy, abs=0.02)


def test_another_seed_gives_another_run() -> None:
    a, b = run(cell(seed=1), cell(seed=2))
    assert [r.participants for r in a.rounds] != [r.participants for r in b.rounds]


def test_explorers_are_independent_copies() -> None:
    """The authors' released code shares one model object between explorers, so their deviations are copies."""
    (record,) = run(cell(**AUTOFLIP))
    assert record.exploration is not None
    assert len({tuple(loss) for loss in record.exploration.losses}) == CLIENTS
    trainer = SequentialTrainer()
    live = torch.ones_like(PROBLEM.initial, dtype=torch.bool)
    both = client_jobs(cell(), PROBLEM.initial, live, torch.tensor([0, 1]), 0)
    together = trainer.train(PROBLEM.module, PROBLEM.layout, X[TRAIN], both, TrainingSchedule()).updates
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    for row, job in enumerate(both):
        alone = trainer.train(PROBLEM.module, PROBLEM.layout, X[TRAIN], [job], TrainingSchedule()).updates[0]
        assert torch.equal(alone, together[row])


def test_early_stopping_ends_an_explorer_whose_loss_no_longer_falls() -> None:
    patient = ExplorationConfig(epochs=12, patience=1, lr=1.0)
    whole = ExplorationConfig(epochs=12, patience=12, lr=1.0)
    stopped, full = run(cell(exploration=patient, **AUTOFLIP))[0], run(cell(exploration=whole, **AUTOFLIP))[0]
    assert stopped.exploration is not None
    assert full.exploration is not None
    lengths = [len(losses) for losses in stopped.exploration.losses]
    assert min(lengths) < 12
    assert {len(losses) for losses in full.exploration.losses} == {12}
    for losses, whole in zip(stopped.exploration.losses, full.exploration.losses, strict=True):
        assert losses == whole[: len(losses)]
        assert len(losses) == 12 or losses[-1] >= min(losses[:-1])


def test_explorers_that_are_left_out_cost_the_epochs_that_they_trained() -> None:
    patient = ExplorationConfig(epochs=12, patience=1, lr=1.0)
    broken = Fault(sends="nan", scope=0.5)
    honest, lying = run(
        cell(exploration=patient, rounds=1, **AUTOFLIP), cell(exploration=patient, rounds=1, attack=broken, **AUTOFLIP)
    )
    assert honest.exploration is not None
    assert lying.exploration is not None
    assert len(lying.exploration.explorers) == CLIENTS // 2
    assert lying.exploration.flops == honest.exploration.flops
    assert lying.exploration.bytes == honest.exploration.bytes


def test_a_model_without_hidden_weights_and_one_with_running_statistics() -> None:
    for layers in ([nn.Linear(64, 10)], [nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10)]):
        module = nn.Sequential(nn.Flatten(), *layers)
        layout = Layout.of(module)
        parts = {"module": module, "layout": layout, "units": Chain.of(module, X[:1]), "initial": layout.vector(module)}
        own = Problem(**{**PROBLEM.__dict__, **parts})
        settings = {
            "rounds": 2,
            "cohort": 4,
            "training": TrainingSchedule(epochs=1),
            "exploration": ExplorationConfig(epochs=1),
        }
        for algorithm in (AUTOFLIP, PLUS, {"pruner": NoPruning(), "aggregator": RadialAgreement()}):
            one = Cell("x", {}, {}, "x", 0, own, Protocol(**settings, **algorithm))
            (record,) = run_cells([one], choose_trainer(module, layout, X[:2]))
            assert record.final_loss is not None
            trainer, inputs = choose_trainer(module, layout, X[:2]), PoisonedInputs([one])
            landscape, *_ = next(_explore([one], trainer, Watcher(), lambda cell: None, inputs))
            state = begin(one, landscape)
            clients, jobs = plan_round(one, state)
            trained = choose_trainer(module, layout, X[:2]).train(
                module, layout, X[TRAIN], jobs, TrainingSchedule(epochs=1)
            )
            state, _ = finish_round(one, state, clients, trained.updates)
            assert state.guidance is not None
            assert not state.guidance.energy[~layout.trained].any()  # running statistics are nobody's direction


def test_costs_fall_with_the_mask_and_count_the_exploration() -> None:
    fedavg, ours = run(cell(), cell(**AUTOFLIP))
    assert ours.rounds[0].bytes.uplink_values < 0.6 * fedavg.rounds[0].bytes.uplink_values
    assert ours.rounds[0].bytes.uplink_bitmask > ours.rounds[0].bytes.uplink_values
    assert ours.rounds[0].flops.sparse < ours.rounds[0].flops.dense == fedavg.rounds[0].flops.dense
    assert ours.exploration is not None
    total = sum(r.bytes.uplink_values for r in ours.rounds) + ours.exploration.bytes.uplink_values
    assert ours.costs.bytes.uplink_values == total
    assert sum(r.flops.dense for r in ours.rounds) + ours.exploration.flops == ours.costs.flops.dense
    assert ours.exploration.bytes.uplink_values >= CLIENTS * 4 * PROBLEM.layout.size


def test_the_variance_of_a_step_is_noted_over_living_and_over_all_coordinates() -> None:
    fedavg, ours = run(cell(rounds=2), cell(rounds=2, **AUTOFLIP))
    assert all(entry.update_variance_all == entry.update_variance for entry in fedavg.rounds)  # all are alive
    for entry in ours.rounds:
        assert entry.update_variance_all == pytest.approx(entry.step_norm**2 / PROBLEM.layout.size, rel=0.05)
        assert entry.update_variance_all < entry.update_variance / 2  # the same squares over more coordinates


def test_the_record_survives_json_and_says_what_happened() -> None:
    (record,) = run(cell(attack=GaussianNoise(), **AUTOFLIP))
    assert RunRecord.model_validate_json(record.model_dump_json()).numbers() == record.numbers()
    assert record.guidance is not None
    hidden = int(PROBLEM.layout.prunable.sum())
    assert sum(record.guidance.initial_counts) == sum(record.guidance.final_counts) == hidden
    assert record.guidance.threshold == 0.3
    live = sum(layer.live_weights for layer in record.layers if layer.hidden)
    assert live < hidden
    assert "timing" not in record.numbers()
    assert [r.round for r in record.rounds] == list(range(1, 7))
