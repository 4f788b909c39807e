"""LotteryFL as written down, by plain loops, against the engine; and what own masks cost and record."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from digits_cells import PROBLEM, X, cell, run
from sizes import every
from torch import Tensor

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation import own_masks
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ClientPruneView, OwnMask, Pruner, PruneView, TrainingSchedule
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.models.costs import CostModel
from autoflip_secure.pruning.lottery import LotteryTickets
from autoflip_secure.records.run import RunRecord
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

HELD = replace(
    PROBLEM,
    clients=tuple(rows[8 + k :] for k, rows in enumerate(PROBLEM.clients)),  # different numbers of samples
    held_out=tuple(rows[: 8 + k] for k, rows in enumerate(PROBLEM.clients)),
)
SCHEDULE = TrainingSchedule(epochs=2, lr=0.2, batch_size=8)
LOTTERY = LotteryTickets(accuracy=0.15, target_density=0.6, cut=0.2)
EQUAL = Mean(weighting="equal")


def lottery(name: str = "lotteryfl", seed: int = 0, **protocol: Any) -> Cell:
    settings = {"pruner": LOTTERY, "aggregator": EQUAL, "evaluation": "personal", "training": SCHEDULE} | protocol
    return replace(cell(name, seed, **settings), problem=HELD)


class Models(Watcher):
    """Keeps the global model of every round."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.weights.append(state.weights)


def watched(one: Cell) -> tuple[RunRecord, list[Tensor]]:
    models = Models()
    trainer = choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1])
    (record,) = run_cells([one], trainer, watch=models)
    return record, models.weights


