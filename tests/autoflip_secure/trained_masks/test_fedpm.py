"""FedPM as written down, one client after the other, against the engine; what travels, arrives, counts and is kept."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, e
from typing import Any

import pytest
import torch
from digits_cells import PROBLEM, X, Y, cell, run
from hand_masks import MaskByHand
from seen_rounds import Seen, watched
from sizes import crossed
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.dirty_label import DirtyLabel
from autoflip_secure.attacks.poisoning.faults import Fault
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.inner_product import InnerProduct
from autoflip_secure.attacks.poisoning.searched import OptimisedInnerProduct
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.krum import MultiKrum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import Aggregator, Attack, ClientJob, Scoring, TrainingSchedule
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.fedpm import FedPM
from autoflip_secure.secure_rows.own_parties import OwnParties
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer, evaluate

SCHEDULE = TrainingSchedule(optimizer="adam", lr=0.1, epochs=2, batch_size=16)
EQUAL = Mean(weighting="equal")
LAYOUT = PROBLEM.layout
HEADER = 13


def fedpm(name: str = "fedpm", seed: int = 0, **protocol: Any) -> Cell:
    return cell(name, seed, **{"pruner": FedPM(), "aggregator": EQUAL, "training": SCHEDULE, "rounds": 3} | protocol)


def frozen_by_hand(seed: int) -> tuple[Tensor, Tensor]:
    """± e / sqrt(fan in), and sigmoids of standard normal numbers: all tensors here are weights and biases."""
    theta = torch.zeros(LAYOUT.size)
    fan_in = {"1": 64, "3": 32, "5": 16}
    for number, segment in enumerate(LAYOUT):
        draws = generator(seed, Purpose.FROZEN_WEIGHTS, 0, number)
        for j in range(segment.start, segment.stop):
            theta[j] = e / fan_in[segment.layer] ** 0.5
        coins = torch.rand(segment.stop - segment.start, generator=draws)
        theta[segment.slice] *= torch.where(coins < 0.5, 1.0, -1.0)
    return theta, torch.randn(LAYOUT.size, generator=generator(seed, Purpose.FROZEN_WEIGHTS, 1)).sigmoid()


@pytest.mark.parametrize("kind", ["stacked", pytest.param("sequential", marks=pytest.mark.slow)])
def test_every_round_is_that_of_the_paper(kind: str) -> None:
    one = fedpm()
    record, seen = watched(one, kind=kind)
    theta, first = frozen_by_hand(0)
    torch.testing.assert_close(seen.states[0].weights, first)
    for before, after, entry in zip(seen.states, seen.states[1:], record.rounds, strict=False):
        round_, p = after.round, before.weights
        ones = torch.zeros(LAYOUT.size)
        clients = one.cohort(round_).tolist()
        for client in clients:
            rows = PROBLEM.clients[client]
            start = torch.log((0.01 + 0.98 * p) / (1 - (0.01 + 0.98 * p)))
            job = ClientJob(start, rows, PROBLEM.y_train[rows], 0, (round_, client), scoring=Scoring(FedPM(), theta))
            scores, _ = MaskByHand(PROBLEM.module, LAYOUT, PROBLEM.x_train, job, SCHEDULE).run()
            tossed = torch.rand(LAYOUT.size, generator=generator(0, Purpose.MASK_DRAWS, round_, client, 0))
            ones += tossed < scores.sigmoid()
        alpha, beta = 1 + ones, 1 + len(clients) - ones
        mode = (alpha - 1) / (alpha + beta - 2)
        assert float(((after.weights - mode).abs() > 1e-6).float().mean()) < 0.01  # a rounding may toss another bit
        drawn = torch.rand(LAYOUT.size, generator=generator(0, Purpose.FROZEN_WEIGHTS, 2, round_)) < after.weights
        assert torch.equal(after.model, theta * drawn)
        assert torch.equal(after.model_mask, drawn)
        accuracy, _ = evaluate(PROBLEM.module, LAYOUT, (theta * drawn)[None], PROBLEM.x_test, PROBLEM.y_test)
        assert entry.test_accuracy == float(accuracy)
        hidden = before.model_mask[LAYOUT.prunable]
        assert entry.density == pytest.approx(float(hidden.float().mean()))
        up, down = HEADER + ceil(LAYOUT.size / 8), HEADER + 4 * LAYOUT.size
        assert entry.bytes.uplink_values == entry.bytes.uplink_bitmask == 4 * up
        assert entry.bytes.downlink_values == entry.bytes.downlink_bitmask == 4 * down
        assert entry.flops.dense is not None
        assert entry.flops.sparse is not None
        assert 0.4 < entry.flops.sparse / entry.flops.dense < 0.6
    last = seen.states[-1]
    assert [layer.live_weights for layer in record.layers] == [
        int(last.model_mask[one.slice].sum()) for one in LAYOUT if one.kind == "weight"
    ]
    assert "local training of the scores of a mask; weights are frozen" in record.pipeline
    assert "one bit a score travels" in record.pipeline


@pytest.mark.parametrize(
    ("attack", "aggregator"),
    crossed(
        4,
        {
            one.kind: one
            for one in (
                SignFlip(scale=100.0),
                GaussianNoise(sigma=3.0),
                InnerProduct(),
                OptimisedInnerProduct(),
                DirtyLabel(),
            )
        },
        {one.kind: one for one in (EQUAL, Median(), MultiKrum(), CenteredClipping())},
    ),
)
def test_whatever_an_attacker_wants_to_send_arrives_as_bits(attack: Attack, aggregator: Aggregator) -> None:
    one = fedpm(attack=attack.model_copy(update={"scope": 0.3}), aggregator=aggregator, rounds=2)
    record, seen = watched(one)
    for before, sent in zip(seen.states, seen.sent, strict=False):
        bits = sent + before.weights
        assert bool(((bits - bits.round()).abs() < 1e-6).all())
        assert set(bits.round().unique().tolist()) == {0.0, 1.0}
    for state in seen.states:
        assert bool(((state.weights >= 0) & (state.weights <= 1)).all())
    assert any(any(entry.malicious) for entry in record.rounds)


def test_a_large_sign_flip_is_every_bit_turned_round() -> None:
    everybody = tuple(range(10))
    honest, turned = (
        watched(fedpm(rounds=1, attack=SignFlip(scale=1e6, clients=who)))[1].sent[0] for who in ((0,), everybody)
    )
    p = watched(fedpm(rounds=1))[1].states[0].weights
    rows = fedpm().cohort(1) != 0
    torch.testing.assert_close((turned + p)[rows], 1 - (honest + p)[rows])


def test_who_sends_no_numbers_or_diverges_is_left_out() -> None:
    record, _ = watched(fedpm(rounds=2, attack=Fault(sends="nan", scope=0.5)))
    assert any(entry.rejected for entry in record.rounds)
    assert all(set(entry.rejected) <= {*record.malicious_clients} for entry in record.rounds)
    wild = SCHEDULE.model_copy(update={"lr": 1e30, "weight_decay": 1.0, "optimizer": "sgd"})
    record, _ = watched(fedpm(rounds=1, training=wild))
    assert record.rounds[0].rejected == record.rounds[0].participants
    assert record.rounds[0].step_norm == 0


def test_probabilities_are_the_same_through_parties_where_nobody_checks_for_bits() -> None:
    secure = SecureSumConfig(parties=3, updates=True)
    open_, hidden = watched(fedpm())[1], watched(fedpm(secure_sum=secure), connect=lambda _: OwnParties())[1]
    for one, other in zip(open_.states, hidden.states, strict=True):
        torch.testing.assert_close(one.weights, other.weights, atol=1e-5, rtol=0)
    lying = fedpm(secure_sum=secure, attack=GaussianNoise(sigma=0.5, scope=0.3), rounds=1)
    state = watched(lying, connect=lambda _: OwnParties())[1].states[-1]
    counts = state.weights * 4
    assert bool(((state.weights >= 0) & (state.weights <= 1)).all())
    assert float(((counts - counts.round()).abs() > 0.01).float().mean()) > 0.1  # no mean of four bits


@pytest.mark.slow
def test_cells_with_and_without_trained_masks_share_a_block() -> None:
    plain = cell("plain", training=SCHEDULE, rounds=2)
    (alone,), (beside, _) = run(plain), run(plain, fedpm(rounds=2))
    assert alone.numbers() == beside.numbers()


def test_a_threshold_tests_the_most_likely_mask() -> None:
    _, seen = watched(fedpm(pruner=FedPM(tested="threshold"), rounds=1))
    assert torch.equal(seen.states[1].model_mask, seen.states[1].weights >= 0.5)


def test_running_statistics_are_averaged_as_numbers_and_norms_stay() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10))
    layout = Layout.of(module)
    problem = replace(PROBLEM, module=module, layout=layout, initial=layout.vector(module), units=None)
    seen = Seen()
    one = replace(fedpm(rounds=2), problem=problem)
    (record,) = run_cells([one], choose_trainer(module, layout, X[:1]), watch=seen)
    buffers = layout.where(*(part for part in layout if part.kind == "buffer"))
    norm = layout.where(*(part for part in layout if part.kind == "norm"))
    last = seen.states[-1]
    assert int(buffers.sum()) == 24
    assert not torch.equal(last.model[buffers], problem.initial[buffers])
    assert torch.equal(last.model[norm], torch.tensor([1.0] * 12 + [0.0] * 12))
    scores = int((~buffers & ~norm).sum())
    assert record.rounds[0].bytes.uplink_values == 4 * (HEADER + ceil(scores / 8) + 4 * 24)
    assert record.rounds[0].bytes.downlink_values == 4 * (HEADER + 4 * (scores + 24))


@pytest.mark.slow
def test_it_learns_digits() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
                               nn.Linear(128, 10))  # fmt: skip
    layout = Layout.of(module)
    order = torch.randperm(1400, generator=torch.Generator().manual_seed(1))
    problem = replace(
        PROBLEM, module=module, layout=layout, units=Chain.of(module, X[:1]), initial=layout.vector(module),
        x_train=X[:1400], y_train=Y[:1400], x_test=X[1400:], y_test=Y[1400:], clients=tuple(order.chunk(10)),
    )  # fmt: skip
    schedule = TrainingSchedule(optimizer="adam", lr=0.3, epochs=3, batch_size=16)
    one = replace(fedpm(rounds=12, cohort=10, training=schedule, evaluate_every=12), problem=problem)
    (record,) = run_cells([one], choose_trainer(module, layout, X[:1]))
    assert record.final_accuracy > 0.75
