"""Explorers that explore again: the map, mask and costs by hand, attacks each time, and everything else as before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from digits_cells import AUTOFLIP, PLUS, PROBLEM, cell, run
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_rounds import watched
from sizes import every, sized
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import ExplorationConfig, explore
from autoflip_secure.algorithm.guidance import normalise
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.landscape_lie import LandscapeLie
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.clients import client_jobs
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import Threat, UpdateAttack
from autoflip_secure.interfaces.phases import exploration_after
from autoflip_secure.models.costs import exploration_bytes, round_bytes
from autoflip_secure.pruning.random import RandomWeights
from autoflip_secure.pruning.threshold import ThresholdMask, keep_energy, threshold_mask
from autoflip_secure.records.run import RunRecord
from autoflip_secure.secure_rows.secret_rows import LocalRows
from autoflip_secure.secure_rows.secure_sum import Revealed, SecureSum, SecureSumConfig, SharedBatch, Traffic
from autoflip_secure.training import choose_trainer

STATIC = {"pruner": ThresholdMask(refine_every=None), "aggregator": Mean()}


def exploring(number: int | None, **other: Any) -> ExplorationConfig:
    return ExplorationConfig(epochs=2, every=number, **other)


def test_map_mask_and_weights_after_a_second_exploration_by_hand() -> None:
    one = cell(rounds=4, exploration=exploring(2), **STATIC)
    record, seen = watched(one)
    left, goes_on = seen.states[2], seen.before[2]  # after round 2, and what round 3 starts from
    layout = PROBLEM.layout
    clients = one.explorers
    dense = torch.ones_like(left.mask)
    jobs = client_jobs(one, left.weights, dense, clients, exploration_after(2))
    trainer = choose_trainer(PROBLEM.module, layout, PROBLEM.x_train[:1])
    schedule = one.protocol.exploration.schedule(one.protocol.training)
    trained = trainer.train(PROBLEM.module, layout, PROBLEM.x_train, jobs, schedule)
    found = explore(clients, one.owned(clients), trained.updates, "robust", [])
    assert goes_on.guidance is not None
    assert torch.allclose(goes_on.guidance.energy, found.energy, rtol=1e-5, atol=1e-12)
    assert bool((goes_on.guidance.parameter_agreement == 1).all())
    guidance = normalise(goes_on.guidance.energy, layout)
    wanted = threshold_mask(guidance, layout, 0.3)
    assert PROBLEM.units is not None
    assert torch.equal(goes_on.mask, PROBLEM.units.close(wanted, layout))
    assert torch.equal(goes_on.weights, keep_energy(left.weights, left.mask, goes_on.mask, layout))
    assert not torch.equal(goes_on.mask, left.mask)
    assert bool((goes_on.mask & ~left.mask).any()), "weights may come back"
    assert torch.equal(seen.before[1].mask, seen.before[0].mask)
    assert [e.exploration is not None for e in record.rounds] == [False, False, True, False]
    assert record.pipeline[0].startswith("explore again (after every 2 rounds)")


def test_a_mask_that_only_shrinks_costs_the_same_whether_or_not_a_later_exploration_is_to_come() -> None:
    """Nobody is told of it: the mask of a round is paid for where weights have returned since, and nowhere else."""
    refined = {"pruner": ThresholdMask(refine_every=1, refine_factor=0.9), "aggregator": AgreementWeighted()}
    once, never, again = (run(cell(rounds=6, exploration=exploring(n), **refined))[0] for n in (None, 99, 4))
    assert len({entry.density for entry in once.rounds}) > 2, "nothing was refined"
    assert [entry.bytes for entry in never.rounds] == [entry.bytes for entry in once.rounds]
    assert [entry.bytes for entry in again.rounds[:4]] == [entry.bytes for entry in once.rounds[:4]]
    for sent in (entry.bytes for entry in once.rounds):  # a bit a weight more in every message, each way
        assert sent.downlink_bitmask - sent.downlink_values == sent.uplink_bitmask - sent.uplink_values > 0


def test_bytes_and_operations_of_each_exploration_are_counted_in_its_round() -> None:
    again, once = (run(cell(rounds=4, exploration=exploring(n), **STATIC))[0] for n in (2, None))
    _, seen = watched(cell(rounds=4, exploration=exploring(2), **STATIC))
    number = len(once.exploration.explorers) if once.exploration else 0
    dense = exploration_bytes(PROBLEM.layout, number)
    third = again.rounds[2]
    assert third.exploration is not None
    assert again.exploration is not None
    assert third.exploration.flops == again.exploration.flops
    own = round_bytes(seen.before[2].mask, PROBLEM.layout, 4)
    down = round_bytes(seen.states[2].mask, PROBLEM.layout, number)
    assert third.bytes.uplink_values == own.uplink_values + dense.uplink_values
    bits = (down.downlink_bitmask - down.downlink_values) // number  # a mask; nobody knows one that is drawn anew
    assert third.bytes.downlink_values == own.downlink_values + down.downlink_values + len(third.participants) * bits
    assert third.bytes.downlink_bitmask == own.downlink_bitmask + down.downlink_bitmask
    total = dense.uplink_values + sum(entry.bytes.uplink_values for entry in again.rounds)
    assert again.costs.bytes.uplink_values == total
    assert (
        third.flops.dense
        == again.rounds[1].flops.dense - _samples(again, 1) + _samples(again, 2) + again.exploration.flops
    )


def _samples(record: RunRecord, number: int) -> int:
    """Dense operations of the participants' own training, in proportion to their samples."""
    own = sum(record.client_samples[k] for k in record.rounds[number].participants)
    base = sum(record.client_samples[k] for k in record.rounds[0].participants)
    flops = record.rounds[0].flops.dense
    assert flops is not None
    return flops * own // base