class Oracle:
    """LotteryFL by the book: one client after the other, one coordinate after the other."""

    def __init__(self, one: Cell) -> None:
        self.cell, self.net = one, copy.deepcopy(PROBLEM.module)
        self.start = PROBLEM.initial.clone()
        self.weights = PROBLEM.initial.clone()
        self.masks = {k: np.ones(PROBLEM.layout.size, dtype=bool) for k in range(len(HELD.clients))}
        self.cuts: list[tuple[int, int]] = []
        self.density: list[float] = []
        self.bytes: list[tuple[int, int]] = []  # up, down

    def right(self, vector: Tensor, inputs: Tensor, labels: Tensor) -> float:
        PROBLEM.layout.load(self.net, vector)
        with torch.no_grad():
            return sum(int(self.net(x[None])[0].argmax() == y) for x, y in zip(inputs, labels, strict=True)) / len(
                labels
            )

    def of_hidden(self, mask: np.ndarray) -> float:
        hidden = [j for segment in PROBLEM.layout if segment.hidden for j in range(segment.start, segment.stop)]
        return float(np.mean(mask[hidden]))

    def train(self, vector: Tensor, mask: Tensor, labels: Tensor, rows: Tensor, round_: int, client: int) -> Tensor:
        PROBLEM.layout.load(self.net, vector)
        draws = generator(self.cell.seed, Purpose.BATCHES, round_, client)
        masks, begun = PROBLEM.layout.tensors(mask.float()), PROBLEM.layout.tensors(vector)
        mu = getattr(self.cell.protocol.local_rule, "mu", 0.0)  # FedProx: towards where this client began
        for order in [torch.randperm(len(rows), generator=draws) for _ in range(SCHEDULE.epochs)]:
            for batch in order.split(SCHEDULE.batch_size):
                self.net.zero_grad()
                F.cross_entropy(self.net(HELD.x_train[rows[batch]]), labels[batch]).backward()  # type: ignore[no-untyped-call]
                with torch.no_grad():
                    for name, parameter in self.net.named_parameters():
                        assert parameter.grad is not None
                        pull = mu * (parameter - begun[name])
                        parameter.sub_(SCHEDULE.lr * (parameter.grad + pull) * masks[name])
        return PROBLEM.layout.vector(self.net)

    def round(self, number: int) -> None:
        sent, densities, up, down = {}, [], 0, 0
        for k in self.cell.cohort(number).tolist():
            rows, labels = HELD.clients[k], HELD.y_train[HELD.clients[k]]
            mask, held = self.masks[k].copy(), torch.from_numpy(self.masks[k])
            down += 14 + 4 * int(mask.sum())
            begin = torch.where(held, self.weights, 0.0)
            if (
                self.right(begin, HELD.x_train[rows], labels) >= LOTTERY.accuracy
                and self.of_hidden(mask) > LOTTERY.target_density
            ):
                for segment in PROBLEM.layout:
                    if segment.hidden:
                        live = [j for j in range(segment.start, segment.stop) if mask[j]]
                        live.sort(key=lambda j: abs(float(self.weights[j])))
                        mask[live[: round(LOTTERY.cut * len(live))]] = False
                self.cuts.append((number, k))
                begin = torch.where(torch.from_numpy(mask), self.start, 0.0)
                up += -(-sum(s.stop - s.start for s in PROBLEM.layout if s.hidden) // 8)
            self.masks[k] = mask
            up += 14 + 4 * int(mask.sum())
            densities.append(self.of_hidden(mask))
            sent[k] = self.train(begin, torch.from_numpy(mask), labels, rows, number, k)
        for j in range(PROBLEM.layout.size):
            holders = [k for k in sent if self.masks[k][j]]
            if holders:
                self.weights[j] = sum(float(sent[k][j]) for k in holders) / len(holders)
        self.density.append(float(np.mean(densities)))
        self.bytes.append((up, down))

    def personal(self) -> list[float]:
        return [
            self.right(
                torch.where(torch.from_numpy(self.masks[k]), self.weights, 0.0), HELD.x_train[rows], HELD.y_train[rows]
            )
            for k, rows in enumerate(HELD.held_out)
        ]


@pytest.mark.parametrize("seed", every(2, [0, 3]))
def test_the_engine_is_lotteryfl_as_written_down(seed: int) -> None:
    agrees_with_the_oracle(lottery(seed=seed))


@pytest.mark.parametrize("mu", every(2, [1.0, 0.1]))
def test_lotteryfl_with_fedprox_pulls_to_where_each_client_began(mu: float) -> None:
    """To the initial weights after a rewind, else to the global ones; on what the client holds."""
    agrees_with_the_oracle(lottery(local_rule=Proximal(mu=mu)))


def agrees_with_the_oracle(one: Cell) -> None:
    record, weights = watched(one)
    oracle = Oracle(one)
    for number, entry in enumerate(record.rounds, start=1):
        oracle.round(number)
        torch.testing.assert_close(weights[number], oracle.weights, rtol=0, atol=2e-5)
        own = oracle.personal()
        assert entry.personal is not None
        assert (entry.personal.mean, entry.personal.worst) == (pytest.approx(np.mean(own)), min(own))
        assert entry.personal.spread == pytest.approx(np.std(own))
        assert entry.test_accuracy == entry.personal.mean
        assert entry.personal.global_accuracy == pytest.approx(oracle.right(weights[number], HELD.x_test, HELD.y_test))
        assert entry.density == pytest.approx(oracle.density[-1])
        assert (entry.bytes.uplink_values, entry.bytes.downlink_values) == oracle.bytes[-1]
    assert len({k for _, k in oracle.cuts}) > 3, "the oracle saw too little"
    assert max(map([k for _, k in oracle.cuts].count, range(10))) >= 2, "somebody cut twice"
    assert record.personal is not None
    assert record.personal.accuracy == oracle.personal()
    assert record.personal.held_out == [len(rows) for rows in HELD.held_out]
    assert record.client_state is not None
    assert record.client_state.bytes_per_client == {"mask": -(-PROBLEM.layout.size // 8)}


class LeastUsed(Pruner):
    """A rule of this test's own: cuts where the mean size of what a client was sent is small, one draw at random."""

    kind: Literal["least_used"] = "least_used"
    own: ClassVar[bool] = True
    client_rows: ClassVar[Mapping[str, Literal["bits", "numbers"]]] = {"seen": "numbers", "ever": "bits"}

    def mask(self, view: PruneView) -> Tensor:
        return view.mask

    def client_mask(self, view: ClientPruneView) -> OwnMask:
        assert view.accuracy is None
        seen = view.states["seen"] + view.weights.abs()
        mask = view.mask.clone()
        for segment in view.layout.hidden:
            live = segment.start + mask[segment.slice].nonzero().squeeze(1)
            mask[live[seen[live].argsort()[: len(live) // 10]]] = False
            mask[live[torch.randint(len(live), (1,), generator=view.generator(segment.start))]] = False
        return OwnMask(mask, view.weights, {"seen": seen, "ever": view.states["ever"] & mask})


def test_named_rows_survive_rounds_and_are_the_clients_own() -> None:
    rule = LeastUsed()
    one = lottery("rule", pruner=rule, aggregator=Mean(), evaluation="global")
    record, weights = watched(one)
    seen = {k: torch.zeros(PROBLEM.layout.size) for k in range(10)}
    masks = {k: torch.ones(PROBLEM.layout.size, dtype=torch.bool) for k in range(10)}
    hidden = PROBLEM.layout.prunable
    for number, entry in enumerate(record.rounds, start=1):
        for k in entry.participants:
            seen[k] += weights[number - 1].abs()
            for segment in PROBLEM.layout.hidden:
                live = segment.start + masks[k][segment.slice].nonzero().squeeze(1)
                draws = generator(one.seed, Purpose.CLIENT_MASK, number, k, segment.start)
                masks[k][live[seen[k][live].argsort()[: len(live) // 10]]] = False
                masks[k][live[torch.randint(len(live), (1,), generator=draws)]] = False
        expected = np.mean([float(masks[k][hidden].double().mean()) for k in entry.participants])
        assert entry.density == pytest.approx(expected)
    assert record.client_state is not None
    size = PROBLEM.layout.size
    assert record.client_state.bytes_per_client == {"mask": -(-size // 8), "seen": 4 * size, "ever": -(-size // 8)}
    assert [layer.live_weights for layer in record.layers if layer.hidden] == [
        round(np.mean([int(masks[k][segment.slice].sum()) for k in range(10)])) for segment in PROBLEM.layout.hidden
    ]


def numbers(records: list[RunRecord]) -> list[dict[str, Any]]:
    return [record.numbers() for record in records]


def test_in_memory_in_a_file_alone_and_beside_others_the_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = lottery("noisy", attack=GaussianNoise(sigma=0.1, clients=(1, 4)), rounds=3)
    cells = [noisy, lottery("rule", pruner=LeastUsed(), rounds=3), cell("plain", training=SCHEDULE, rounds=3)]
    together = numbers(run(*cells))
    assert numbers([run(one)[0] for one in reversed(cells)]) == together[::-1]
    made, kept = [], own_masks.memories

    def seen(cells: list[Cell]) -> Any:
        made.extend(found := kept(cells, bound=0))
        return found

    monkeypatch.setattr("autoflip_secure.federation.engine.memories", seen)
    assert numbers(run(*cells)) == together
    assert [one.spilled if one else None for one in made] == [True, True, None]


class EveryBit(Pruner):
    """Own masks that are never cut: the shared mask as a special case."""

    kind: Literal["every_bit"] = "every_bit"
    own: ClassVar[bool] = True

    def mask(self, view: PruneView) -> Tensor:
        return view.mask


@pytest.mark.parametrize("attack", [{}, {"attack": GaussianNoise(sigma=0.2, relative=True, clients=(0, 3, 5))}])
def test_own_masks_that_are_all_the_same_are_the_shared_mask_to_the_bit(attack: dict[str, Any]) -> None:
    own, shared = (
        replace(cell("x", training=SCHEDULE, pruner=pruner, **attack), problem=HELD)
        for pruner in (EveryBit(), cell().protocol.pruner)
    )
    (first, first_weights), (second, second_weights) = watched(own), watched(shared)
    assert all(torch.equal(a, b) for a, b in zip(first_weights, second_weights, strict=True))
    for a, b in zip(first.rounds, second.rounds, strict=True):
        assert a.model_dump(exclude={"density"}) == b.model_dump(exclude={"density"})
        assert a.density == b.density


def test_noise_is_added_on_what_a_malicious_client_holds_and_nowhere_else() -> None:
    class Updates(Watcher):
        def __init__(self) -> None:
            self.sent: list[Tensor] = []

        def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
            self.sent.append(sent)

    rule: dict[str, Any] = {"pruner": LeastUsed(), "rounds": 1, "evaluation": "global"}
    plain, noisy = Updates(), Updates()
    attack = GaussianNoise(sigma=0.5, relative=True, scope=1.0)
    trainer = choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1])
    run_cells([lottery(**rule)], trainer, watch=plain)
    run_cells([lottery(**rule, attack=attack)], trainer, watch=noisy)
    for honest, sent in zip(plain.sent[0], noisy.sent[0], strict=True):
        held = sent != 0
        assert 0.85 < float(held[PROBLEM.layout.prunable].float().mean()) < 0.95
        assert bool((honest[~held] == 0).all())
        torch.testing.assert_close((sent - honest).norm(), 0.5 * honest.norm())


def test_flipped_labels_decide_about_a_malicious_clients_mask_and_malicious_clients_are_not_in_the_mean() -> None:
    attack = LabelFlip(share=1.0, to="target", target=3, clients=(2, 7))
    record, _ = watched(lottery(attack=attack, rounds=2))
    assert record.personal is not None
    assert record.personal.clients == [0, 1, 3, 4, 5, 6, 8, 9]
    honest, _ = watched(lottery(rounds=2))
    assert numbers([record]) != numbers([honest])


def test_operations_are_those_of_each_clients_mask_and_of_the_pass_that_measures_its_accuracy() -> None:
    one = lottery(cohort=2, rounds=4, aggregator=Mean())
    masks: list[Any] = []
    original = own_masks.decide

    def seen(*args: Any) -> Any:
        masks.extend(found := original(*args))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoflip_secure.federation.engine.decide", seen)
        (record,) = run(one)
    costs = CostModel(PROBLEM.module, PROBLEM.layout, PROBLEM.units, "ok", X[:1], SCHEDULE.batch_size)
    for entry, masking in zip(record.rounds, masks, strict=True):
        expected = 0
        for k, before, after in zip(entry.participants, masking.before, masking.masks, strict=True):
            n = len(HELD.clients[k])
            expected += (costs.training(after, n * SCHEDULE.epochs).sparse or 0) + n * (
                costs.forward(before).sparse or 0
            )
        assert entry.flops.sparse == expected
    assert record.rounds[-1].density < 1
