"""Taylor pruning of units, against the specification written out unit by unit, and clients that lie about theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from boasting import Boast
from digits_cells import CLIENTS, PROBLEM, TRAIN, X, cell
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_labels
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import ChannelRequest
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.taylor import TaylorUnits, best_units
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import choose_trainer

FIRST, SECOND = 32, 16  # hidden units


class Reports(Watcher):
    """Keeps what was reported, and the masks before and after."""

    def __init__(self) -> None:
        self.seen: list[tuple[ServerState, Tensor, Tensor]] = []
        self.after: dict[int, ServerState] = {}

    def channels(self, cell: Cell, before: ServerState, clients: Tensor, sent: Mapping[str, Tensor]) -> None:
        self.seen.append((before, clients, sent["units"].clone()))

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.after[after.round] = after


def watched(one: Cell, kind: Literal["auto", "sequential"] = "auto") -> tuple[RunRecord, Reports]:
    reports = Reports()
    trainer = choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1], kind)
    return run_cells([one], trainer, watch=reports)[0], reports


def by_hand(one: Cell, before: ServerState, client: int) -> Tensor:
    """(sum of gradient x weight over a unit's incoming weights and its bias) squared, unit by unit."""
    module = PROBLEM.module
    PROBLEM.layout.load(module, before.weights)
    rows = PROBLEM.clients[client]
    loss = nn.functional.cross_entropy(module(X[TRAIN][rows]), client_labels(one, client, before.round + 1))
    module.zero_grad()
    loss.backward()
    found = []
    for layer in (module[1], module[3]):  # type: ignore[index]
        for unit in range(layer.out_features):
            total = (layer.weight.grad[unit] * layer.weight[unit]).sum() + layer.bias.grad[unit] * layer.bias[unit]
            found.append(total.item() ** 2)
    return torch.tensor(found)


def live(mask: Tensor) -> list[bool]:
    assert PROBLEM.units is not None
    return torch.cat(PROBLEM.units.live_units(mask, PROBLEM.layout)[:-1]).tolist()


def cut_by_hand(units: list[bool], importance: Tensor, share: float) -> list[bool]:
    """As many as the share says: each layer's two best, then the best of all that live."""
    layers = [range(FIRST), range(FIRST, FIRST + SECOND)]
    alive = [u for u in range(FIRST + SECOND) if units[u]]
    best = sorted(alive, key=lambda u: -float(importance[u]))
    sure = [u for layer in layers for u in [v for v in best if v in layer][:2]]
    rest = [u for u in best if u not in sure]
    kept = {*sure, *rest[: round(share * (FIRST + SECOND)) - len(sure)]}
    return [u in kept for u in range(FIRST + SECOND)]


def test_a_short_run_is_cut_once_and_none_where_nothing_may_be() -> None:
    def cuts(rounds: int, **options: Any) -> list[int]:
        return [number for number in range(1, rounds + 1) if TaylorUnits(**options)._cut(number, rounds)]

    assert cuts(6) == [3]
    assert cuts(20) == [5, 10]
    assert cuts(13, every=3) == [3, 6]
    assert cuts(6, until=0.0) == cuts(1) == []


@pytest.mark.parametrize("attack", [None, LabelFlip(scope=0.5, share=1.0)], ids=["honest", "flipped labels"])
def test_reports_and_cuts_are_those_of_the_specification(attack: Any) -> None:
    more = {} if attack is None else {"attack": attack}
    one = cell(rounds=8, pruner=TaylorUnits(keep=0.25, every=2, until=0.6), **more)
    record, reports = watched(one)
    assert [before.round + 1 for before, _, _ in reports.seen] == [2, 4]  # and in no other round
    for number, (before, clients, sent) in enumerate(reports.seen, 1):
        for client, row in zip(clients.tolist(), sent, strict=True):
            assert torch.allclose(row, by_hand(one, before, client), rtol=1e-3, atol=1e-8)
        sizes = torch.tensor([float(len(PROBLEM.clients[k])) for k in clients.tolist()])
        importance = (sizes[:, None] * sent).sum(0) / sizes.sum()
        share = 0.25 + 0.75 * (1 - number / 2) ** 3
        after = reports.after[before.round + 1]
        assert live(after.mask) == cut_by_hand(live(before.mask), importance, share)
        assert not after.weights[~after.mask].any()
    assert sum(live(reports.after[8].mask)) == 12  # a quarter of 48
    per_round = {entry.round: entry.channels for entry in record.rounds}
    assert per_round == {n: ({"units": 4 * (10 + 4 * 48)} if n in (2, 4) else None) for n in range(1, 9)}


def test_both_trainers_report_the_same() -> None:
    one = cell(rounds=4, pruner=TaylorUnits(every=2, until=1.0))
    (_, stacked), (_, sequential) = watched(one), watched(one, "sequential")
    for (_, _, a), (_, _, b) in zip(stacked.seen, sequential.seen, strict=True):
        assert torch.allclose(a, b, rtol=2e-2, atol=1e-6)


def test_a_cell_has_the_same_numbers_alone_and_beside_others() -> None:
    trainer = choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1])
    one = cell(rounds=4, pruner=TaylorUnits(every=2), attack=GaussianNoise(sigma=0.1))
    alone = run_cells([one], trainer)[0]
    others = [cell("a", seed=3, rounds=4), cell("b", seed=1, rounds=4, pruner=TaylorUnits(every=1))]
    assert run_cells([*others, one], trainer)[-1].numbers() == alone.numbers()
    assert alone.trainer.bits == "stack"


