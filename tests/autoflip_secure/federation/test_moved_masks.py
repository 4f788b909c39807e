"""Masks that clients move while they train: FedSpa as written down, by plain loops, against the engine; costs, memory,
trainers, attacks and channels."""

from __future__ import annotations

import copy
import math
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
from autoflip_secure.interfaces import Channel, ChannelRequest, ClientView, LocalRule, LocalView, TrainingSchedule
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.local_rules.regrow import Regrow
from autoflip_secure.models.costs import CostModel
from autoflip_secure.pruning.own_erk import OwnErk, erk
from autoflip_secure.records.run import RunRecord
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

HELD = replace(
    PROBLEM,
    clients=tuple(rows[8 + k :] for k, rows in enumerate(PROBLEM.clients)),  # different numbers of samples
    held_out=tuple(rows[: 8 + k] for k, rows in enumerate(PROBLEM.clients)),
)
LAYOUT = PROBLEM.layout
HIDDEN = [segment for segment in LAYOUT if segment.hidden]
SCHEDULE = TrainingSchedule(epochs=3, lr=0.2, batch_size=8, momentum=0.5)
MASK_BYTES = -(-sum(s.stop - s.start for s in HIDDEN) // 8)


def fedspa(name: str = "fedspa", seed: int = 0, **protocol: Any) -> Cell:
    settings = {
        "pruner": OwnErk(density=0.4),
        "aggregator": Mean(weighting="equal"),
        "local_rule": Regrow(share=0.6),
        "evaluation": "personal",
        "training": SCHEDULE,
    }
    return replace(cell(name, seed, **settings | protocol), problem=HELD)


class Seen(Watcher):
    """Keeps the global model of every round, and what was sent."""

    def __init__(self) -> None:
        self.weights, self.sent = list[Tensor](), list[Tensor]()

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.weights.append(state.weights)

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.sent.append(sent)


def watched(one: Cell, kind: Any = "stacked") -> tuple[RunRecord, Seen]:
    seen = Seen()
    (record,) = run_cells([one], choose_trainer(PROBLEM.module, LAYOUT, X[:1], kind), watch=seen)
    return record, seen


# ------------------------------------------------------------------------------------------------ the oracle


def erk_by_hand(density: float) -> list[float]:
    """The capped tensors are found by trying: from none to all, densest first."""
    shapes = [segment.shape for segment in HIDDEN]
    sizes = [math.prod(shape) for shape in shapes]
    ratio = [sum(shape) / math.prod(shape) for shape in shapes]
    order = sorted(range(len(shapes)), key=lambda n: -ratio[n])
    for capped in range(len(shapes) + 1):
        whole = set(order[:capped])
        rest = [n for n in range(len(shapes)) if n not in whole]
        epsilon = (density * sum(sizes) - sum(sizes[n] for n in whole)) / max(sum(sum(shapes[n]) for n in rest), 1)
        if all(epsilon * ratio[n] <= 1 for n in rest):
            return [1.0 if n in whole else epsilon * ratio[n] for n in range(len(shapes))]
    raise AssertionError


class Oracle:
    """FedSpa by the book: one client after the other, one coordinate after the other, momentum written out."""

    def __init__(self, one: Cell) -> None:
        self.cell, self.net = one, copy.deepcopy(PROBLEM.module)
        self.rule, self.mu = one.protocol.local_rule, getattr(one.protocol.local_rule, "mu", 0.0)
        self.weights = PROBLEM.initial.clone()
        self.masks = dict[int, Tensor]()
        self.moved = 0
        self.rows: list[dict[str, float]] = []

    def draw(self, number: int, client: int) -> Tensor:
        mask = torch.ones(LAYOUT.size, dtype=torch.bool)
        for place, (segment, share) in enumerate(zip(HIDDEN, erk_by_hand(0.4), strict=True)):
            draws = generator(self.cell.seed, Purpose.CLIENT_MASK, number, client, place)
            order = torch.randperm(segment.stop - segment.start, generator=draws).tolist()
            for j in order[round(share * len(order)) :]:
                mask[segment.start + j] = False
        return mask

    def gradient(self, w: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        LAYOUT.load(self.net, w)
        self.net.zero_grad()
        F.cross_entropy(self.net(HELD.x_train[rows]), labels).backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in self.net.parameters() if p.grad is not None])

    def move(self, w: Tensor, v: Tensor, mask: Tensor, g: Tensor, number: int) -> None:
        share = 0.6 / 2 * (1 + math.cos(math.pi * number / self.cell.protocol.rounds))
        for segment in HIDDEN:
            own = range(segment.start, segment.stop)
            live = sorted((j for j in own if mask[j]), key=lambda j: abs(float(w[j])))
            count = int(share * len(live))
            for j in live[:count]:
                mask[j] = False
            grown = sorted((j for j in own if not mask[j]), key=lambda j: -abs(float(g[j])))[:count]
            for j in grown:
                mask[j] = True
            self.moved += len(set(grown) - set(live))
        w[~mask], v[~mask] = 0, 0

    def client(self, number: int, k: int) -> Tensor:
        rows, labels = HELD.clients[k], HELD.y_train[HELD.clients[k]]
        mask, start = self.masks[k], torch.where(self.masks[k], self.weights, 0.0)
        w, v = start.clone(), torch.zeros(LAYOUT.size)
        draws = generator(self.cell.seed, Purpose.BATCHES, number, k)
        for epoch in range(1, SCHEDULE.epochs + 1):
            for batch in torch.randperm(len(rows), generator=draws).split(SCHEDULE.batch_size):
                g = self.gradient(w, rows[batch], labels[batch])
                v = SCHEDULE.momentum * v + torch.where(mask, g + self.mu * (w - start), 0.0)
                w = w - SCHEDULE.lr * v
            if isinstance(self.rule, Regrow) and epoch == (self.rule.after or 1):
                self.move(w, v, mask, g, number)
        return w

    def round(self, number: int) -> None:
        up = down = 0
        sent, held = dict[int, Tensor](), list[float]()
        for k in self.cell.cohort(number).tolist():
            known = self.masks.get(k)
            down += 14 + 4 * (LAYOUT.size if known is None else int(known.sum()))
            self.masks[k] = self.draw(number, k) if known is None else known.clone()
            sent[k] = self.client(number, k)
            changed = known is None or not torch.equal(known, self.masks[k])
            up += 14 + 4 * int(self.masks[k].sum()) + MASK_BYTES * changed
            held.append(float(self.masks[k][LAYOUT.prunable].double().mean()))
        for j in range(LAYOUT.size):
            holders = [k for k in sent if self.masks[k][j]]
            if holders:
                self.weights[j] = sum(float(sent[k][j]) for k in holders) / len(holders)
        self.rows.append({"up": up, "down": down, "density": float(np.mean(held))})


