"""One table of all attacks: what each promises where nothing defends, when it is none, and what it may touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from attack_promises import (
    BEFORE,
    across,
    against,
    apart,
    away,
    below,
    beyond,
    cancelled,
    medoids,
    multiplied,
    opposed,
    picked_by_krum,
    shortened,
    spares_most_moved,
    unanimous,
)
from attacked_cohort import MALICIOUS, Round, attacked, cell, problem, rows, shown
from sizes import every
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.attacks.poisoning.backdoor import Backdoor
from autoflip_secure.attacks.poisoning.buffers import Buffers
from autoflip_secure.attacks.poisoning.decorrelated import Decorrelated
from autoflip_secure.attacks.poisoning.dirty_label import DirtyLabel
from autoflip_secure.attacks.poisoning.fang import Fang
from autoflip_secure.attacks.poisoning.faults import Fault
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.hybrid_sparse import HybridSparse
from autoflip_secure.attacks.poisoning.inner_product import InnerProduct
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.attacks.poisoning.landscape_lie import LandscapeLie
from autoflip_secure.attacks.poisoning.largest_deviation import MinMax, MinSum
from autoflip_secure.attacks.poisoning.layer_cosines import layer_slices, typical_cosines
from autoflip_secure.attacks.poisoning.lie_samples import LieSamples
from autoflip_secure.attacks.poisoning.little_is_enough import LittleIsEnough
from autoflip_secure.attacks.poisoning.mask_collusion import MaskCollusion
from autoflip_secure.attacks.poisoning.mimic import Mimic
from autoflip_secure.attacks.poisoning.model_replacement import ModelReplacement
from autoflip_secure.attacks.poisoning.neurotoxin import Neurotoxin
from autoflip_secure.attacks.poisoning.norm_bound import NormBound
from autoflip_secure.attacks.poisoning.over_participation import OverParticipation
from autoflip_secure.attacks.poisoning.relocated_orthogonal import RelocatedOrthogonal
from autoflip_secure.attacks.poisoning.root_evasion import RootEvasion
from autoflip_secure.attacks.poisoning.score_evasion import AnchorInflation, BoostedFlip, LayerTrick, ScoreEvasion
from autoflip_secure.attacks.poisoning.searched import (
    GreedyOracle,
    MemoryEvasion,
    OptimisedInnerProduct,
    OptimisedLittle,
    maximise,
)
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.attacks.poisoning.starve import Starve
from autoflip_secure.attacks.poisoning.step_reversal import StepReversal
from autoflip_secure.defenses.aggregators.median import TrimmedMean
from autoflip_secure.federation.attacking import AttackMemory
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_labels, stated_samples
from autoflip_secure.federation.poisoned_inputs import PoisonedInputs
from autoflip_secure.interfaces import Attack, AttackView, NoAttack, RowAttack, SampleAttack, Threat, UpdateAttack
from autoflip_secure.reports.study import labels
from autoflip_secure.scenarios.config.tables import ATTACKS

Promise = Callable[[Round], bool]
MOVED = AttackMemory({(0, -1): (0, BEFORE)})


def copies(found: Round) -> bool:
    """All lies are one honest row: that which stands out most along the leading principal direction."""
    centred = found.honest - found.honest.mean(0)
    v = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    chosen = found.honest[int((centred @ v).abs().argmax())]
    return bool((found.lies == chosen).all())


def along_weights(found: Round) -> bool:
    """Deviations are multiples of the weights, as long as they were."""
    w = problem().initial * found.active
    own = torch.where(found.active, found.trained[list(MALICIOUS)], 0.0)
    cosines = found.lies @ w / (found.lies.norm(dim=1) * w.norm())
    return torch.allclose(cosines, torch.ones(3)) and torch.allclose(found.lies.norm(dim=1), own.norm(dim=1))


def turned_profile(found: Round) -> bool:
    """Energy moves to where honest explorers have none, and every lying explorer is still kept."""
    everybody, each = torch.arange(10), torch.ones(10)
    honest, both = (
        explore(everybody, each, own, "robust", [[1.0]] * 10)
        for own in (torch.where(found.active, found.trained, 0), found.sent)
    )
    hidden = problem().layout.prunable
    low = hidden & (honest.energy <= honest.energy[hidden].median())
    return bool(both.kept[list(MALICIOUS)].all()) and float(both.energy[low].sum()) > 1.1 * float(
        honest.energy[low].sum()
    )


def absurd_statistics(found: Round) -> bool:
    """The trained part is honest; the client's running statistics would be the value."""
    buffers, own = ~problem().layout.trained, found.sent[list(MALICIOUS)]
    honest = torch.equal(own[:, ~buffers], found.trained[list(MALICIOUS)][:, ~buffers])
    return honest and torch.allclose(own[:, buffers] + problem().initial[buffers], torch.tensor(7.0))


