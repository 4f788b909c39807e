"""The server's root set: trained as a client's data are, in the same program, and out of every attacker's reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from digits_cells import PROBLEM, X, cell, run
from sizes import every
from torch import Tensor

from autoflip_secure.attacks.poisoning.faults import Fault
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.attacks.poisoning.root_evasion import RootEvasion
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.defenses.aggregators.fltrust import FLTrust
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells, watch_cells
from autoflip_secure.federation.root import ROOT
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Aggregate, Aggregator, ClientJob, RoundRule, RoundView, TrainingSchedule
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.pruning.random import RandomWeights
from autoflip_secure.training import SequentialTrainer, choose_trainer

SEEN: list[tuple[Tensor, Tensor, Tensor]] = []
OWNED = torch.arange(0, 40)


class Looks(Aggregator):
    """The update of the root set is the step; notes what it was shown."""

    needs_clean_data: ClassVar[bool] = True

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        assert view.root is not None
        SEEN.append((view.weights, view.mask, view.root))
        return Aggregate(view.root, torch.full_like(view.samples, 1 / len(view.samples)), None)


def owning(rows: Tensor = OWNED, name: str = "x", **protocol: Any) -> Cell:
    """A cell whose server owns these rows, and no client does."""
    left = tuple(own[~torch.isin(own, rows)] for own in PROBLEM.clients)
    made = cell(name, **({"aggregator": FLTrust()} | protocol))
    return replace(made, problem=replace(PROBLEM, clients=left, root=rows))


def numbers(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = record.numbers()
    return found


EXTRAS = [{}, {"local_rule": Proximal(mu=0.5)}, {"pruner": RandomWeights()}]


@pytest.mark.parametrize(
    ("kind", "extra"), every(2, [(kind, extra) for extra in EXTRAS for kind in ("stacked", "sequential")])
)
def test_it_is_trained_as_a_client_with_these_rows(kind: str, extra: dict[str, Any]) -> None:
    """Alone, by the other trainer, as a job made by hand, with its labels as they are."""
    SEEN.clear()
    everybody = LabelFlip(share=1.0, scope=1.0)
    own = owning(aggregator=Looks(), attack=everybody, rounds=2, **extra)
    run(own, kind=kind)
    assert len(SEEN) == 2
    for number, (weights, mask, root) in enumerate(SEEN, start=1):
        job = ClientJob(weights, OWNED, PROBLEM.y_train[OWNED], own.seed, (number, ROOT), mask)
        if (rule := own.protocol.rule) is not None:
            job = replace(job, rule=RoundRule(rule, number, 2, None))
        trained = SequentialTrainer().train(
            PROBLEM.module, PROBLEM.layout, PROBLEM.x_train, [job], own.protocol.training
        )
        expected = torch.where(mask, trained.updates[0], 0.0)
        torch.testing.assert_close(root, expected, atol=1e-5, rtol=1e-4)
        assert not root[~mask].any()
    following = SEEN[1][0] - SEEN[0][0]
    torch.testing.assert_close(following, SEEN[0][2], atol=1e-6, rtol=1e-5)


def test_cells_without_one_keep_their_numbers_beside_cells_with_one() -> None:
    alone, (beside, owner) = run(cell(rounds=3)), run(cell(rounds=3), owning(name="owner", rounds=3))
    assert numbers(alone[0]) == numbers(beside)
    assert "root_set" not in beside.model_dump(mode="json")
    assert numbers(owner) == numbers(run(owning(name="owner", rounds=3))[0])
    assert owner.root_set is not None
    assert owner.root_set.samples == 40
    products = 64 * 32 + 32 * 16 + 16 * 10  # forward, and as many for each of both gradients, but not for the input's
    assert owner.root_set.flops.dense == 40 * 2 * 3 * 2 * (3 * products - 64 * 32)
    spent = beside.costs.flops.dense, owner.costs.flops.dense
    assert spent[0] is not None
    assert spent[1] is not None
    assert spent[1] < spent[0], "the costs are the clients', who have fewer rows"
    assert owner.client_samples == [len(rows) for rows in owning().problem.clients]


def test_it_is_on() -> None:
    """All but one of the cohort reverse their update: the mean goes where they go, FLTrust where the root goes."""
    liars = SignFlip(clients=tuple(range(6)), scale=3)
    settings = {"attack": liars, "cohort": 10, "rounds": 14}
    mean, trusted = run(cell("mean", **settings), owning(name="trusted", **settings))
    assert trusted.final_accuracy > 0.5
    assert mean.final_accuracy < 0.3
    shares = [share for one in trusted.rounds for share, bad in zip(one.trust, one.malicious, strict=True) if bad]
    assert sum(shares) / len(trusted.rounds) < 0.1
    assert trusted.detection is not None
    assert trusted.detection.true_positive_rate is not None
    assert trusted.detection.true_positive_rate > 0.9


def test_an_update_that_cannot_be_computed_with_agrees_with_nobody() -> None:
    wild = TrainingSchedule(epochs=2, lr=1e6)
    diverged = owning(rounds=2, training=wild)
    (record,) = run_cells([diverged], choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1]))
    assert any("the update of the server's root set is not finite" in event for event in record.events)
    assert all(one.step_norm == 0 for one in record.rounds)
    SEEN.clear()
    run(owning(rounds=2, training=wild, aggregator=Looks()))
    assert not any(root.any() for _, _, root in SEEN), "it is shown as zero"
    calm = replace(diverged, protocol=owning(rounds=2, attack=Fault(sends="nan", scope=1.0)).protocol)
    (record,) = run(calm)
    assert not any("root set" in event for event in record.events), "clients that send NaN are another matter"


def test_who_knows_the_defence_sees_it_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    inner = RootEvasion.act

    def act(self: Any, view: Any) -> Any:
        seen.append(view.root)
        return inner(self, view)

    monkeypatch.setattr(RootEvasion, "act", act)
    SEEN.clear()
    attack = RootEvasion(clients=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
    run(owning(aggregator=Looks(), attack=attack, rounds=2))
    assert [torch.equal(root, own) for root, (_, _, own) in zip(seen, SEEN, strict=True)] == [True, True]
    seen.clear()
    run(cell(attack=attack, rounds=2))
    assert seen == [None, None]


def test_watching_trains_on_it_too() -> None:
    SEEN.clear()
    watch_cells([owning(aggregator=Looks(), rounds=2)], SequentialTrainer(), Watcher())
    assert len(SEEN) == 2
