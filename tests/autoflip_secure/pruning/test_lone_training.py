"""PruneFL's phase 0: one client alone, against its training and its reconfigurations by hand; and one that lies."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import pytest
import torch
from digits_cells import CLIENTS, PROBLEM, TRAIN, X, cell
from summed_steps import summed_by_hand
from torch import Tensor

from autoflip_secure.attacks.poisoning.dirty_label import DirtyLabel
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.attacks.poisoning.landscape_lie import LandscapeLie
from autoflip_secure.attacks.poisoning.score_evasion import AnchorInflation
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_labels
from autoflip_secure.federation.engine import run_cells, watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ClientJob, UpdateAttack
from autoflip_secure.pruning.prunefl import PruneFL
from autoflip_secure.pruning.reconfiguration import reconfigured
from autoflip_secure.records.run import RunRecord
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

LAYOUT = PROBLEM.layout
HIDDEN = int(LAYOUT.prunable.sum())
OTHERS = LAYOUT.trained & ~LAYOUT.prunable


class First(Watcher):
    """Keeps the state that round 1 begins with."""

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        if before.round == 0:
            self.state = before


def pruner(**options: Any) -> PruneFL:
    more = {"time": "uniform", "init_samples": 30, "init_every": 10, "init_passes": 60, "every": 3}
    return PruneFL(**{**more, **options})


def begun(one: Cell, kind: Literal["auto", "sequential"] = "auto") -> tuple[RunRecord, ServerState]:
    first = First()
    return run_cells([one], choose_trainer(PROBLEM.module, LAYOUT, X[:1], kind), watch=first)[0], first.state


def by_hand(one: Cell, settings: PruneFL) -> tuple[int, Tensor, Tensor, int, int]:
    """Who, weights, mask, passes and changes, pass by pass as the authors count them."""
    draws = generator(one.seed, Purpose.PRUNING, 0, 0)
    client = int(torch.randint(CLIENTS, (1,), generator=draws))
    rows = PROBLEM.clients[client]
    places = torch.randperm(len(rows), generator=generator(one.seed, Purpose.PRUNING, 0, 1))[: settings.init_samples]
    samples, labels = rows[places], client_labels(one, client, 0)[places]
    weights, mask = PROBLEM.initial.clone(), torch.ones(LAYOUT.size, dtype=torch.bool)
    importance, began, densities, changes = torch.zeros(LAYOUT.size), 0, list[float](), 0
    passed, stage = 0, 0  # what is trained in one go, a stage, shuffles in one go
    while passed < settings.init_passes:
        if not began:
            LAYOUT.load(PROBLEM.module, weights)
            accuracy = float((PROBLEM.module(X[TRAIN][samples]).argmax(1) == labels).float().mean())
            began = passed + 1 if accuracy >= 1.5 / 10 else 0
        length = min(1 if began == passed + 1 else settings.init_every if began else settings.init_every // 5,
                     settings.init_passes - passed)  # fmt: skip
        job = ClientJob(weights, samples, labels, one.seed, (0, client, stage, 0), mask)
        weights, _, squares = summed_by_hand(
            PROBLEM.module, LAYOUT, X[TRAIN], job, one.protocol.training.model_copy(update={"epochs": length})
        )
        importance += squares
        passed, stage = passed + length, stage + 1
        if began and (passed - began) % settings.init_every == 0:
            new = reconfigured(
                weights, mask, importance, float(importance[OTHERS].double().sum()),
                {segment.name: 1.0 for segment in LAYOUT.hidden}, LAYOUT, share=settings.share,
                constant=settings.time_constant / (1 - settings.time_constant) * HIDDEN,
            )  # fmt: skip
            changes += not torch.equal(new, mask)
            mask, weights, importance = new, weights * new, torch.zeros(LAYOUT.size)
            densities.append(float(mask[LAYOUT.prunable].double().mean()))
            close = [abs(b / a - 1) <= 0.1 for a, b in pairwise(densities)]
            if len(close) >= 5 and all(close[-5:]):
                break
    return client, weights, mask, passed, changes


@pytest.mark.parametrize(
    ("options", "attack", "trainer"),
    [
        ({}, None, "auto"),
        # hardly changes: ends early
        pytest.param({"share": 0.05, "init_passes": 200}, None, "sequential", marks=pytest.mark.slow),
        pytest.param({"init_samples": 200}, LabelFlip(scope=1.0, share=1.0), "auto", marks=pytest.mark.slow),
    ],
)
def test_one_client_trains_and_prunes_as_the_authors_do(options: dict[str, Any], attack: Any, trainer: Any) -> None:
    settings = pruner(**options)
    one = cell(rounds=1, pruner=settings, **({} if attack is None else {"attack": attack}))
    record, state = begun(one, trainer)
    client, weights, mask, passes, changes = by_hand(one, settings)
    found = record.lone_training
    assert found is not None
    assert (found.client, found.passes, found.changes) == (client, passes, changes)
    assert found.samples == min(settings.init_samples, len(PROBLEM.clients[client]))
    assert int((state.mask ^ mask).sum()) <= 0.01 * HIDDEN  # rounding decides between like ones
    assert not state.weights[~state.mask].any()
    both = state.mask & mask
    assert torch.nn.functional.cosine_similarity(state.weights[both], weights[both], dim=0) > 0.999
    assert found.density == pytest.approx(float(state.mask[LAYOUT.prunable].double().mean()))
    assert found.malicious == (attack is not None)
    assert (passes < settings.init_passes) == ("share" in options)


def test_what_it_costs_is_counted_once_and_on_its_own() -> None:
    ours, state = begun(cell(rounds=2, pruner=pruner()))
    plain, _ = begun(cell(rounds=2, pruner=pruner(init="none")))
    found = ours.lone_training
    assert found is not None
    assert plain.lone_training is None
    assert "lone_training" not in plain.model_dump()
    assert found.bytes.downlink_values == 14 + 4 * LAYOUT.size
    assert found.bytes.uplink_values == found.bytes.uplink_bitmask == 14 + -(-HIDDEN // 8) + 4 * int(state.mask.sum())
    for name in ("uplink_values", "downlink_values", "downlink_bitmask"):
        rounds = sum(getattr(one.bytes, name) for one in ours.rounds)
        assert getattr(ours.costs.bytes, name) == rounds + getattr(found.bytes, name)
    told = [k for k in ours.rounds[0].participants if k != found.client]  # who made the mask knows it
    live = 4 * (14 + 4 * int(state.mask.sum()))
    assert ours.rounds[0].bytes.downlink_values == live + len(told) * -(-HIDDEN // 8)
    a_sample = plain.rounds[0].flops.dense / (2 * sum(len(PROBLEM.clients[k]) for k in plain.rounds[0].participants))
    assert found.flops.dense == pytest.approx(a_sample * found.samples * found.passes, rel=0.05)  # and an accuracy
    assert found.flops.sparse < 0.9 * found.flops.dense
    assert ours.pipeline[0].startswith("once, before round 1: one client trains alone")


@pytest.mark.slow
def test_cells_that_begin_alone_have_their_numbers_beside_others() -> None:
    cells = [cell("a", seed=2, rounds=2, pruner=pruner()), cell("b", seed=2, rounds=2),
             cell("c", seed=5, rounds=2, pruner=pruner(init_every=7, init_passes=30))]  # fmt: skip
    trainer = choose_trainer(PROBLEM.module, LAYOUT, X[:1])
    together = run_cells(cells, trainer)
    for one, record in zip(cells, together, strict=True):
        assert run_cells([one], trainer)[0].numbers() == record.numbers()
    seen = First()
    watch_cells([cells[0]], trainer, seen)  # who looks on sees the same
    assert torch.equal(seen.state.mask, begun(cells[0])[1].mask)


class Blank(UpdateAttack):
    """A model of zeros, as the update that leads there."""

    kind: Literal["blank"] = "blank"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        return torch.where(malicious[:, None], -PROBLEM.initial, updates)


def test_a_malicious_client_decides_what_everybody_begins_with() -> None:
    client = int(torch.randint(CLIENTS, (1,), generator=generator(0, Purpose.PRUNING, 0, 0)))
    _, state = begun(cell(rounds=1, pruner=pruner(init_passes=5), attack=Blank(clients=(client,))))
    assert not state.weights.any()
    _, other = begun(cell(rounds=1, pruner=pruner(init_passes=5), attack=Blank(clients=((client + 1) % CLIENTS,))))
    assert other.weights.any()


def test_a_model_that_cannot_be_used_is_no_beginning() -> None:
    client = int(torch.randint(CLIENTS, (1,), generator=generator(0, Purpose.PRUNING, 0, 0)))
    record, lost = begun(
        cell(rounds=1, pruner=pruner(init_passes=3), attack=GaussianNoise(sigma=1e30, clients=(client,)))
    )
    assert record.lone_training is not None
    assert record.lone_training.rejected
    assert torch.equal(lost.weights, PROBLEM.initial)
    assert lost.mask.all()
    assert any("before training: client" in event and "training begins without" in event for event in record.events)


@pytest.mark.parametrize("attack", [AnchorInflation, LandscapeLie])
def test_attacks_on_an_exploration_meet_the_client_that_begins_alone_and_the_record_says_whom(attack: Any) -> None:
    client = int(torch.randint(CLIENTS, (1,), generator=generator(0, Purpose.PRUNING, 0, 0)))
    settings = pruner(init_passes=3)
    met, missed = (
        begun(cell(rounds=1, pruner=settings, attack=attack(clients=(k,)))) for k in (client, (client + 1) % CLIENTS)
    )
    honest = begun(cell(rounds=1, pruner=settings))[1]
    assert torch.equal(missed[1].weights, honest.weights)
    assert [event for event in missed[0].events if "nobody attacked" in event]
    assert not [event for event in met[0].events if "nobody attacked" in event]
    changed = attack is AnchorInflation  # of what is not made of a landscape nothing can be believed
    assert torch.equal(met[1].weights, honest.weights) != changed
    said = "before training: attack landscape_lie: no landscape is made of what it sends: sent as trained"
    assert (said in met[0].events) != changed


@pytest.mark.slow
def test_a_client_with_wrong_inputs_and_labels_begins_on_them() -> None:
    honest = begun(cell(rounds=1, pruner=pruner()))[1]
    dirty = begun(cell(rounds=1, pruner=pruner(), attack=DirtyLabel(scope=1.0)))[1]
    assert not torch.equal(honest.mask, dirty.mask)