def typical_layers(found: Round) -> bool:
    """Each layer has the cosine with the weights that is typical of honest clients."""
    w = problem().initial
    typical = torch.tensor(typical_cosines(found.honest, w, problem().layout))
    own = torch.tensor([
        [float(torch.cosine_similarity(row[where], w[where], dim=0)) for where in layer_slices(problem().layout)]
        for row in found.lies
    ])  # fmt: skip
    return torch.allclose(own, typical.expand_as(own), atol=1e-4)


def sends(value: float) -> Promise:
    return lambda found: bool((found.lies[:, found.active] == value).all())


def unusable(found: Round) -> bool:
    return not bool(found.lies.norm(dim=1).isfinite().any())


@dataclass(frozen=True)
class Case:
    """An attack, what it promises of the plain mean, and the setting at which it is no attack, if it has one."""

    attack: Attack
    promise: Promise | None
    off: Attack | None = None
    round: int = 1
    memory: AttackMemory | None = None  # where it does nothing without one


CASES = [
    Case(LabelFlip(share=1.0), None, LabelFlip(share=0)),
    Case(LabelFlip(share=1.0, to="least_likely"), None, LabelFlip(share=0, to="least_likely")),
    Case(DirtyLabel(of=1), None, DirtyLabel(of=1, share=0)),
    Case(GaussianNoise(sigma=1.0), away, GaussianNoise(sigma=0)),
    Case(SignFlip(), against),
    Case(SignFlip(of="mean", scale=2), against),
    Case(InnerProduct(epsilon=2), against),
    Case(LittleIsEnough(), below),
    Case(MinMax(), below),
    Case(MinMax(direction="unit"), opposed),
    Case(MinMax(direction="sign"), opposed),
    Case(MinSum(), below),
    Case(MinSum(bound="smallest"), below),
    Case(Mimic(), copies),
    Case(Mimic(index=2), lambda found: bool((found.lies == found.honest[2]).all())),
    Case(HybridSparse(z=1.0), below),
    Case(Fang(), beyond),
    Case(Fang(against="krum"), picked_by_krum),
    Case(RelocatedOrthogonal(), across),
    Case(RelocatedOrthogonal(angle=180), against),
    Case(ScoreEvasion(), lambda found: against(found) and typical_layers(found)),
    Case(LayerTrick(), against),
    Case(BoostedFlip(), typical_layers, BoostedFlip(share=0)),
    Case(AnchorInflation(), along_weights, round=0),
    Case(LandscapeLie(), turned_profile, round=0),
    Case(LandscapeLie(lie="flat"), turned_profile, round=0),
    Case(MaskCollusion(), cancelled, MaskCollusion(share=0)),
    Case(MaskCollusion(does="agree"), unanimous, MaskCollusion(does="agree", share=0)),
    Case(Starve(), medoids),
    Case(Decorrelated(), apart),
    Case(RootEvasion(), against),
    Case(OptimisedInnerProduct(), against),
    Case(OptimisedLittle(), below),
    Case(GreedyOracle(), against),
    Case(MemoryEvasion(), opposed),
    Case(StepReversal(), against, StepReversal(strength=0)),
    Case(Backdoor(features=(0, 3), value=9.0, share=1.0), None, Backdoor(share=0)),
    Case(ModelReplacement(), multiplied(10 / 3)),
    Case(ModelReplacement(factor=2.5), multiplied(2.5), ModelReplacement(factor=1.0)),
    Case(NormBound(norm=0.5), shortened(0.5)),
    Case(NormBound(norm=0.25, unit="absolute"), shortened(0.25, typical=False)),
    Case(Neurotoxin(share=0.2), spares_most_moved(0.2), Neurotoxin(share=0), memory=MOVED),
    Case(LieSamples(), None, LieSamples(factor=1)),
    Case(OverParticipation(), None, OverParticipation(factor=1)),
    Case(Buffers(value=7), absurd_statistics),
    Case(Buffers(send="nan"), lambda found: bool(found.sent[2, ~problem().layout.trained].isnan().all())),
    Case(Fault(), sends(0)),
    Case(Fault(sends="constant", value=-3), sends(-3)),
    Case(Fault(sends="nan"), unusable),
    Case(Fault(sends="inf"), unusable),
    Case(Fault(sends="huge"), unusable),
    Case(Fault(sends="duplicate"), lambda found: bool((found.lies == found.honest[0]).all())),
    Case(Fault(sends="free_rider"), sends(0)),
]


