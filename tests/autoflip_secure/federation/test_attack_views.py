"""What an attack is shown: what its threat card says it knows, no more; its memory; windows; several in one cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from digits_cells import AUTOFLIP, PROBLEM, cell, run
from sizes import every
from torch import Tensor

from autoflip_secure import seeds
from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.federation.attack_trial import defence_of
from autoflip_secure.federation.attacking import attack_updates, questions
from autoflip_secure.federation.channels import Measured
from autoflip_secure.federation.clients import client_labels, stated_samples
from autoflip_secure.federation.server import begin, finish_round
from autoflip_secure.interfaces import (
    AttackView,
    RowAttack,
    SampleAttack,
    SeveralAttacks,
    Threat,
    UpdateAttack,
    Window,
)
from autoflip_secure.seeds import Generators, Purpose, generator

SEEN = list[AttackView]()
MEANS = ("update", "exploration", "buffers")


class Looks(RowAttack):
    """Notes what it is shown, and sends minus one."""

    kind: str = "looks"
    threat: ClassVar[Threat] = Threat("own", MEANS)

    def act(self, view: AttackView) -> tuple[Tensor, Any]:
        """Count the rounds that it acted in."""
        SEEN.append(view)
        view.tell(f"round {view.round > 0}")
        return torch.full_like(view.updates, -1.0), (view.memory or 0) + 1


class Colluders(Looks):
    threat: ClassVar[Threat] = Threat("colluders", MEANS)


class Rows(Looks):
    threat: ClassVar[Threat] = Threat("rows", MEANS)


class Knows(Looks):
    threat: ClassVar[Threat] = Threat("defence", MEANS)


def shown(attack: RowAttack) -> list[AttackView]:
    SEEN.clear()
    run(cell(attack=attack, rounds=2, cohort=10, **AUTOFLIP))
    return [*SEEN]


@pytest.mark.parametrize(
    ("attack", "views", "rows"), every(2, [(Looks, 6, 1), (Colluders, 3, 2), (Knows, 3, 10), (Rows, 3, 10)])
)
def test_a_view_holds_what_its_knowledge_may_see(attack: Callable[..., RowAttack], views: int, rows: int) -> None:
    found = shown(attack(clients=(3, 7)))
    assert [view.round for view in found] == sorted([0, 1, 2] * (views // 3))
    for view in found:
        lists = (view.updates, view.clients, view.samples, view.malicious, view.honest, view.generators)
        assert {len(one) for one in lists} == {rows}
        assert set(view.clients[view.malicious].tolist()) <= {3, 7}
        assert torch.equal(view.honest, ~torch.isin(view.clients, torch.tensor([3, 7])))
        knows = attack is Knows
        assert (view.aggregator is not None) == knows
        assert (view.trial is not None) == (knows and view.round > 0)
        assert (view.landscape is not None) == (knows and view.round == 0)
        for secret in (view.state, view.guidance, view.exploration):
            assert (secret is not None) == (knows and view.round > 0)


def test_memory_survives_rounds_from_the_exploration_on_and_belongs_to_who_knows() -> None:
    alone, together = shown(Looks(clients=(3, 7))), shown(Rows(clients=(3, 7)))
    assert [(int(view.clients[0]), view.memory) for view in alone] == [
        (3, None), (7, None), (3, 1), (7, 1), (3, 2), (7, 2),
    ]  # fmt: skip
    assert [view.memory for view in together] == [None, 1, 2]


def test_what_an_attack_says_is_told_once() -> None:
    (record,) = run(cell(attack=Rows(clients=(3,)), rounds=3, cohort=10, **AUTOFLIP))
    assert [event for event in record.events if "attack looks" in event] == [
        "exploration: attack looks: round False", "round 1: attack looks: round True",
    ]  # fmt: skip


def attacked(attack: Any, rows: Tensor, mask: Tensor, round_: int = 1) -> Tensor:
    one = cell(attack=attack, cohort=4)
    return attack_updates(one, rows, torch.arange(len(rows)), mask, round_, one.problem.initial).rows


def test_what_is_not_active_stays_as_trained_whatever_an_attack_returns() -> None:
    rows, mask = torch.randn(4, PROBLEM.layout.size), torch.ones(PROBLEM.layout.size, dtype=torch.bool)
    mask[5:50] = False
    found = attacked(Rows(clients=(1,)), rows, mask)
    assert torch.equal(found[[0, 2, 3]], torch.where(mask, rows, 0.0)[[0, 2, 3]])
    assert (found[1, mask] == -1).all()
    assert not found[1, ~mask].any()


class Silent(Rows):
    threat: ClassVar[Threat] = Threat("rows", ("exploration",))


def test_an_attack_acts_where_its_card_says() -> None:
    rows, mask = torch.randn(4, PROBLEM.layout.size), torch.ones(PROBLEM.layout.size, dtype=torch.bool)
    assert torch.equal(attacked(Silent(clients=(1,)), rows, mask), rows)
    assert not torch.equal(attacked(Silent(clients=(1,)), rows, mask, 0), rows)


class Old(UpdateAttack):
    """The contract of plug-ins written before there was a view."""

    kind: str = "old"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: list[torch.Generator]) -> Tensor:
        """Noise on top of the mean of all."""
        found = updates.clone()
        for row in malicious.nonzero().squeeze(1).tolist():
            found[row] = updates.mean(0) + torch.randn(updates.shape[1], generator=generators[row])
        return found


def test_the_older_contract_is_shown_all_rows_and_gets_what_it_got() -> None:
    rows, mask = torch.randn(4, PROBLEM.layout.size), torch.ones(PROBLEM.layout.size, dtype=torch.bool)
    draws = [generator(0, Purpose.UPDATE_ATTACK, 1, k) for k in range(4)]
    expected = Old().updates(rows, torch.tensor([False, True, True, False]), PROBLEM.layout.trained, draws)
    assert torch.equal(attacked(Old(clients=(1, 2)), rows, mask), expected)
    assert not Old().declared
    assert GaussianNoise().declared


class Greedy(Rows):
    """Reads whatever generators it is shown, backwards and more than once, and sends the last numbers."""

    threat: ClassVar[Threat] = Threat("own", MEANS)

    def act(self, view: AttackView) -> tuple[Tensor, Any]:
        """The second number of each row's own generator."""
        found = view.updates.clone()
        for place in reversed(range(len(view.generators))):
            first, draw = view.generators[place], view.generators[place - len(view.generators)]
            assert first is draw
            torch.randn(1, generator=first)
            found[place] = torch.randn(1, generator=draw)
        return found, None


