"""PruneFL's rounds, against local training by hand and a list of what every client remembers; and who lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from boasting import Boast
from digits_cells import CLIENTS, PROBLEM, TRAIN, X, cell
from summed_steps import summed_by_hand
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_jobs
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ChannelRequest, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.uses import uses_of_weights
from autoflip_secure.pruning.prunefl import PruneFL
from autoflip_secure.pruning.reconfiguration import reconfigured
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import choose_trainer

LAYOUT = PROBLEM.layout
HIDDEN = int(LAYOUT.prunable.sum())
OTHERS = LAYOUT.trained & ~LAYOUT.prunable
MESSAGE = 10 + 4 * (HIDDEN + 1)  # header, a float a hidden weight, one for all else
BITS = -(-HIDDEN // 8)  # a bit a prunable weight


class Seen(Watcher):
    """Keeps what was sent, and the states."""

    def __init__(self) -> None:
        self.sent: dict[int, tuple[Tensor, Tensor]] = {}
        self.states: dict[int, ServerState] = {}
        self.updates: dict[int, Tensor] = {}

    def channels(self, cell: Cell, before: ServerState, clients: Tensor, sent: Mapping[str, Tensor]) -> None:
        self.sent[before.round + 1] = clients, sent["importance"] * 2**20

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.states[before.round], self.states[after.round] = before, after
        self.updates[after.round] = sent.clone()


def watched(one: Cell, kind: Literal["auto", "sequential"] = "auto") -> tuple[RunRecord, Seen]:
    seen = Seen()
    trainer = choose_trainer(PROBLEM.module, LAYOUT, X[:1], kind)
    return run_cells([one], trainer, watch=seen)[0], seen


def pruner(**options: Any) -> PruneFL:
    return PruneFL(**{"init": "none", "every": 2, "time": "uniform", **options})


def importances(one: Cell, seen: Seen, number: int, kind: str) -> dict[int, Tensor]:
    """What each participant of a round adds, from its own training by hand."""
    before, schedule = seen.states[number - 1], one.protocol.training
    found = dict[int, Tensor]()
    clients = one.cohort(number)
    for client, job in zip(
        clients.tolist(), client_jobs(one, before.weights, before.mask, clients, number), strict=True
    ):
        _, total, squares = summed_by_hand(PROBLEM.module, LAYOUT, X[TRAIN], job, schedule)
        found[client] = total**2 if kind == "square_of_sum" else squares
    return found


@pytest.mark.parametrize(
    ("kind", "trainer", "attack"),
    [
        ("square_of_sum", "auto", None),
        pytest.param("square_of_sum", "sequential", LabelFlip(scope=0.5, share=1.0), marks=pytest.mark.slow),
        pytest.param("sum_of_squares", "auto", None, marks=pytest.mark.slow),
    ],
)
def test_clients_add_up_send_and_forget_and_the_server_reconfigures(kind: Any, trainer: Any, attack: Any) -> None:
    more = {} if attack is None else {"attack": attack}
    options = {"importance": kind, "share": 0.4, "half_life": 3.0, "time_constant": 0.4}
    one = cell(rounds=5, cohort=4, pruner=pruner(**options), **more)
    _, seen = watched(one, trainer)
    assert sorted(seen.sent) == [2, 4]
    memory = {client: torch.zeros(LAYOUT.size) for client in range(CLIENTS)}
    for number in range(1, 6):
        for client, more_of_it in importances(one, seen, number, kind).items():
            memory[client] += more_of_it
        if number not in seen.sent:
            assert torch.equal(seen.states[number].mask, seen.states[number - 1].mask)
            continue
        clients, rows = seen.sent[number]
        for client, row in zip(clients.tolist(), rows, strict=True):
            own = torch.cat([memory[client][LAYOUT.prunable], memory[client][OTHERS].sum()[None]])
            assert torch.allclose(row, own, rtol=2e-3, atol=1e-5)
            memory[client] = torch.zeros(LAYOUT.size)  # who did not take part goes on adding up
        # I = sum_k q_k (...): as all make as many passes, n_k is q_k but for a factor
        sizes = torch.tensor([float(len(PROBLEM.clients[k])) for k in clients.tolist()]).double()
        total = (sizes[:, None] * rows).sum(0) / sizes.sum()
        before, after = seen.states[number - 1], seen.states[number]
        mean = before.weights + ((sizes[:, None] * seen.updates[number]).sum(0) / sizes.sum()).float()
        wanted = reconfigured(
            mean, before.mask, LAYOUT.spread(total[:-1], LAYOUT.prunable), float(total[-1]),
            {segment.name: 1.0 for segment in LAYOUT.hidden}, LAYOUT, share=0.4 * 2 ** (-number / 3),
            constant=0.4 / 0.6 * HIDDEN,
        )  # fmt: skip
        assert int((wanted ^ after.mask).sum()) <= 2  # sizes and ratios that differ by rounding alone
        assert int((wanted ^ before.mask).sum()) > 50
        assert not after.weights[~after.mask].any()


def test_what_left_is_zero_and_what_comes_starts_at_zero() -> None:
    _, seen = watched(cell(rounds=4, pruner=pruner(every=1, share=0.5, half_life=1.0, time_constant=0.9)))
    grown = 0
    for number in range(1, 5):
        before, after = seen.states[number - 1], seen.states[number]
        came = after.mask & ~before.mask
        grown += int(came.sum())
        assert not after.weights[came | ~after.mask].any()
        if number < 4 and bool(came.any()):
            assert seen.states[number + 1].weights[came & seen.states[number + 1].mask].any()  # and is trained
    assert grown > 10


def test_update_as_importance_needs_no_memory_and_asks_for_one_gradient() -> None:
    falling = TrainingSchedule(epochs=2, lr=0.5, lr_decay=0.25)  # of the round's learning rate, not of the first one's
    one = cell(rounds=2, pruner=pruner(importance="update", every=1, share=0.5, time_constant=0.5), training=falling)
    record, seen = watched(one)
    assert record.client_state is None
    for number in (1, 2):
        schedule = falling.in_round(number)
        before, (clients, rows) = seen.states[number - 1], seen.sent[number]
        jobs = client_jobs(one, before.weights, before.mask, clients, number)
        for row, job in zip(rows, jobs, strict=True):
            end, _, _ = summed_by_hand(PROBLEM.module, LAYOUT, X[TRAIN], job, schedule)
            LAYOUT.load(PROBLEM.module, end)
            PROBLEM.module.zero_grad()
            nn.functional.cross_entropy(PROBLEM.module(X[TRAIN][job.samples]), job.labels).backward()
            last = torch.cat([p.grad.reshape(-1) for p in PROBLEM.module.parameters() if p.grad is not None])
            steps = schedule.epochs * -(-len(job.samples) // schedule.batch_size)
            own = torch.where(before.mask, (end - before.weights) / schedule.lr, steps * last) ** 2
            assert torch.allclose(row[:-1], own[LAYOUT.prunable], rtol=1e-2, atol=1e-4)
            assert float(row[-1]) == pytest.approx(float(own[OTHERS].sum()), rel=1e-3)
    plain = watched(cell(rounds=2))[0]
    assert record.rounds[0].flops.dense - plain.rounds[0].flops.dense == pytest.approx(
        plain.rounds[0].flops.dense / 2, rel=1e-6
    )  # one more pass beside two epochs


def test_bytes_go_up_in_rounds_that_reconfigure_and_the_mask_goes_down_after_them() -> None:
    ours, seen = watched(cell(rounds=5, pruner=pruner(share=0.5)))
    assert [one.channels for one in ours.rounds] == [
        {"importance": 4 * MESSAGE} if one.round in (2, 4) else None for one in ours.rounds
    ]
    told = dict[int, bytes]()
    for one in ours.rounds:
        mask = seen.states[one.round - 1].mask
        values = 4 * (14 + 4 * int(mask.sum()))  # header, live values
        new = [
            k
            for k in one.participants
            if told.get(k, torch.ones_like(mask).numpy().tobytes()) != mask.numpy().tobytes()
        ]
        assert one.bytes.downlink_values == values + BITS * len(new)
        assert one.bytes.downlink_bitmask == values + BITS * 4
        assert one.bytes.uplink_values == values + (4 * MESSAGE if one.round in (2, 4) else 0)
        told |= dict.fromkeys(one.participants, mask.numpy().tobytes())
    assert ours.rounds[1].bytes.downlink_values == 4 * (14 + 4 * LAYOUT.size)  # nothing to tell before the first
    assert ours.client_state is not None
    assert ours.client_state.bytes_per_client == {"importance": 4 * LAYOUT.size}


def test_all_clients_may_send_one_gradient_before_training() -> None:
    one = cell(rounds=2, pruner=pruner(init="all", every=9, share=0.6, time_constant=0.4))
    record, seen = watched(one)
    total, sizes = torch.zeros(LAYOUT.size).double(), [float(len(rows)) for rows in PROBLEM.clients]
    for rows, size in zip(PROBLEM.clients, sizes, strict=True):
        LAYOUT.load(PROBLEM.module, PROBLEM.initial)
        PROBLEM.module.zero_grad()
        nn.functional.cross_entropy(PROBLEM.module(X[TRAIN][rows]), PROBLEM.y_train[rows]).backward()
        own = torch.cat([p.grad.reshape(-1) for p in PROBLEM.module.parameters() if p.grad is not None])
        total += size * own.double() ** 2 / sum(sizes)
    wanted = reconfigured(
        PROBLEM.initial, torch.ones(LAYOUT.size, dtype=torch.bool), total, float(total[OTHERS].sum()),
        {segment.name: 1.0 for segment in LAYOUT.hidden}, LAYOUT, share=0.6, constant=0.4 / 0.6 * HIDDEN,
    )  # fmt: skip
    begun = seen.states[0]
    assert int((begun.mask ^ wanted).sum()) <= 2
    assert 0.3 < float(begun.mask[LAYOUT.prunable].float().mean()) < 0.9
    assert torch.equal(begun.weights, torch.where(begun.mask, PROBLEM.initial, 0.0))
    assert torch.equal(seen.states[2].mask, begun.mask)  # and no other reconfiguration in a run as short as this
    assert record.preparation is not None
    assert record.preparation.channels == {"importance": CLIENTS * MESSAGE}
    assert record.rounds[0].bytes.downlink_values == 4 * (14 + 4 * int(begun.mask.sum()) + BITS)


def test_gradients_of_dead_weights_are_counted_as_dense() -> None:
    record, seen = watched(cell(rounds=3, pruner=pruner(every=1, share=0.6)))
    plain = watched(cell(rounds=3))[0]
    for ours, dense in zip(record.rounds, plain.rounds, strict=True):
        assert ours.flops.dense == dense.flops.dense
        # layers: (multiply-adds of the forward pass, passes of a training step: no gradient of the inputs of the first)
        times, mask = 2 * sum(len(PROBLEM.clients[k]) for k in ours.participants), seen.states[ours.round - 1].mask
        sparse = 0.0
        for name, size, passes in (("1.weight", 64 * 32, 2), ("3.weight", 32 * 16, 3), ("5.weight", 16 * 10, 3)):
            share = float(mask[LAYOUT[name].slice].double().mean())
            sparse += 2 * size * ((passes - 1) * share + 1)  # all but the gradient of the weights
        assert ours.flops.sparse == pytest.approx(sparse * times, rel=1e-6)


def test_nothing_is_summed_up_where_nothing_will_be_sent() -> None:
    def wishes(rounds: int, **options: Any) -> list[bool]:
        asked = [ChannelRequest(number, rounds, LAYOUT, PROBLEM.units) for number in range(1, rounds + 1)]
        return [bool(pruner(**options).accumulates(one)) for one in asked]

    assert wishes(5) == [True] * 4 + [False]
    assert wishes(5, every=6) == [False] * 5
    assert wishes(4, importance="update") == [False] * 4


@pytest.mark.slow
def test_both_trainers_prune_alike_and_a_cell_has_its_numbers_beside_others() -> None:
    one = cell(rounds=4, pruner=pruner())
    (record, stacked), (_, sequential) = watched(one), watched(one, "sequential")
    for number, (_, rows) in stacked.sent.items():
        assert torch.allclose(rows, sequential.sent[number][1], rtol=2e-2, atol=1e-5)
    others = [cell("a", seed=3, rounds=4), cell("b", seed=1, rounds=4, pruner=pruner(importance="sum_of_squares"))]
    together = run_cells([*others, one], choose_trainer(PROBLEM.module, LAYOUT, X[:1]))
    assert together[-1].numbers() == record.numbers()
    assert together[0].numbers() == run_cells([others[0]], choose_trainer(PROBLEM.module, LAYOUT, X[:1]))[0].numbers()
    assert record.trainer.bits == "stack"


@pytest.mark.slow
def test_more_of_the_time_that_is_spent_anyway_leaves_more_weights_and_a_bound_fewer() -> None:
    def density(**options: Any) -> float:
        return watched(cell(rounds=5, pruner=pruner(every=1, share=0.5, **options)))[0].rounds[-1].density

    assert density(time_constant=0.9) > density(time_constant=0.1)
    assert density(time_constant=0.9, max_density=0.3) < density(time_constant=0.9)


def test_a_limit_falls_in_a_line_to_the_target() -> None:
    options = {"every": 1, "share": 0.5, "time_constant": 0.9, "max_density": 0.8, "target_density": 0.3}
    states = watched(cell(rounds=5, pruner=pruner(**options)))[1].states
    hidden = int(LAYOUT.prunable.sum())
    live = [int(states[round_].mask[LAYOUT.prunable].sum()) for round_ in range(1, 6)]
    limits = [int((0.8 - 0.1 * round_) * hidden) for round_ in range(1, 6)]
    assert all(one <= limit for one, limit in zip(live, limits, strict=True))  # at first fewer are worth their time
    assert live[2:] == limits[2:]
    with pytest.raises(ValueError, match=r"target_density = 0\.5 is more than max_density = 0\.3"):
        PruneFL(target_density=0.5, max_density=0.3)


def test_seconds_of_a_weight_count_its_uses() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 4)
    )
    layout = Layout.of(net)
    uses = uses_of_weights(net, layout, X[:1])
    assert dict(uses) == {
        "0.weight": 36.0, "2.weight": 16.0, "5.weight": 1.0, "6.weight": 1.0,
    }  # fmt: skip
    found = PruneFL(bandwidth=2.0, speed=3.0, samples=7)._seconds(layout, lambda: uses)
    assert found == pytest.approx({"2.weight": 4 + 14 * 16, "5.weight": 4 + 14 * 1})


def test_one_liar_decides_what_lives_when_nothing_defends() -> None:
    options = {"every": 1, "share": 0.9, "time_constant": 0.01}
    honest, lied = (
        watched(cell(rounds=2, cohort=CLIENTS, pruner=pruner(**options), **more))[1].states[2].mask[LAYOUT.prunable]
        for more in ({}, {"attack": Boast(first=100, clients=(0,))})
    )
    assert bool(lied[:100].all())
    assert not bool(honest[:100].all())
    assert int(lied[100:].sum()) < 100  # most of what lives is the liar's


@pytest.mark.slow
def test_adam_and_momentum_have_sums_too() -> None:
    for training in (TrainingSchedule(optimizer="adam", lr=0.01, epochs=1), TrainingSchedule(momentum=0.9, epochs=1)):
        record, _ = watched(cell(rounds=2, training=training, pruner=pruner(every=1)))
        assert record.rounds[-1].density < 1