def name(case: Case) -> str:
    others = {key: value for key, value in case.attack.model_dump(exclude_defaults=True).items() if key != "kind"}
    return "-".join([case.attack.model_dump()["kind"], *(f"{key}={value}" for key, value in others.items())])


ON_ROWS = [case for case in CASES if isinstance(case.attack, RowAttack)]
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


def test_stealth_keeps_scores_high_at_a_price() -> None:
    free, hidden = (attacked(GreedyOracle(stealth=one), 1, aggregator=AgreementWeighted()) for one in (None, 0.9))

    def scores(one: Round) -> Tensor:
        found: Tensor = one.knows.trial(one.sent).scores
        return found[list(MALICIOUS)]

    assert (scores(hidden) >= 0.9).all()
    mean = free.honest.mean(0)
    assert float(free.knows.trial(free.sent).delta @ mean) <= float(hidden.knows.trial(hidden.sent).delta @ mean)


def test_a_search_finds_at_least_what_a_grid_does() -> None:
    """Against a trimmed mean, on which a search upwards from 0 that stops at the first loss finds nothing."""
    bumpy = {t / 100: -((t / 100 - 2.13) ** 2) for t in range(5, 2000)}
    assert maximise(lambda t: -((t - 2.13) ** 2), 0.05, 20, 20) == pytest.approx(2.13, rel=0.05)
    assert max(bumpy, key=bumpy.__getitem__) == pytest.approx(2.13)
    found = attacked(OptimisedLittle(), 1, aggregator=TrimmedMean(bad_share=0.3))
    fixed = attacked(LittleIsEnough(z=0.0), 1, aggregator=TrimmedMean(bad_share=0.3))

    def harm(one: Round) -> float:
        ordered = torch.where(one.active, one.sent, 0.0).sort(0).values[3:-3]
        return float((ordered.mean(0) - one.honest.mean(0)).norm())

    assert harm(found) > harm(fixed)


def test_greedy_is_no_better_for_the_server_than_any_of_its_family() -> None:
    found = attacked(GreedyOracle(), 1, aggregator=TrimmedMean(bad_share=0.3))

    def progress(one: Round) -> float:
        ordered = torch.where(one.active, one.sent, 0.0).sort(0).values[3:-3]
        return float(ordered.mean(0) @ one.honest.mean(0))

    for other in (MinMax(), MinSum(), ScoreEvasion(), LittleIsEnough(), Fault()):
        assert progress(found) <= progress(attacked(other, 1, aggregator=TrimmedMean(bad_share=0.3))) + 1e-6