@pytest.mark.parametrize("knowledge", ["own", "colluders", "rows"])
def test_every_question_has_generators_that_begin_at_their_address(knowledge: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Greedy, "threat", Threat(knowledge, MEANS))
    rows, mask = torch.randn(4, PROBLEM.layout.size), torch.ones(PROBLEM.layout.size, dtype=torch.bool)
    found = attacked(Greedy(clients=(1, 2)), rows, mask)
    for client in (1, 2):
        draw = generator(0, Purpose.UPDATE_ATTACK, 1, client)
        first, second = (float(torch.randn(1, generator=draw)) for _ in range(2))
        assert first != second
        assert set(found[client].tolist()) == {second}


def test_a_generator_that_nobody_asks_for_is_never_made(monkeypatch: Any) -> None:
    made = list[tuple[int, ...]]()
    monkeypatch.setattr(seeds, "generator", lambda seed, *address: made.append(address) or generator(seed, *address))
    offered = Generators(0, [(Purpose.UPDATE_ATTACK, 1, client) for client in range(5)])
    some, others = offered.of([4, 2, 0]), offered.of(slice(1, 3))
    assert [len(offered), len(some), len(others), made] == [5, 3, 2, []]
    assert some[1] is some[-2]
    assert len(list(others)) == 2
    assert [address[2] for address in made] == [2, 1, 2]
    with pytest.raises(IndexError):
        others[2]


def test_with_masks_of_their_own_each_acts_alone() -> None:
    mask = torch.rand(4, PROBLEM.layout.size) < 0.5
    found = attacked(Rows(clients=(1, 2)), torch.randn(4, PROBLEM.layout.size), mask)
    for client in (1, 2):
        assert torch.equal(found[client], torch.where(mask[client], -1.0, 0.0))
    assert [who for _, _, who in questions(Rows(), torch.tensor([True, False, True]), alone=True)] == [0, 2]


def test_a_trial_is_what_the_server_then_does_and_leaves_no_trace() -> None:
    one = cell(attack=GaussianNoise(scope=0), cohort=4, **AUTOFLIP)
    rows = 0.01 * torch.randn(10, PROBLEM.layout.size)
    state = begin(one, explore(torch.arange(10), torch.ones(10), rows, "paper", [[1.0]] * 10, "numbers"))
    clients, updates = torch.arange(4), 0.01 * torch.randn(4, PROBLEM.layout.size)
    state, _ = finish_round(one, state, clients, updates)
    sent = updates.flip(0).clone()
    sent[2] = torch.nan
    defence = defence_of(one, state, clients, Measured())
    assert defence is not None
    assert defence.trial is not None
    memory = state.aggregator.memory.clone()
    first, second = defence.trial(sent), defence.trial(sent)
    _, outcome = finish_round(one, state, clients, sent)
    assert torch.equal(first.delta, second.delta)
    assert torch.equal(first.delta, outcome.delta)
    assert first.trust.tolist() == outcome.trust
    assert first.trust[2] == 0
    assert torch.equal(memory, state.aggregator.memory)


