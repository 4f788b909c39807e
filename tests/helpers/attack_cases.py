"""One table of all attacks: what each promises where nothing defends, and the setting at which it is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from attacked_cohort import MALICIOUS, Round, problem

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
)
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.attacks.poisoning.starve import Starve
from autoflip_secure.attacks.poisoning.step_reversal import StepReversal
from autoflip_secure.federation.attacking import AttackMemory
from autoflip_secure.interfaces import Attack, RowAttack

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