def test_a_free_rider_sends_the_last_step_that_it_saw() -> None:
    first = attacked(Fault(sends="free_rider"), 1)
    assert first.attacked.memory is not None
    moved = {key: (1, weights - 0.5) for key, (_, weights) in first.attacked.memory.of.items()}
    again = attacked(Fault(sends="free_rider"), 3, memory=replace(first.attacked.memory, of=moved))
    assert torch.allclose(again.lies[:, again.active], torch.tensor(0.25))


def test_a_mimic_keeps_its_direction_after_the_warm_up() -> None:
    first = attacked(Mimic(warmup=1), 1)
    assert first.attacked.memory is not None
    [(seen, v)] = first.attacked.memory.of.values()
    assert seen == 1
    later = attacked(Mimic(warmup=1), 2, rows(seed=9), memory=first.attacked.memory)
    assert later.attacked.memory is not None
    [(_, kept)] = later.attacked.memory.of.values()
    assert torch.equal(v, kept)
    centred = later.honest - later.honest.mean(0)
    assert torch.equal(later.lies[0], later.honest[int((centred @ v).abs().argmax())])


def test_the_z_of_the_formula_is_told() -> None:
    found = attacked(LittleIsEnough(z=None), 1).attacked
    assert found.events == ("attack alie: z = 0.180 with 7 honest and 3 malicious clients",)
    again = attacked(LittleIsEnough(z=None), 2, memory=found.memory).attacked
    assert again.events == ()


def test_a_lie_about_the_landscape_is_as_large_as_is_believed() -> None:
    found = attacked(LandscapeLie(lie="spike"), 0)
    share = float(found.attacked.events[0].rpartition("= ")[2])
    assert "attack landscape_lie: spike: a = " in found.attacked.events[0]
    assert 0 < share <= 1


class Everywhere(RowAttack):
    """Says that it changes updates, and returns other running statistics too."""

    kind: str = "everywhere"
    threat: ClassVar[Threat] = Threat("rows", ("update",))

    def act(self, view: AttackView) -> tuple[Tensor, Any]:
        """One everywhere."""
        return torch.ones_like(view.updates), None


def test_what_a_card_does_not_name_stays_as_trained() -> None:
    found, trained = attacked(Everywhere()), problem().layout.trained
    assert (found.sent[2, trained] == 1).all()
    assert torch.equal(found.sent[2, ~trained], found.trained[2, ~trained])
    assert torch.equal(found.sent[3], found.trained[3])


def test_the_sparse_part_of_the_hybrid_attack_is_aggressive_and_inside_the_fences() -> None:
    attack = HybridSparse(sensitive=0.1, z=0.2)
    found = attacked(attack)
    mean, s, w = found.honest.mean(0), found.honest.std(0), problem().initial
    apart = (mean - found.lies[0]) / s.clamp_min(1e-12)
    for segment in problem().layout:
        if not segment.trained:
            continue
        count = -(-(segment.stop - segment.start) // 10)  # rounded up
        chosen = (w * mean)[segment.slice].abs().topk(count).indices + segment.start
        rest = torch.ones(len(w), dtype=torch.bool)
        rest[chosen] = False
        rest = rest & found.active & problem().layout.where(segment)
        assert torch.allclose(apart[rest], torch.tensor(0.2), atol=1e-3)
        low, high = torch.quantile(found.honest[:, chosen], torch.tensor([0.25, 0.75]), dim=0)
        assert torch.allclose(found.lies[0, chosen], torch.maximum(low - 1.5 * (high - low), (mean - 20 * s)[chosen]))
        assert (apart[chosen] > 0.2).all()


def test_an_attack_on_counts_is_no_attack_on_rows() -> None:
    assert not isinstance(LieSamples(), RowAttack)
    assert isinstance(LieSamples(), SampleAttack)