def agrees(one: Cell) -> Oracle:
    record, seen = watched(one)
    oracle = Oracle(one)
    for number, entry in enumerate(record.rounds, start=1):
        oracle.round(number)
        torch.testing.assert_close(seen.weights[number], oracle.weights, rtol=0, atol=2e-5)
        expected = oracle.rows[-1]
        assert entry.density == pytest.approx(expected["density"])
        assert (entry.bytes.uplink_values, entry.bytes.downlink_values) == (expected["up"], expected["down"])
    assert record.client_state is not None
    assert record.client_state.bytes_per_client == {"mask": -(-LAYOUT.size // 8)}
    live = {
        s.name: round(np.mean([int(oracle.masks[k][s.slice].sum()) if k in oracle.masks else math.prod(s.shape)
                               for k in range(10)])) for s in HIDDEN
    }  # fmt: skip
    assert {layer.name: layer.live_weights for layer in record.layers if layer.hidden} == live
    return oracle


@pytest.mark.parametrize(("after", "seed"), every(4, [(1, 3), (3, 0), (1, 0), (2, 3)]))
def test_the_engine_is_fedspa_as_written_down(after: int, seed: int) -> None:
    oracle = agrees(fedspa(seed=seed, local_rule=Regrow(share=0.6, after=after)))
    assert oracle.moved > 100, "the oracle saw too little"
    assert len({tuple(mask.tolist()) for mask in oracle.masks.values()}) == len(oracle.masks)


def test_fixed_masks_with_a_proximal_term_are_as_written_down() -> None:
    """Another rule beside own masks: it sees live coordinates alone, and pulls to where the client began."""
    oracle = agrees(fedspa(local_rule=Proximal(mu=0.5)))
    assert oracle.moved == 0


@pytest.mark.parametrize("density", [0.05, 0.4, 0.9, 1.0])
def test_erk_densities_keep_the_total_and_cap_at_one(density: float) -> None:
    found = erk({segment.name: segment.shape for segment in HIDDEN}, density)
    assert list(found.values()) == pytest.approx(erk_by_hand(density))
    total = sum(found[s.name] * math.prod(s.shape) for s in HIDDEN)
    assert total == pytest.approx(density * sum(math.prod(s.shape) for s in HIDDEN))


# ------------------------------------------------------------------------------------------------ equal however it runs


@pytest.mark.slow
def test_both_trainers_end_on_the_same_masks_and_beside_others_nothing_changes() -> None:
    (stacked, first), (sequential, second) = watched(fedspa()), watched(fedspa(), "sequential")
    assert stacked.digests == sequential.digests
    assert [r.bytes for r in stacked.rounds] == [r.bytes for r in sequential.rounds]
    for one, other in zip(first.weights, second.weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)
    others = [cell("plain", training=SCHEDULE), fedspa("prox", local_rule=Proximal()), fedspa("twin", seed=5)]
    beside = run(fedspa(), *others)
    assert [r.model_dump() for r in beside[0].rounds] == [r.model_dump() for r in stacked.rounds]
    assert [run(one)[0].numbers() for one in others] == [record.numbers() for record in beside[1:]]


@pytest.mark.slow
def test_states_in_a_file_are_states_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,), kept = run(fedspa()), own_masks.memories
    monkeypatch.setattr("autoflip_secure.federation.engine.memories", lambda cells: kept(cells, bound=0))
    assert run(fedspa())[0].numbers() == expected.numbers()


# ------------------------------------------------------------------------------------------------ costs


@pytest.mark.parametrize("after", every(2, [1, 2, 3]))
def test_operations_are_those_of_both_masks_and_of_one_dense_mini_batch(after: int) -> None:
    masks, original = list[Any](), own_masks.keep_moved

    def seen(*args: Any) -> Any:
        masks.extend(found := original(*args))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoflip_secure.federation.engine.keep_moved", seen)
        (record,) = run(fedspa(rounds=2, local_rule=Regrow(after=after)))
    costs = CostModel(PROBLEM.module, LAYOUT, PROBLEM.units, "ok", X[:1], SCHEDULE.batch_size)
    dense = torch.ones(LAYOUT.size, dtype=torch.bool)
    for entry, masking in zip(record.rounds, masks, strict=True):
        sparse = everything = 0
        for k, began, ended in zip(entry.participants, masking.began, masking.masks, strict=True):
            n = len(HELD.clients[k])
            last = n % SCHEDULE.batch_size or SCHEDULE.batch_size
            for mask, samples in ((began, after * n - last), (dense, last), (ended, (3 - after) * n)):
                found = costs.training(mask, samples)
                sparse, everything = sparse + (found.sparse or 0), everything + (found.dense or 0)
        assert entry.flops.sparse == sparse
        assert entry.flops.dense == everything
        assert 0.3 < sparse / everything < 0.8


# ------------------------------------------------------------------------------------------------ attacks, channels


def test_noise_lies_on_what_a_malicious_client_holds_at_the_end_and_counts_among_those_who_hold() -> None:
    attack = GaussianNoise(sigma=0.5, relative=True, scope=1.0)
    rule: dict[str, Any] = {"rounds": 2, "evaluation": "global"}  # nothing moves in the last
    (_, plain), (_, noisy) = watched(fedspa(**rule)), watched(fedspa(**rule, attack=attack))
    for honest, sent in zip(plain.sent[0], noisy.sent[0], strict=True):
        held = sent != 0
        assert float(held[LAYOUT.prunable].double().mean()) == pytest.approx(0.4, abs=0.01)
        assert bool((honest[~held] == 0).all())
        torch.testing.assert_close((sent - honest).norm(), 0.5 * honest.norm())
    step, sent = noisy.weights[1] - noisy.weights[0], noisy.sent[0]
    holders = (sent != 0).sum(0)
    torch.testing.assert_close(step, sent.sum(0) / holders.clamp_min(1), atol=1e-6, rtol=0)
    assert int((holders == 1).sum()) > 50, "coordinates that one client decides alone"


def test_wrong_labels_move_the_masks_of_malicious_clients_alone() -> None:
    attack = LabelFlip(share=1.0, to="target", target=3, clients=(2, 7))
    settings: dict[str, Any] = {"rounds": 2, "cohort": 10}
    (_, honest), (record, flipped) = watched(fedspa(**settings)), watched(fedspa(**settings, attack=attack))
    same = [torch.equal(a != 0, b != 0) for a, b in zip(honest.sent[0], flipped.sent[0], strict=True)]
    assert [k for k, s in zip(record.rounds[0].participants, same, strict=True) if not s] == [2, 7]


class AtTheEnd(OwnErk):
    """A pruner with a channel: the gradient at the end, of the model that the client ends with."""

    kind: Literal["at_the_end"] = "at_the_end"  # type: ignore[assignment]
    seen: ClassVar[list[ClientView]] = []

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        return (Channel("ends", LAYOUT.size),)

    def measure(self, channel: Channel, view: ClientView) -> Tensor:
        self.seen.append(view)
        return view.gradients("end")


def test_a_channel_is_measured_on_the_model_that_training_ends_with() -> None:
    AtTheEnd.seen.clear()
    one = fedspa(pruner=AtTheEnd(density=0.4), rounds=2)
    run(one)
    (view, _), oracle = AtTheEnd.seen, Oracle(one)
    for row, k in enumerate(view.clients.tolist()):
        oracle.masks[k] = oracle.draw(1, k)
        w = oracle.client(1, k)
        torch.testing.assert_close(view.start[row] + view.updates[row], w, atol=2e-5, rtol=0)
        expected = oracle.gradient(w, HELD.clients[k], HELD.y_train[HELD.clients[k]])
        torch.testing.assert_close(view.gradients("end")[row], expected, atol=2e-5, rtol=0)
    assert oracle.moved > 100


class Never(LocalRule):
    """Has a say and says nothing."""

    kind: Literal["never"] = "never"

    def moves_after(self, epoch: int, epochs: int) -> bool:
        return False

    def mask(self, view: LocalView, gradients: list[Tensor], epoch: Tensor, epochs: int) -> list[Tensor]:
        raise AssertionError


def test_a_rule_that_never_moves_masks_is_no_rule() -> None:
    plain = fedspa(local_rule=cell().protocol.local_rule)
    ours, expected = run(fedspa(local_rule=Never()))[0], run(plain)[0]
    assert [r.model_dump() for r in ours.rounds] == [r.model_dump() for r in expected.rounds]