def test_windows_say_when_an_attack_acts() -> None:
    def rounds(**window: Any) -> list[int]:
        return [number for number in range(9) if GaussianNoise(window=Window(**window)).active(number)]

    assert rounds() == [*range(9)]
    assert rounds(first=0, last=0) == [0]
    assert rounds(first=2, last=7, period=3) == [0, 2, 5]
    assert rounds(period=4, acting=2) == [0, 1, 2, 5, 6]
    assert rounds(first=0, period=3) == [0, 1, 4, 7]
    for wrong, why in (
        ({"acting": 2}, "period only"),
        ({"period": 3, "acting": 3}, "acting < period"),
        ({"last": 0}, "first: 0"),
    ):
        with pytest.raises(ValueError, match=why):
            Window(**wrong)


class Lie(SampleAttack):
    kind: str = "lie"

    def samples(self, samples: Tensor) -> Tensor:
        """Three times as many."""
        return 3 * samples


def test_samples_are_stated_by_the_clients() -> None:
    one = cell(attack=Lie(clients=(2,), window=Window(first=2)))
    true = [float(len(rows)) for rows in one.problem.clients]
    everybody = torch.arange(10)
    assert stated_samples(one, everybody, 1).tolist() == true
    assert stated_samples(one, everybody, 2).tolist() == [*true[:2], 3 * true[2], *true[3:]]


def test_several_attacks_act_in_order_each_on_its_own_clients() -> None:
    noise = GaussianNoise(sigma=0.3, clients=(1,))
    both = SeveralAttacks(attacks=(LabelFlip(share=1, clients=(1, 2)), noise, Rows(clients=(3,), explorers=False)))
    one = cell(attack=both, cohort=4)
    assert one.malicious_clients.nonzero().squeeze(1).tolist() == [1, 2, 3]
    alone = cell(attack=LabelFlip(share=1, clients=(1, 2)))
    assert torch.equal(client_labels(one, 2, 1), client_labels(alone, 2, 1))
    rows, mask = torch.randn(4, PROBLEM.layout.size), torch.ones(PROBLEM.layout.size, dtype=torch.bool)
    SEEN.clear()
    found = attacked(both, rows, mask)
    assert torch.equal(found[1], attacked(noise, rows, mask)[1])
    assert (found[3] == -1).all()
    assert torch.equal(SEEN[0].updates[1], found[1])  # the later one sees what the earlier one left
    assert SEEN[0].honest.tolist() == [True, False, False, False]


def test_two_attacks_of_one_kind_draw_at_addresses_of_their_own() -> None:
    noise = GaussianNoise(clients=(1,))
    rows, mask = torch.zeros(4, PROBLEM.layout.size), torch.ones(PROBLEM.layout.size, dtype=torch.bool)
    once, twice = attacked(noise, rows, mask)[1], attacked(SeveralAttacks(attacks=(noise, noise)), rows, mask)[1]
    assert float(torch.corrcoef(torch.stack([once, twice - once]))[0, 1].abs()) < 0.1


@pytest.mark.slow
def test_several_attacks_go_through_a_run_and_it_repeats() -> None:
    both = SeveralAttacks(attacks=(LabelFlip(scope=0.2), Rows(scope=0.2)))
    first, second = (run(cell(attack=both, **AUTOFLIP))[0] for _ in range(2))
    assert first.numbers() == second.numbers()
    assert replace(cell(attack=both)).protocol.attack.parts == both.attacks


def test_an_attack_on_an_exploration_that_there_is_not_is_named() -> None:
    attack = GaussianNoise(sigma=1, window=Window(first=0, last=0))
    attacked_, clean = run(cell(attack=attack, rounds=2), cell(rounds=2))
    assert attacked_.rounds[-1].test_loss == clean.rounds[-1].test_loss
    assert any("acts in the exploration alone" in event for event in attacked_.events)
    (explored,) = run(cell(attack=attack, rounds=2, **AUTOFLIP))
    assert not any("nobody attacked" in event for event in explored.events)
    assert explored.exploration is not None
    assert sum(explored.exploration.malicious) == 2
    assert not any(any(one.malicious) for one in explored.rounds)