def test_bytes_and_operations_count_the_reports() -> None:
    plain, ours = watched(cell(rounds=4))[0], watched(cell(rounds=4, pruner=TaylorUnits(every=2, keep=1.0)))[0]
    message = 10 + 4 * (FIRST + SECOND)  # header, and a float a unit
    assert ours.costs.channels == {"units": 4 * message}  # four participants, one round
    assert plain.costs.channels is None
    for kind in ("uplink_values", "uplink_bitmask"):
        assert getattr(ours.costs.bytes, kind) - getattr(plain.costs.bytes, kind) == 4 * message
    assert ours.costs.bytes.downlink_values == plain.costs.bytes.downlink_values
    samples = sum(len(PROBLEM.clients[k]) for k in ours.rounds[1].participants)
    once = plain.rounds[1].flops.dense / (2 * samples)  # two epochs
    assert ours.rounds[1].flops.dense - plain.rounds[1].flops.dense == pytest.approx(once * samples, rel=1e-6)
    assert any("measure units" in step for step in ours.pipeline)
    assert not any("units" in step for step in plain.pipeline)


def test_one_liar_decides_who_stays_when_nothing_defends() -> None:
    pruner = TaylorUnits(every=2, until=1.0, keep=0.25)
    honest, lied = (
        watched(cell(rounds=2, cohort=CLIENTS, pruner=pruner, **more))[1]
        for more in ({}, {"attack": Boast(worth=100.0, clients=(0,))})
    )
    assert not all(live(honest.after[2].mask)[:10])
    kept = live(lied.after[2].mask)
    assert all(kept[:10])
    assert sum(kept) == 12  # and the second layer's best two: by what the honest say of them
    assert torch.equal(honest.seen[0][2][1:], lied.seen[0][2][1:])  # the others' reports are as they were


def test_a_filter_counts_with_its_bias_and_normalisation() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))
    layout, chain = Layout.of(net), Chain.of(net, X[:1])
    rows = torch.randn(2, layout.size, generator=torch.Generator().manual_seed(0))
    named = layout.tensors(rows)
    (found,) = chain.sums(rows, layout)
    for client in range(2):
        for unit in range(3):
            parts = [named[name][client][unit].sum() for name in ("0.weight", "0.bias", "1.weight", "1.bias")]
            buffers = [named[name][client][unit] for name in ("1.running_mean", "1.running_var")]
            assert float(found[client, unit]) == pytest.approx(float(sum([*parts, *buffers])), rel=1e-5)


def test_a_model_whose_units_are_unknown_is_refused_before_it_is_asked() -> None:
    with pytest.raises(UnsupportedModelError, match="units are unknown; use pruner kind 'threshold'"):
        TaylorUnits().wants(ChannelRequest(1, 10, PROBLEM.layout, None))


@given(st.lists(st.lists(st.tuples(st.floats(0, 9), st.booleans()), min_size=1, max_size=5), min_size=1, max_size=3),
       st.integers(0, 12))  # fmt: skip
def test_the_best_units_live_are_as_many_as_asked_and_none_below_two(layers: list[Any], count: int) -> None:
    scores = [torch.tensor([score for score, _ in layer]) for layer in layers]
    alive = [torch.tensor([own for _, own in layer]) for layer in layers]
    kept = best_units(scores, alive, count)
    least = sum(min(2, int(own.sum())) for own in alive)
    assert sum(int(part.sum()) for part in kept) == min(max(count, least), sum(int(own.sum()) for own in alive))
    for part, own in zip(kept, alive, strict=True):
        assert not part[~own].any()
        assert int(part.sum()) >= min(2, int(own.sum()))