def test_never_and_later_than_the_last_round_are_the_run_without_the_key() -> None:
    plain, never, late, last = (
        run(cell(rounds=4, exploration=one, **AUTOFLIP))[0]
        for one in (ExplorationConfig(epochs=2), exploring(None), exploring(9), exploring(4))
    )
    assert plain.numbers() == never.numbers()
    assert late.rounds == plain.rounds == last.rounds
    assert '"exploration":' not in plain.rounds[0].model_dump_json()


@pytest.mark.parametrize("algorithm", every(3, [PLUS, AUTOFLIP, {"pruner": RandomWeights(), "aggregator": Mean()}]))
def test_the_same_numbers_alone_in_a_block_and_one_at_a_time(algorithm: dict[str, Any]) -> None:
    noisy = GaussianNoise(sigma=0.5)
    mine = {"attack": noisy, "rounds": 5, "exploration": exploring(2), **algorithm}
    alone = run(cell(**mine))[0]
    others = [cell("a", seed=1, rounds=5), cell("b", rounds=5, exploration=exploring(3), **AUTOFLIP)]
    assert run(*others, cell(**mine))[-1].numbers() == alone.numbers()
    sequential = run(cell(**mine), kind="sequential")[0]
    assert sequential.rounds[-1].test_loss == pytest.approx(alone.rounds[-1].test_loss, rel=2e-2)


class _Batch(LocalRows, SharedBatch):
    """Rows in this process."""

    events = ()
    revealed = Revealed(sums=1)

    def forget(self) -> None:
        pass


class _Parties(SecureSum):
    """Parties in this process, to whom every share comes."""

    parties = 2
    batches = 0

    def share(self, rows: Tensor, clients: tuple[int, ...]) -> _Batch:
        self.batches += 1
        return _Batch(rows, clients)

    @property
    def traffic(self) -> Traffic:
        return Traffic(1000 * self.batches, 0, 0, 0)


def test_secure_exploration_again_gives_what_linear_gives_in_the_open() -> None:
    ours = {"rounds": 4, "exploration": exploring(2, method="linear"), **STATIC}
    (plain,) = run(cell(**ours))
    parties = _Parties()
    trainer = choose_trainer(PROBLEM.module, PROBLEM.layout, PROBLEM.x_train[:1])
    secret = cell(secure_sum=SecureSumConfig(parties=2, updates=False), **ours)
    (record,) = run_cells([secret], trainer, connect=lambda config: parties)
    assert parties.batches == 2
    assert record.digests == plain.digests
    assert [e.test_loss for e in record.rounds] == [e.test_loss for e in plain.rounds]
    assert record.secure_sum is not None
    assert [(phase.phase, phase.batches) for phase in record.secure_sum.phases] == [("exploration", 2)]
    third = record.rounds[2].exploration
    assert third is not None
    assert third.bytes.uplink_values == 1000, "what went to the parties"


class _Counting(UpdateAttack):
    """Notes when it is asked; sends nothing else."""

    kind: str = "counting"  # type: ignore[assignment]
    threat: ClassVar[Threat] = Threat("own", ("exploration", "update"))
    asked: ClassVar[list[tuple[int, int]]] = []

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Sequence[Any]) -> Tensor:
        return updates

    def act(self, view: Any) -> Any:
        self.asked.append((view.round, view.generators[0].initial_seed()))
        return super().act(view)


def test_an_attack_on_the_exploration_acts_each_time_with_draws_of_its_own() -> None:
    _Counting.asked.clear()
    run(cell(rounds=4, attack=_Counting(clients=(0,)), exploration=exploring(1), **STATIC))
    seeds = [seed for number, seed in _Counting.asked if number == 0]
    assert len(seeds) == len(set(seeds)) == 4
    _Counting.asked.clear()
    run(cell(rounds=4, attack=_Counting(clients=(0,), explorers=False), exploration=exploring(1), **STATIC))
    assert not [seed for number, seed in _Counting.asked if number == 0]
    lie = LandscapeLie(scope=0.4)
    honest, lied = (
        run(cell(rounds=4, attack=a, exploration=exploring(2), **STATIC))[0] for a in (GaussianNoise(scope=0), lie)
    )
    third = lied.rounds[2].exploration
    assert third is not None
    assert any(third.malicious)
    assert honest.rounds[2].exploration is not None
    assert not any(honest.rounds[2].exploration.malicious)


@settings(max_examples=sized(3, 15), deadline=None)
@given(number=st.integers(1, 6), rounds=st.integers(1, 6))
def test_how_often_is_as_often_as_asked(number: int, rounds: int) -> None:
    (record,) = run(cell(rounds=rounds, exploration=exploring(number, explorers=3), **STATIC))
    seen = [entry.round for entry in record.rounds if entry.exploration is not None]
    assert seen == [t + 1 for t in range(1, rounds) if t % number == 0]
    explorers = {tuple(e.exploration.explorers) for e in record.rounds if e.exploration is not None}
    assert explorers <= {tuple(record.exploration.explorers)} if record.exploration else False
