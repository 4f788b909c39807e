"""What clients send beside their update: attacked, filtered, rounded, clipped, noised and summed as updates are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from digits_cells import CLIENTS, PROBLEM, TRAIN, X, Y, cell
from torch import Tensor, nn

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.inner_product import InnerProduct
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.errors import InputError
from autoflip_secure.federation.attacking import attack_channel
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    Channel,
    ChannelRequest,
    ClientView,
    Pruner,
    PruneView,
    Received,
    RoundView,
    SeveralAttacks,
    UpdateAttack,
)
from autoflip_secure.records.run import RunRecord
from autoflip_secure.seeds import Purpose
from autoflip_secure.training import choose_trainer

SIZE = 7


class Asks(Pruner):
    """Asks for a part of the update again in even rounds, prunes nothing, and remembers what it was shown."""

    kind: Literal["asks"] = "asks"
    name: str = "part"
    bound: float | None = None
    needs: Literal["sum", "rows"] = "sum"
    bits: Literal[1, 16, 32] = 32
    shown: ClassVar[list[Mapping[str, Received]]] = []

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        return (Channel(self.name, SIZE, self.needs, self.bound, self.bits),) if asked.round % 2 == 0 else ()

    def measure(self, channel: Channel, view: ClientView) -> Tensor:
        return 10 * view.updates[:, -SIZE:]

    def mask(self, view: PruneView) -> Tensor:
        self.shown.append(view.channels)
        return view.mask


class Seen(Watcher):
    """Keeps what the server gets."""

    def __init__(self) -> None:
        self.updates: dict[int, tuple[Tensor, Tensor]] = {}
        self.parts: dict[int, Tensor] = {}
        self.states: dict[int, ServerState] = {}

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.updates[after.round] = clients, sent.clone()
        self.states[after.round] = after

    def channels(self, cell: Cell, before: ServerState, clients: Tensor, sent: Mapping[str, Tensor]) -> None:
        self.parts[before.round + 1] = sent.get("part", torch.zeros(0)).clone()


def run(one: Cell) -> tuple[RunRecord, Seen, dict[int, Mapping[str, Received]]]:
    seen = Seen()
    Asks.shown.clear()
    (record,) = run_cells([one], choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1]), watch=seen)
    return record, seen, dict(enumerate(Asks.shown))


def uneven(one: Cell) -> Cell:
    """Client k has 10 + 3k samples."""
    own = tuple(rows[: 10 + 3 * k] for k, rows in enumerate(one.problem.clients))
    return replace(one, problem=replace(one.problem, clients=own))


def private(noise: str, sigma: float = 0.5, bound: float = 0.2, **more: Any) -> Cell:
    mechanism = ClientLevel(noise_multiplier=sigma, clip=1.0, noise=noise)
    one = cell(rounds=2, pruner=Asks(bound=bound), privacy=mechanism, **more)
    return replace(one, noise_multipliers=(sigma,) * CLIENTS)


def clipped(rows: Tensor, bound: float) -> Tensor:
    return torch.stack([row * min(1.0, bound / float(row.norm())) for row in rows])


def test_what_is_asked_for_in_a_round_comes_in_that_round_as_the_mean_by_samples() -> None:
    record, seen, shown = run(uneven(cell(rounds=3, pruner=Asks())))
    assert sorted(seen.parts) == [2]
    assert [bool(shown[number]) for number in range(4)] == [False, False, True, False]  # 0: before training
    clients, updates = seen.updates[2]
    assert torch.equal(seen.parts[2], 10 * updates[:, -SIZE:])
    sizes = torch.tensor([10.0 + 3 * k for k in clients.tolist()])
    wanted = sum(n * row for n, row in zip(sizes, seen.parts[2], strict=True)) / sizes.sum()
    assert torch.allclose(shown[2]["part"].mean, wanted)
    assert shown[2]["part"].rows is None
    assert [entry.channels for entry in record.rounds] == [None, {"part": 4 * (10 + 4 * SIZE)}, None]
    assert torch.equal(seen.states[3].weights, run(uneven(cell(rounds=3)))[1].states[3].weights)  # it costs no update


def test_an_honest_client_clips_to_the_bound_and_rows_come_with_their_owners() -> None:
    _, seen, shown = run(cell(rounds=2, pruner=Asks(bound=0.2, needs="rows")))
    clients, updates = seen.updates[2]
    assert torch.allclose(seen.parts[2], clipped(10 * updates[:, -SIZE:], 0.2))
    part = shown[2]["part"]
    assert part.rows is not None
    assert part.clients is not None
    assert torch.equal(part.rows, seen.parts[2])
    assert torch.equal(part.clients, clients)


@pytest.mark.parametrize(("bits", "body"), [(16, 2 * SIZE), (1, 1)])
def test_numbers_are_as_exact_as_the_bits_that_are_paid_for(bits: Literal[1, 16], body: int) -> None:
    whole = run(cell(rounds=2, pruner=Asks()))[1].parts[2]
    record, seen, _ = run(cell(rounds=2, pruner=Asks(bits=bits)))
    assert torch.equal(seen.parts[2], whole.half().float() if bits == 16 else (whole > 0.5).float())
    assert record.costs.channels == {"part": 4 * (10 + body)}


def test_an_attack_on_updates_does_to_other_channels_what_it_does_to_updates() -> None:
    attack = GaussianNoise(sigma=0.5, clients=(1, 4, 6, 7))
    _, honest, _ = run(cell(rounds=2, cohort=CLIENTS, pruner=Asks()))
    _, noisy, _ = run(cell(rounds=2, cohort=CLIENTS, pruner=Asks(), attack=attack))
    first = run(cell(rounds=2, cohort=CLIENTS, pruner=Asks(), attack=GaussianNoise(sigma=0.0, clients=(1, 4, 6, 7))))
    assert torch.equal(first[1].parts[2], honest.parts[2])  # no noise, no difference
    malicious = torch.zeros(CLIENTS, dtype=torch.bool)
    malicious[[1, 4, 6, 7]] = True
    clients, updates = noisy.updates[2]
    assert clients.tolist() == list(range(CLIENTS))
    own = (
        noisy.parts[2] - 10 * updates[:, -SIZE:]
    )  # both have noise of the malicious: 10 times that of updates, and own
    assert torch.equal(own[~malicious], torch.zeros_like(own[~malicious]))
    assert (own[malicious].abs() > 0.01).all()


class Broken(UpdateAttack):
    """Sends an update as it should, and no number beside it."""

    kind: Literal["broken"] = "broken"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        return updates

    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        return torch.where(malicious[:, None], torch.nan, rows)


def test_who_has_an_unusable_row_on_one_channel_is_in_nothing_and_named() -> None:
    record, seen, shown = run(cell(rounds=2, cohort=CLIENTS, pruner=Asks(), attack=Broken(clients=(2, 5))))
    assert record.rounds[1].rejected == [2, 5]
    assert record.events == [
        "round 2: clients 2, 5 sent part that are not finite, or longer than 1e+18: filtered"
    ]  # fmt: skip
    clients, updates = seen.updates[2]
    assert clients.tolist() == [k for k in range(CLIENTS) if k not in (2, 5)]
    sizes = torch.tensor([float(len(PROBLEM.clients[k])) for k in clients.tolist()])
    step = (sizes[:, None] * updates).sum(0) / sizes.sum()
    assert torch.allclose(seen.states[2].weights - seen.states[1].weights, step, atol=1e-6)
    assert shown[2]["part"].mean.isfinite().all()


def test_rows_of_clients_on_whom_another_attack_acts_are_not_honest_on_a_channel_either() -> None:
    attacks = SeveralAttacks(attacks=(LabelFlip(clients=(0,)), InnerProduct(clients=(1,), epsilon=1.0)))
    rows = torch.arange(4.0 * SIZE).view(4, SIZE) ** 2
    clients = torch.arange(4)
    sent = attack_channel(cell(attack=attacks), Channel("part", SIZE), rows, clients, 1, 1)
    assert torch.equal(sent[[0, 2, 3]], rows[[0, 2, 3]])
    assert torch.allclose(sent[1], -rows[2:].mean(0))
    (alone,) = attacks.attacks[1:]
    sent = attack_channel(cell(attack=alone), Channel("part", SIZE), rows, clients, 1, 1)
    assert torch.allclose(sent[1], -rows[[0, 2, 3]].mean(0))


def test_with_central_noise_the_pruner_gets_the_noised_sum_over_the_expected_cohort() -> None:
    one = private("central", attack=GaussianNoise(sigma=50.0, clients=(0, 1, 2)), cohort=CLIENTS)
    _, seen, shown = run(one)
    assert (seen.parts[2].norm(dim=1) <= 0.2).all()  # the server clips everybody
    drawn = torch.from_numpy(one.draws.generator(Purpose.SERVER_NOISE, 2, 1).standard_normal(SIZE)).float()
    assert torch.allclose(shown[2]["part"].mean, (seen.parts[2].sum(0) + 0.5 * 0.2 * drawn) / CLIENTS, atol=1e-6)


def test_with_distributed_noise_every_honest_row_has_its_share() -> None:
    one = private("distributed")
    _, seen, shown = run(one)
    for client, row in zip(seen.updates[2][0].tolist(), seen.parts[2], strict=True):
        noise = torch.from_numpy(one.draws.generator(Purpose.DP_NOISE, 2, client, 1).standard_normal(SIZE)).float()
        assert float((row - 0.5 * 0.2 / 2 * noise).norm()) == pytest.approx(0.2, rel=1e-4)  # clipped, cohort of 4
    assert torch.allclose(shown[2]["part"].mean, seen.parts[2].sum(0) / 4, atol=1e-6)


class Nobody(Asks):
    """Asks in a name that is taken."""

    kind: Literal["nobody"] = "nobody"  # type: ignore[assignment]
    name: str = "update"


def test_a_name_that_is_taken_and_a_row_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="a name that is taken"):
        run(cell(rounds=2, pruner=Nobody()))

    class Long(Asks):
        def measure(self, channel: Channel, view: ClientView) -> Tensor:
            return view.updates

    with pytest.raises(InputError, match=r"expected \(4, 7\)"):
        run(cell(rounds=2, pruner=Long()))


class Voted(Aggregator):
    """The mean of those who vote for themselves: an aggregator that needs a row of each client."""

    kind: Literal["voted"] = "voted"

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        return (Channel("vote", 1, "rows", bits=1),)

    def measure(self, channel: Channel, view: ClientView) -> Tensor:
        return (view.clients % 2 == 0).to(view.updates)[:, None]

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        votes = view.channels["vote"]
        assert votes.rows is not None
        assert votes.clients is not None
        assert torch.equal(votes.clients, view.clients)
        trust = votes.rows[:, 0] / votes.rows.sum().clamp_min(1)
        return Aggregate(trust @ view.updates, trust, None)


def test_an_aggregator_may_ask_too_beside_the_pruner() -> None:
    record, seen, _ = run(cell(rounds=2, pruner=Asks(), aggregator=Voted(), cohort=CLIENTS))
    assert [entry.channels for entry in record.rounds] == [
        {"vote": CLIENTS * 11}, {"part": CLIENTS * 38, "vote": CLIENTS * 11}
    ]  # fmt: skip
    _, updates = seen.updates[1]
    assert torch.allclose(seen.states[1].weights - PROBLEM.initial, updates[::2].mean(0), atol=1e-6)
    assert Mean().wants(ChannelRequest(1, 2, PROBLEM.layout, PROBLEM.units)) == ()


def test_gradients_before_and_after_training_are_there_when_they_are_asked_for() -> None:
    class Both(Asks):
        def measure(self, channel: Channel, view: ClientView) -> Tensor:
            assert torch.equal(view.gradients(), view.gradients("start"))
            for weights, found in ((view.start, view.gradients()), (view.start + view.updates, view.gradients("end"))):
                for client, row, gradient in zip(view.clients.tolist(), weights, found, strict=True):
                    PROBLEM.layout.load(PROBLEM.module, row)
                    rows = PROBLEM.clients[client]
                    loss = nn.functional.cross_entropy(PROBLEM.module(X[TRAIN][rows]), Y[TRAIN][rows])
                    parts = torch.autograd.grad(loss, list(PROBLEM.module.parameters()))
                    own = torch.cat([part.reshape(-1) for part in parts])
                    assert torch.allclose(gradient, own, rtol=1e-3, atol=1e-6)
            return view.updates[:, -SIZE:]

    plain, twice = (run(cell(rounds=2, pruner=pruner))[0].rounds[1].flops.dense for pruner in (Asks(), Both()))
    assert twice == pytest.approx(2 * plain, rel=1e-6)  # two epochs of training, two passes
