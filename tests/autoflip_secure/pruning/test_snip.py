"""SNIP before training: the gradient of the pooled data by plain autograd, what travels, and who can spoil it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from boasting import Boast
from digits_cells import CLIENTS, PROBLEM, TRAIN, X, Y, cell
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_labels
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Channel
from autoflip_secure.pruning.snip import Snip
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import choose_trainer

LAYOUT = PROBLEM.layout
HIDDEN = int(LAYOUT.prunable.sum())


class Seen(Watcher):
    """What came before training, and the models."""

    def __init__(self) -> None:
        self.states: list[ServerState] = []
        self.rows: dict[str, Tensor] = {}
        self.clients = torch.zeros(0)

    def prepared(self, cell: Cell, clients: Tensor, sent: Mapping[str, Tensor], means: Mapping[str, Tensor]) -> None:
        self.rows, self.clients, self.means = {name: row.clone() for name, row in sent.items()}, clients, dict(means)

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.states.append(state)


def watched(one: Cell, kind: Literal["auto", "sequential"] = "auto") -> tuple[RunRecord, Seen]:
    seen = Seen()
    (record,) = run_cells([one], choose_trainer(PROBLEM.module, LAYOUT, X[:1], kind), watch=seen)
    return record, seen


def uneven(one: Cell) -> Cell:
    own = tuple(rows[: 10 + 3 * k] for k, rows in enumerate(one.problem.clients))
    return replace(one, problem=replace(one.problem, clients=own))


def pooled(one: Cell) -> Tensor:
    """The gradient of the mean loss over everybody's samples in one batch, with the labels that each sees."""
    rows = torch.cat(one.problem.clients)
    labels = torch.cat([client_labels(one, k, 0) for k in range(CLIENTS)])
    LAYOUT.load(PROBLEM.module, one.problem.initial)
    PROBLEM.module.zero_grad()
    nn.functional.cross_entropy(PROBLEM.module(X[TRAIN][rows]), labels).backward()
    return LAYOUT.flatten({n: p.grad for n, p in PROBLEM.module.named_parameters() if p.grad is not None})


def kept_by_hand(saliency: Tensor, count: int) -> set[int]:
    """Each tensor's best, then the best of all."""
    hidden = LAYOUT.prunable.nonzero().squeeze(1).tolist()
    values = saliency.tolist()
    sure = [max(range(s.start, s.stop), key=lambda i: (values[i], -i)) for s in LAYOUT.hidden]
    rest = sorted((i for i in hidden if i not in sure), key=lambda i: (-values[i], i))
    return {*sure, *rest[: count - len(sure)]}


FLIPPED = LabelFlip(scope=0.5, share=1.0, window={"first": 0, "last": 0})  # in round 0 alone


@pytest.mark.parametrize("attack", [None, FLIPPED], ids=["honest", "flipped labels"])
def test_it_is_snip_on_the_pooled_data(attack: Any) -> None:
    one = uneven(
        cell(rounds=1, pruner=Snip(density=0.1, redraw=False), **({} if attack is None else {"attack": attack}))
    )
    record, seen = watched(one)
    gradient = pooled(one)
    assert torch.allclose(seen.means["gradient"], gradient[LAYOUT.prunable], rtol=1e-3, atol=1e-6)
    first = seen.states[0]
    count = round(0.1 * HIDDEN)
    wanted = kept_by_hand((one.problem.initial * gradient).abs(), count)
    found = {i for i in LAYOUT.prunable.nonzero().squeeze(1).tolist() if bool(first.mask[i])}
    assert len(found) == count
    assert len(found & wanted) >= count - 1  # two saliencies may be equal but for the last bit
    assert torch.equal(first.weights, one.problem.initial * first.mask)
    assert torch.equal(seen.states[-1].mask, first.mask)
    assert [entry.channels for entry in record.rounds] == [None]


@pytest.mark.slow
def test_weights_are_drawn_anew_from_the_same_values_tensor_by_tensor() -> None:
    kept = watched(cell(rounds=1, pruner=Snip(redraw=False)))[1].states[0]
    whole = watched(cell(rounds=1, pruner=Snip(density=1.0)))[1].states[0]
    drawn, again = (watched(cell(rounds=1, pruner=Snip()))[1].states[0] for _ in range(2))
    assert torch.equal(drawn.mask, kept.mask)
    assert torch.equal(drawn.weights, again.weights)
    assert torch.equal(whole.weights, PROBLEM.initial)  # nothing was cut
    for segment in LAYOUT:
        values = PROBLEM.initial[segment.slice]
        assert set(drawn.weights[segment.slice].tolist()) <= {0.0, *values.tolist()}
        if not segment.hidden:
            assert torch.equal(drawn.weights[segment.slice].sort().values, values.sort().values)
        live = drawn.mask[segment.slice]
        assert not torch.equal(drawn.weights[segment.slice][live], values[live])


