"""Runs with a backdoor: the same as on data that were poisoned by hand, whoever trains; and how well it works."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import pytest
import torch
from digits_cells import AUTOFLIP, CLIENTS, PLUS, PROBLEM, TEST, X, Y, cell, run
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.backdoor import Backdoor
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.model_replacement import ModelReplacement
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.norm_clip import NormClip
from autoflip_secure.defenses.privacy.mechanisms import SampleLevel
from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.federation.backdoor_test import attack_success
from autoflip_secure.federation.cell import Cell, Problem
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.trigger_survival import trigger_survival
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import SeveralAttacks, TrainingSchedule, Window
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.lottery import LotteryTickets
from autoflip_secure.pruning.taylor import TaylorUnits
from autoflip_secure.records.run import RunRecord
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import Trainer, choose_trainer

BAD = (1, 4, 8)
ATTACK = Backdoor(clients=BAD, share=0.4, target=6, trigger_parts=2)


def poisoned_by_hand() -> Problem:
    """The training set as malicious clients have it: 3x3 at the bottom right, the upper 5 pixels or the lower 4."""
    x, y = PROBLEM.x_train.clone(), PROBLEM.y_train.clone()
    pixels = [(row, column) for row in (5, 6, 7) for column in (5, 6, 7)]
    for place, client in enumerate(BAD):
        own = PROBLEM.clients[client]
        order = torch.randperm(len(own), generator=generator(0, Purpose.DATA_ATTACK, client))
        for row in own[order[: round(0.4 * len(own))]].tolist():
            y[row] = 6
            for tall, wide in pixels[:5] if place % 2 == 0 else pixels[5:]:
                x[row, 0, tall, wide] = PROBLEM.x_train.max()
    return replace(PROBLEM, x_train=x, y_train=y)


def trainer(kind: Literal["stacked", "sequential"] = "stacked") -> Trainer:
    return choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1], kind=kind, private=fit)


LOTTERY = {  # accuracies of the clients' own samples come to both sides of the bound
    "rounds": 5,
    "pruner": LotteryTickets(accuracy=0.45, target_density=0.6, cut=0.2),
    "aggregator": Mean(weighting="equal"),
}
PRIVATE = {"privacy": SampleLevel(noise_multiplier=0.1)}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "fedavg": {}, "autoflip": AUTOFLIP, "plus": PLUS, "lottery": LOTTERY, "private": PRIVATE,
    "taylor": {"pruner": TaylorUnits(every=1)},
}  # fmt: skip


QUICK = [(name, "stacked") for name in ("autoflip", "lottery")]
LONG = [one for one in product(ALGORITHMS, ("stacked", "sequential")) if one not in QUICK]


@pytest.mark.parametrize(("name", "kind"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in LONG)])
def test_a_run_is_that_on_data_poisoned_by_hand_to_the_bit(name: str, kind: Literal["stacked", "sequential"]) -> None:
    """Explorers, channels measured with gradients, accuracies for own masks and private honest clients included."""
    settings = {"rounds": 3, **ALGORITHMS[name]}
    sigmas = (0.1,) * CLIENTS if name == "private" else ()
    by_hand = replace(
        cell(attack=GaussianNoise(sigma=0, clients=BAD), **settings),
        problem=poisoned_by_hand(),
        noise_multipliers=sigmas,
    )
    (expected,) = run_cells([by_hand], trainer(kind))
    # two cells: the rows of one are written behind those of the other
    cells = [replace(cell(attack=ATTACK, seed=seed, **settings), noise_multipliers=sigmas) for seed in (1, 0)]
    _, found = run_cells(cells, trainer(kind))
    for one, other in zip(found.rounds, expected.rounds, strict=True):
        assert (one.train_loss, one.test_loss, one.step_norm) == (other.train_loss, other.test_loss, other.step_norm)
        assert one.density == other.density
    assert found.digests == expected.digests
    assert (PROBLEM.x_train == X[: len(PROBLEM.x_train)]).all(), "shared data stay as they are"


class Models(Watcher):
    """Keeps the global model of every round."""

    def __init__(self) -> None:
        self.weights = list[Tensor]()

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.weights.append(state.weights)


def stamped_by_hand(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :, 5:, 5:] = PROBLEM.x_train.max()
    return x


def test_attack_success_is_counted_one_sample_after_the_other() -> None:
    one, models = cell(attack=ATTACK, rounds=4, evaluate_every=2), Models()
    (record,) = run_cells([one], trainer(), watch=models)
    assert [entry.attack_success is None for entry in record.rounds] == [True, False, True, False]
    net = copy.deepcopy(PROBLEM.module).eval()
    for number in (2, 4):
        PROBLEM.layout.load(net, models.weights[number])
        hits = others = 0
        for image, label in zip(X[TEST], Y[TEST].tolist(), strict=True):
            if label != 6:
                others += 1
                hits += int(net(stamped_by_hand(image[None])).argmax()) == 6
        assert record.rounds[number - 1].attack_success == hits / others
    assert record.backdoor is not None
    assert (record.backdoor.target, record.backdoor.samples, record.backdoor.survival) == (6, others, None)
    assert "attack_success" not in cell_dump(run(cell(rounds=1))[0]), "others are written as before"


def cell_dump(record: RunRecord) -> set[str]:
    dumped = record.model_dump(mode="json")
    return {*dumped, *dumped["rounds"][-1]} & {"attack_success", "backdoor"}


def test_nothing_is_measured_without_a_backdoor_and_of_what_cannot_be() -> None:
    one, plain = cell(attack=ATTACK), cell()
    broken = torch.full_like(PROBLEM.initial, 1e30)
    found = attack_success([plain, one, one], torch.stack([PROBLEM.initial, PROBLEM.initial, broken]))
    assert found[0] is None
    assert found[1] is not None
    assert found[2] is None, "scores that overflow are nobody's answer"
    alone = replace(PROBLEM, y_test=torch.full_like(PROBLEM.y_test, 6))
    assert attack_success([replace(one, problem=alone)], PROBLEM.initial[None]) == [None]


@pytest.fixture(scope="module")
def planted() -> dict[str, RunRecord]:
    """Thirteen rounds, everybody takes part; DBA with three parts; replacement in round 12 alone, of one client."""
    everybody: dict[str, Any] = {"rounds": 13, "cohort": CLIENTS, "training": TrainingSchedule(lr=0.3)}
    one = {"clients": (1,), "share": 0.5}
    window = Window(first=12, last=12)
    replaced = SeveralAttacks(
        attacks=(Backdoor(window=window, explorers=False, **one), ModelReplacement(window=window, clients=(1,)))
    )
    names = ["clean", "plain", "parts", "single", "replaced", "clipped"]
    found = run(
        cell(attack=Backdoor(clients=BAD, share=0), **everybody),
        cell(attack=Backdoor(clients=BAD, share=0.5), **everybody),
        cell(attack=Backdoor(clients=BAD, share=0.5, trigger_parts=3), **everybody),
        cell(attack=Backdoor(window=window, explorers=False, **one), **everybody),
        cell(attack=replaced, **everybody),
        cell(attack=replaced, aggregator=NormClip(), **everybody),
    )
    return dict(zip(names, found, strict=True))


def success(record: RunRecord, number: int = 13) -> float:
    found = record.rounds[number - 1].attack_success
    assert found is not None
    return found


def test_a_backdoor_works_where_nothing_defends_and_hardly_costs_clean_accuracy(planted: dict[str, RunRecord]) -> None:
    clean, plain = planted["clean"], planted["plain"]
    assert success(clean) < 0.15, "the trigger alone does nothing"
    assert success(plain) > 0.9
    assert plain.final_accuracy > clean.final_accuracy - 0.05


def test_the_whole_trigger_of_a_distributed_one_works_though_nobody_sent_it(planted: dict[str, RunRecord]) -> None:
    assert success(planted["parts"]) > 0.8
    assert planted["parts"].final_accuracy > planted["clean"].final_accuracy - 0.1


def test_model_replacement_works_at_once_and_a_clip_takes_it_back(planted: dict[str, RunRecord]) -> None:
    replaced, single, clipped = (planted[name] for name in ("replaced", "single", "clipped"))
    assert success(replaced, 11) < 0.2
    assert success(replaced, 12) > success(single, 12) + 0.3
    assert success(clipped, 12) < success(replaced, 12) - 0.3


@pytest.mark.parametrize("sign", [1, -1])
def test_what_the_mask_keeps_of_the_trigger_by_hand(sign: int) -> None:
    """Of 32 neurons the 3 that react most in the initial model, of 64 pixels the 9 of the trigger."""
    attack, layout = Backdoor(target=6), PROBLEM.layout
    mask = torch.rand(layout.size, generator=torch.Generator().manual_seed(5)) < 0.4
    one = replace(cell(), problem=replace(PROBLEM, initial=sign * PROBLEM.initial))
    found = trigger_survival(one, attack, mask)
    assert found is not None
    weight, alive = PROBLEM.module[1].weight, mask[layout["1.weight"].slice].view(32, 64)
    PROBLEM.layout.load(PROBLEM.module, PROBLEM.initial)
    others = X[TEST][Y[TEST] != 6].view(-1, 64)
    moved = stamped_by_hand(X[TEST][Y[TEST] != 6]).view(-1, 64) - others
    reactions = [float((moved @ weight[unit].detach()).abs().mean()) for unit in range(32)]
    neurons = sorted(range(32), key=lambda unit: -reactions[unit])[:3]
    pixels = [8 * row + column for row in (5, 6, 7) for column in (5, 6, 7)]
    assert (found.layer, found.neurons) == ("1", 3)
    assert found.kept == pytest.approx(sum(int(alive[n].sum()) for n in neurons) / (3 * 64))
    assert found.kept_reading == pytest.approx(sum(int(alive[u, p]) for u in range(32) for p in pixels) / (32 * 9))
    assert found.kept_overall == pytest.approx(int(alive.sum()) / (32 * 64))
    assert trigger_survival(cell(), attack, torch.ones_like(mask)) is None, "nothing is pruned"


def test_of_a_convolutional_network_it_is_the_layer_behind_the_first_convolution() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 20, 3), nn.Flatten(), nn.Linear(320, 10)
        )
    layout = Layout.of(net)
    problem = replace(PROBLEM, module=net, layout=layout, initial=layout.vector(net), units=None)
    mask = torch.ones(layout.size, dtype=torch.bool)
    clean, stamped = (net[1](net[0](x)) for x in (X[TEST][Y[TEST] != 0], stamped_by_hand(X[TEST][Y[TEST] != 0])))
    reactions = (net[2](stamped) - net[2](clean)).abs().mean((0, 2, 3))
    alive = mask[layout["2.weight"].slice].view(20, 4, 3, 3)
    alive[reactions.argmax()] = False
    found = trigger_survival(replace(cell(), problem=problem), Backdoor(), mask)
    assert found is not None
    assert (found.layer, found.neurons) == ("2", 2)
    assert found.kept == pytest.approx(0.5)
    assert found.kept_overall == pytest.approx(19 / 20)
    assert found.kept_reading is None, "every channel changes"


def test_a_pruned_run_records_it() -> None:
    found = run(cell(attack=ATTACK, rounds=5, **AUTOFLIP), cell(attack=ATTACK, **LOTTERY))
    assert all(one.backdoor is not None for one in found)
    pruned, own = (one.backdoor.survival for one in found if one.backdoor is not None)
    assert own is None, "clients have masks of their own"
    assert pruned is not None
    assert found[0].rounds[-1].density < 1
    assert 0 <= pruned.kept <= 1
    assert RunRecord.model_validate_json(found[0].model_dump_json()) == found[0]
