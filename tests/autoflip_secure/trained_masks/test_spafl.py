"""SpaFL as its authors' program does it, one unit after the other, against both trainers and the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
import torch
from digits_cells import PROBLEM, cell
from hand_thresholds import ThresholdsByHand, layers, masks, model, moved
from seen_rounds import watched
from sizes import crossed
from slow_training import cnn, data, group_norm, jobs_of, made, mlp
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.dirty_label import DirtyLabel
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median
from autoflip_secure.defenses.pre_aggregators.bucketing import Bucketing
from autoflip_secure.defenses.pre_aggregators.last_rows import LastRows
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import ClientJob, ClientPruneView, RoundRule, Scoring, TrainingSchedule
from autoflip_secure.local_rules.sparse_units import SparseUnits
from autoflip_secure.pruning.spafl import SpaFL
from autoflip_secure.secure_rows.own_parties import OwnParties, OwnRows
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig
from autoflip_secure.training import SequentialTrainer, StackedTrainer, Trainer, evaluate

LAYOUT, CLIENTS = PROBLEM.layout, 10
HELD = replace(
    PROBLEM,
    clients=tuple(rows[6 + k % 3 :] for k, rows in enumerate(PROBLEM.clients)),
    held_out=tuple(rows[: 6 + k % 3] for k, rows in enumerate(PROBLEM.clients)),
)
SCHEDULE = TrainingSchedule(lr=0.1, momentum=0.5, epochs=2, batch_size=16)
RULE, PRUNER, EQUAL = SparseUnits(strength=0.02), SpaFL(), Mean(weighting="equal")
HEADER = 13
UNITS = 32 + 16 + 10
THRESHOLDS = LAYOUT.where(LAYOUT["1.bias"], LAYOUT["3.bias"], LAYOUT["5.bias"])


def spafl(name: str = "spafl", seed: int = 0, **protocol: Any) -> Cell:
    settings = {"pruner": PRUNER, "local_rule": RULE, "aggregator": EQUAL, "training": SCHEDULE,
                "evaluation": "personal", "rounds": 4, "cohort": 4}  # fmt: skip
    return replace(cell(name, seed, **{**settings, **protocol}), problem=HELD)


@pytest.mark.parametrize(
    ("estimator", "rule", "make", "trainer"),
    crossed(
        6,
        {
            "clipped": ("identity", SparseUnits(strength=0.3, clip=0.5)),
            "no rule": ("identity", None),
            "beyond one": ("beyond_one", SparseUnits(strength=0.1)),
        },
        {"mlp": mlp, "cnn": cnn, "group norm": group_norm},
        {"stacked": StackedTrainer(), "sequential": SequentialTrainer()},
    ),
)
def test_both_trainers_equal_the_loop_by_hand(
    estimator: Any, rule: SparseUnits | None, make: Callable[[], nn.Module], trainer: Trainer
) -> None:
    module, layout = made(make)
    x, y = data()
    pruner, jobs = SpaFL(estimator=estimator), []
    for number, job in enumerate(jobs_of(layout, module, y, [5, 37, 16], masks=False)):
        start = job.start.clone()
        for _, bias, units, _ in layers(layout):  # some units begin below their threshold, some far above
            start[bias] = torch.linspace(-1.5, 0.3, units)[torch.randperm(units)]
        own = None if rule is None else RoundRule(rule, 1, 9)
        jobs.append(replace(job, start=start, rule=own, scoring=Scoring(pruner, start), address=(1, number)))
    trained = trainer.train(module, layout, x, jobs, SCHEDULE)
    for row, job in enumerate(jobs):
        end = ThresholdsByHand(module, layout, x, job, SCHEDULE).run()
        torch.testing.assert_close(job.start + trained.updates[row], end, rtol=1e-3, atol=2e-5)
        assert 0 < sum(map(sum, masks(end, layout))) < sum(units for _, _, units, _ in layers(layout))


class Oracle:
    """Everything that server and clients hold."""

    def __init__(self, one: Cell, pruner: SpaFL = PRUNER) -> None:
        self.cell, self.pruner, self.tau = one, pruner, torch.zeros(LAYOUT.size)
        self.own = dict.fromkeys(range(CLIENTS), PROBLEM.initial)
        self.seen = dict.fromkeys(range(CLIENTS), torch.zeros(LAYOUT.size))

    def start(self, client: int) -> Tensor:
        """What its next training begins from."""
        values = self.own[client]
        if self.pruner.follow:
            values = moved(values, self.tau - self.seen[client], LAYOUT)
        return torch.where(THRESHOLDS, self.tau, values)

    def round(self, round_: int) -> list[Tensor]:
        """What the participants have at its end."""
        ends = []
        for client in self.cell.cohort(round_).tolist():
            rows = HELD.clients[client]
            job = ClientJob(
                self.start(client), rows, PROBLEM.y_train[rows], 0, (round_, client),
                rule=RoundRule(RULE, round_, 4), scoring=Scoring(self.pruner, PROBLEM.initial),
            )  # fmt: skip
            self.seen[client] = self.tau
            self.own[client] = ThresholdsByHand(PROBLEM.module, LAYOUT, PROBLEM.x_train, job, SCHEDULE).run()
            ends.append(self.own[client])
        self.tau = torch.where(THRESHOLDS, sum(ends, torch.zeros(LAYOUT.size)) / len(ends), 0.0)
        return ends


@pytest.mark.parametrize(
    ("kind", "follow"),
    [("stacked", True), pytest.param("sequential", True, marks=pytest.mark.slow),
     pytest.param("stacked", False, marks=pytest.mark.slow)],
)  # fmt: skip
def test_every_round_is_that_of_the_authors(kind: str, follow: bool) -> None:
    pruner = SpaFL(follow=follow)
    one = spafl(pruner=pruner)
    (record, seen), oracle = watched(one, kind), Oracle(one, pruner)
    hidden = [one for one in LAYOUT if one.hidden]
    for round_, entry in enumerate(record.rounds, 1):
        ends = oracle.round(round_)
        torch.testing.assert_close(seen.states[round_].weights[THRESHOLDS], oracle.tau[THRESHOLDS], rtol=0, atol=1e-5)
        assert not bool(seen.sent[round_ - 1][:, ~THRESHOLDS].any())
        size = HEADER + 4 * UNITS
        assert entry.bytes.uplink_values == entry.bytes.uplink_bitmask == 4 * size
        assert entry.bytes.downlink_values == 4 * size
        alive = [model(end, LAYOUT) != 0 for end in ends]
        live = sum(int(own[one.slice].sum()) for own in alive for one in hidden)
        assert entry.density == pytest.approx(live / 4 / sum(one.stop - one.start for one in hidden), abs=1e-6)
        models = torch.stack([model(oracle.start(k), LAYOUT) for k in range(CLIENTS)])
        found = [
            evaluate(PROBLEM.module, LAYOUT, models[k][None], PROBLEM.x_train[rows], PROBLEM.y_train[rows])
            for k, rows in enumerate(HELD.held_out)
        ]
        assert entry.personal is not None
        assert entry.personal.mean == pytest.approx(fmean(float(accuracy) for accuracy, _ in found), abs=1e-6)
        assert entry.test_loss == pytest.approx(fmean(float(loss) for _, loss in found), rel=1e-3)
    assert entry.density < 1
    assert len({k for entry in record.rounds for k in entry.participants}) > 6
    assert record.client_state is not None
    assert record.client_state.bytes_per_client.keys() == {"mask", "trained", "seen"}
    assert "one threshold a unit travels" in record.pipeline


def test_beyond_one_learns_nothing_of_the_data() -> None:
    """What the authors' CIFAR programs send: every unit of every client has the same threshold."""
    record, seen = watched(spafl(pruner=SpaFL(estimator="beyond_one"), attack=DirtyLabel(scope=0.5), rounds=2))
    rows = (seen.sent[0] + seen.states[0].weights)[:, THRESHOLDS]
    assert float(rows.min()) > 0
    steps = torch.tensor([2.0 * -(-len(HELD.clients[k]) // 16) for k in record.rounds[0].participants])
    same = [rows[k] for k in range(len(rows)) if steps[k] == steps[0]]
    assert len(same) > 1
    for row in same:
        torch.testing.assert_close(row, rows[0, :1].expand_as(row))
    _, seen = watched(spafl(rounds=1))
    assert float((seen.sent[0][:, THRESHOLDS]).std(1).min()) > 1e-4


def test_an_attacker_moves_thresholds_and_a_median_does_not_follow() -> None:
    loud: dict[str, Any] = {"attack": GaussianNoise(sigma=3.0, scope=0.3), "cohort": 10, "rounds": 1}
    plain = watched(spafl(cohort=10, rounds=1))[1].states[-1].weights
    far = [
        float((watched(spafl(aggregator=rule, **loud))[1].states[-1].weights - plain)[THRESHOLDS].norm())
        for rule in (EQUAL, Median())
    ]
    assert far[0] > 5 * far[1]
    record, seen = watched(spafl(attack=SignFlip(scale=10, scope=0.3), rounds=2))
    assert not any(bool(sent[:, ~THRESHOLDS].any()) for sent in seen.sent)
    assert record.personal is not None
    assert not set(record.personal.clients) & set(record.malicious_clients)


@pytest.mark.parametrize("before", [(Bucketing(),), (LastRows(),)], ids=["bucketing", "last rows"])
def test_thresholds_are_rows_like_others_for_what_mixes_rows(before: tuple[Any, ...]) -> None:
    _, seen = watched(spafl(aggregator=Mean(weighting="equal", before=before), rounds=2))
    state = seen.states[-1].weights
    assert bool(state[THRESHOLDS].any())
    assert torch.equal(state[~THRESHOLDS], PROBLEM.initial[~THRESHOLDS])


def test_thresholds_go_through_secure_sums_and_weights_do_not() -> None:
    sizes = []

    class Watched(OwnParties):
        def share(self, rows: Tensor, clients: tuple[int, ...]) -> OwnRows:
            sizes.append(tuple(rows.shape))
            return super().share(rows, clients)

    secure = SecureSumConfig(parties=3, updates=True)
    plain = watched(spafl(rounds=2))[1]
    record, hidden = watched(spafl(secure_sum=secure, rounds=2), connect=lambda _: Watched())
    torch.testing.assert_close(plain.states[-1].weights, hidden.states[-1].weights, rtol=0, atol=1e-5)
    assert sizes == [(4, UNITS)] * 2
    assert record.secure_sum is not None
    assert record.secure_sum.server_sees == ["updates: their weighted sum"]


def test_a_layer_that_would_die_begins_anew_and_clients_follow_in_convolutions() -> None:
    module, layout = made(cnn)
    values = layout.vector(module)
    for number, (_, bias, _, _) in enumerate(layers(layout)):
        values[bias] = 0.0 if number else 10.0
    x, y = data()
    job = jobs_of(layout, module, y, [16], masks=False)[0]
    job = replace(job, start=values, rule=RoundRule(SparseUnits(), 1, 9), scoring=Scoring(PRUNER, values))
    end = job.start + StackedTrainer().train(module, layout, x, [job], SCHEDULE).updates[0]
    assert float(end[layers(layout)[0][1]].abs().max()) < 1

    told = torch.zeros(layout.size)
    told[layers(layout)[0][1]] = torch.linspace(-0.3, 0.3, 6)
    view = ClientPruneView(
        layout=layout, units=None, client=0, weights=told, initial=values, mask=torch.ones(layout.size).bool(),
        accuracy=None, states={name: torch.zeros(layout.size) for name in PRUNER.client_rows}, round=2, rounds=9,
        generator=torch.Generator,
    )  # fmt: skip
    weight = layout["0.weight"].slice
    torch.testing.assert_close(PRUNER.client_mask(view).start[weight], moved(values, told, layout)[weight])