def test_bytes_and_operations_of_the_preparation_are_counted_where_they_fall() -> None:
    plain, ours = watched(cell(rounds=2))[0], watched(cell(rounds=2, pruner=Snip(density=1.0)))[0]
    found = ours.preparation
    assert found is not None
    assert plain.preparation is None
    assert "preparation" not in plain.model_dump(mode="json")
    up = CLIENTS * (10 + 4 * HIDDEN)
    assert found.participants == list(range(CLIENTS))
    assert found.channels == ours.costs.channels == {"gradient": up}
    assert found.bytes.uplink_values == found.bytes.uplink_bitmask == up
    dense = plain.rounds[0].bytes.downlink_values // 4  # four take part in a round
    assert found.bytes.downlink_values == CLIENTS * dense
    for name in ("uplink_values", "downlink_values"):
        more = getattr(ours.costs.bytes, name) - getattr(plain.costs.bytes, name)
        assert more == getattr(found.bytes, name)
    samples = sum(len(PROBLEM.clients[k]) for k in plain.rounds[0].participants)
    once = plain.rounds[0].flops.dense / (2 * samples)  # two epochs
    assert found.flops.dense == pytest.approx(once * 400, rel=1e-6)
    assert ours.costs.flops.dense - plain.costs.flops.dense == found.flops.dense
    assert ours.pipeline[0].startswith("once, before round 1: all clients measure gradient")
    assert ours.pipeline[1:] == plain.pipeline
    assert RunRecord.model_validate_json(ours.model_dump_json()) == ours


def test_clients_that_explored_have_the_initial_weights_already() -> None:
    class Both(Snip):
        needs_guidance = True

    record = watched(cell(rounds=1, pruner=Both(density=0.5)))[0]
    assert record.preparation is not None
    assert record.preparation.bytes.downlink_values == 0


@pytest.mark.slow
def test_both_trainers_cut_the_same() -> None:
    one = uneven(cell(rounds=1, pruner=Snip()))
    (_, stacked), (_, sequential) = watched(one), watched(one, "sequential")
    assert torch.allclose(stacked.rows["gradient"], sequential.rows["gradient"], rtol=1e-3, atol=1e-6)
    assert int((stacked.states[0].mask ^ sequential.states[0].mask).sum()) <= 4


@pytest.mark.slow
def test_a_cell_has_the_same_numbers_alone_and_beside_others() -> None:
    trainer = choose_trainer(PROBLEM.module, LAYOUT, X[:1])
    one = cell(rounds=2, pruner=Snip(), attack=LabelFlip(scope=0.3))
    alone = run_cells([one], trainer)[0]
    others = [cell("a", seed=3, rounds=2), cell("b", seed=1, rounds=2, pruner=ThresholdMask())]
    assert run_cells([*others, one], trainer)[-1].numbers() == alone.numbers()


def test_one_liar_decides_what_stays_when_nothing_defends_and_none_does_where_it_sits_still() -> None:
    first = LAYOUT.prunable.nonzero().squeeze(1)[:10]
    honest, lied, later = (
        watched(cell(rounds=1, pruner=Snip(density=0.02), **more))
        for more in ({}, {"attack": Boast(clients=(0,))}, {"attack": Boast(clients=(0,), explorers=False)})
    )
    assert not bool(honest[1].states[0].mask[first].all())
    assert bool(lied[1].states[0].mask[first].all())
    assert lied[0].preparation is not None
    assert lied[0].preparation.malicious == [k == 0 for k in range(CLIENTS)]
    assert torch.equal(later[1].states[0].mask, honest[1].states[0].mask)


class Broken(Boast):
    """Sends what is no number."""

    kind: Literal["broken"] = "broken"  # type: ignore[assignment]

    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        return torch.where(malicious[:, None], torch.full_like(rows, torch.nan), rows)


def test_who_sends_no_numbers_is_left_out_and_named() -> None:
    one = cell(rounds=1, pruner=Snip(), attack=Broken(clients=(2, 5)))
    record, seen = watched(one)
    assert record.preparation is not None
    assert record.preparation.rejected == [2, 5]
    assert seen.clients.tolist() == [k for k in range(CLIENTS) if k not in (2, 5)]
    assert any(event.startswith("before training: clients 2, 5 sent gradient") for event in record.events)
    nobody, after = watched(cell(rounds=1, pruner=Snip(), attack=Broken(clients=tuple(range(CLIENTS)))))
    assert bool(after.states[0].mask.all())
    assert any("nothing to go by" in event for event in nobody.events)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["distributed", "central"])
def test_at_client_level_gradients_are_clipped_and_noised_for_all_clients(noise: Any) -> None:
    """Without noise the mean of clipped rows; with it as much as the ledger counts: 1/n of it per client."""
    bound, sigma = 0.05, 2.0

    def run(multiplier: float, seed: int = 0) -> Tensor:
        mechanism = ClientLevel(noise_multiplier=multiplier, clip=1.0, noise=noise)
        one = cell(rounds=1, seed=seed, pruner=Snip(bound=bound), privacy=mechanism)
        return watched(replace(one, noise_multipliers=(multiplier,) * CLIENTS))[1].means["gradient"]

    rows = watched(cell(rounds=1, pruner=Snip()))[1].rows["gradient"]
    clipped = torch.stack([row * min(1.0, bound / float(row.norm())) for row in rows])
    silent = run(0.0)
    assert torch.allclose(silent, clipped.mean(0), atol=1e-7)
    noised = run(sigma) - silent
    assert float(noised.std()) == pytest.approx(sigma * bound / CLIENTS, rel=0.06)
    assert not torch.equal(run(sigma), run(sigma, seed=1))


def test_labels_in_the_test_above_are_those_of_digits() -> None:
    assert torch.equal(torch.cat([client_labels(cell(), k, 0) for k in range(CLIENTS)]),
                       Y[TRAIN][torch.cat(PROBLEM.clients)])  # fmt: skip
