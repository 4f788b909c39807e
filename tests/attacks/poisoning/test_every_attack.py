"""One table of all attacks: what each promises where nothing defends, when it is none, and what it may touch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attack_cases import CASES, ON_ROWS, Case, name
from attacked_cohort import MALICIOUS, attacked, cell, problem, rows, shown
from sizes import every
from torch import Tensor

from autoflip_secure.attacks.poisoning.backdoor import Backdoor
from autoflip_secure.attacks.poisoning.buffers import Buffers
from autoflip_secure.attacks.poisoning.dirty_label import DirtyLabel
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.hybrid_sparse import HybridSparse
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.attacks.poisoning.largest_deviation import MinMax, MinSum
from autoflip_secure.attacks.poisoning.lie_samples import LieSamples
from autoflip_secure.attacks.poisoning.little_is_enough import LittleIsEnough
from autoflip_secure.attacks.poisoning.mimic import Mimic
from autoflip_secure.attacks.poisoning.score_evasion import BoostedFlip
from autoflip_secure.attacks.poisoning.starve import Starve
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_labels, stated_samples
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.interfaces import NoAttack, UpdateAttack
from autoflip_secure.reports.study import labels
from autoflip_secure.scenarios.config.tables import ATTACKS

every_row = pytest.mark.parametrize("case", ON_ROWS, ids=name)
second_row = pytest.mark.parametrize("case", every(2, ON_ROWS), ids=name)


def test_every_attack_has_a_case() -> None:
    assert {type(case.attack) for case in CASES} == set(ATTACKS.values()) - {NoAttack}


def test_reports_know_every_attack_of_this_package() -> None:
    assert set(labels.BUILT_IN_ATTACKS) == set(ATTACKS) - {"none"}
    for case in CASES:
        settings = case.attack.model_dump(mode="json")
        assert not labels.is_clean(settings)
        for key in set(labels.STRENGTHS) & set(settings):
            off = type(case.attack).model_validate(settings | {key: 0, "clients": None})
            assert labels.is_clean(off.model_dump(mode="json"))
            assert key == "scope" or (case.off is not None and getattr(case.off, key) == 0), "0 of it is no attack"


@every_row
def test_it_works_when_nothing_defends(case: Case) -> None:
    assert case.promise is not None
    assert case.promise(attacked(case.attack, case.round, memory=case.memory))
    assert not case.promise(attacked(GaussianNoise(scope=0, clients=MALICIOUS, sigma=0), case.round)), "too easy"


def test_labels_and_samples_are_what_they_promise() -> None:
    flips = [LabelFlip(share=1.0, to=to, clients=(2,)) for to in ("other", "least_likely")]
    for lying in (*flips, BoostedFlip(clients=(2,))):
        assert (client_labels(cell(lying), 2, 1) != client_labels(cell(NoAttack()), 2, 1)).all()
    dirty, honest = (
        client_labels(cell(DirtyLabel(of=1, to=2, clients=(2,))), 2, 1),
        client_labels(cell(NoAttack()), 2, 1),
    )
    assert 1 in honest
    assert torch.equal(dirty, torch.where(honest == 1, 2, honest))
    assert stated_samples(cell(LieSamples(clients=(2,))), torch.arange(4), 1).tolist() == [4, 4, 40, 4]
    stamped, y = trained_on(cell(Backdoor(features=(0, 3), value=9.0, share=1.0, clients=(2,), target=1)))
    expected = problem().x_train.clone()
    expected[8:12, [0, 3]] = 9.0
    assert torch.equal(stamped, expected)
    assert y[8:12].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("case", [case for case in CASES if case.off is not None], ids=name)
def test_at_no_strength_it_is_no_attack_to_the_bit(case: Case) -> None:
    assert case.off is not None
    off = case.off.model_copy(update={"clients": MALICIOUS})
    honest, nobody = rows(), cell(NoAttack())
    assert torch.equal(attacked(off, case.round, memory=case.memory).sent, honest)
    assert torch.equal(trained_on(cell(off))[0], trained_on(nobody)[0])
    for client in range(10):
        assert torch.equal(client_labels(cell(off), client, 1), client_labels(nobody, client, 1))
    everybody = torch.arange(10)
    assert torch.equal(stated_samples(cell(off), everybody, 1), stated_samples(nobody, everybody, 1))


def trained_on(one: Cell) -> tuple[Tensor, Tensor]:
    """Inputs and labels of all clients, in round 1."""
    everybody = list(range(10))
    x, rows = PoisonedInputs([one]).of([one] * 10, [1] * 10, everybody, list(one.problem.clients))
    return x[torch.cat(rows)], torch.cat([client_labels(one, k, 1) for k in everybody])


@every_row
def test_it_touches_the_rows_and_coordinates_that_it_may_and_nothing_in_place(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: Any = type(case.attack)
    inner, intact = kind.act, list[bool]()

    def act(self: Any, view: Any) -> Any:
        before = [one.clone() for one in shown(view)]
        found = inner(self, view)
        intact.append(all(torch.equal(a, b) for a, b in zip(before, shown(view), strict=True)))
        if not isinstance(self, UpdateAttack):  # before the framework sees to it
            allowed = view.buffers if "buffers" in self.threat.means else view.active
            assert torch.equal(found[0][:, ~allowed], view.updates[:, ~allowed])
        return found

    monkeypatch.setattr(kind, "act", act)
    mask = torch.rand(problem().layout.size, generator=torch.Generator().manual_seed(3)) < 0.7
    trained = rows()
    before = trained.clone()
    found = attacked(case.attack, case.round, trained, mask)
    assert intact
    assert all(intact)
    assert torch.equal(trained, before)
    honest = [k for k in range(10) if k not in MALICIOUS]
    assert torch.equal(found.sent[honest], torch.where(mask, trained, 0.0)[honest])
    assert not found.sent[:, ~mask].any()
    untouched = problem().layout.trained if isinstance(case.attack, Buffers) else ~problem().layout.trained
    assert torch.equal(found.sent[:, untouched & mask], trained[:, untouched & mask])


@second_row
def test_the_same_question_has_the_same_answer(case: Case) -> None:
    one, other = attacked(case.attack, case.round), attacked(case.attack, case.round)
    assert torch.equal(one.sent.nan_to_num(7.5), other.sent.nan_to_num(7.5))


def nobody_honest(case: Case) -> Tensor:
    everybody = case.attack.model_copy(update={"clients": (0, 1, 2)})
    return attacked(everybody, case.round, rows(3)).sent


@second_row
def test_cohorts_with_nobody_honest_one_honest_or_nobody_malicious(case: Case) -> None:
    """H is then the malicious clients' own rows; with one honest row s is 0; and nobody does nothing."""
    fault = name(case).endswith(("=nan", "=inf"))
    assert fault or bool(nobody_honest(case).isfinite().all())
    lone = case.attack.model_copy(update={"clients": (0, 2)})
    found = attacked(lone, case.round, rows(3)).sent
    assert fault or bool(found.isfinite().all())
    assert torch.equal(found[1], rows(3)[1])
    absent = case.attack.model_copy(update={"clients": (8,)})
    assert torch.equal(attacked(absent, case.round, rows(3)).sent, rows(3))


def test_with_one_honest_row_deviations_are_zero_and_statistics_send_it() -> None:
    for attack in (LittleIsEnough(), MinMax(), MinSum(), HybridSparse(), Mimic(), Starve()):
        found = attacked(attack.model_copy(update={"clients": (0, 2)}), 1, rows(3))
        assert torch.allclose(found.lies, found.honest[0].expand_as(found.lies))


def test_not_finite_honest_rows_are_not_counted() -> None:
    diverged = rows()
    diverged[0] = torch.nan
    found = attacked(LittleIsEnough(), 1, diverged)
    honest = found.honest[1:]
    assert torch.allclose(found.lies[0], honest.mean(0) - 1.5 * honest.std(0), atol=1e-6)
