"""Every plug-in by name: one explicit table per family. Others come from outside: :mod:`.plugin_families`.

Algorithms, which are made of plug-ins, have a table of their own: :mod:`.algorithms`.
"""

from __future__ import annotations

from typing import TypeVar

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
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
from autoflip_secure.defenses.aggregators.caf import CAF
from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.dnc import DnC
from autoflip_secure.defenses.aggregators.filtered_agreement import FilteredAgreement
from autoflip_secure.defenses.aggregators.flame import FLAME
from autoflip_secure.defenses.aggregators.fltrust import FLTrust
from autoflip_secure.defenses.aggregators.foolsgold import FoolsGold
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum
from autoflip_secure.defenses.aggregators.mda import MDA
from autoflip_secure.defenses.aggregators.meamed import MeaMed
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.defenses.aggregators.norm_clip import NormClip, WeakDP
from autoflip_secure.defenses.aggregators.smea import SMEA
from autoflip_secure.defenses.pre_aggregators.arc import ARC
from autoflip_secure.defenses.pre_aggregators.bucketing import Bucketing
from autoflip_secure.defenses.pre_aggregators.clip import Clip
from autoflip_secure.defenses.pre_aggregators.last_rows import LastRows
from autoflip_secure.defenses.pre_aggregators.nnm import NNM
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel, SampleLevel
from autoflip_secure.defenses.privacy.nbafl import NbAFL
from autoflip_secure.interfaces import NoAttack, NoLocalRule, NoPrivacy, Plugin
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.local_rules.one_shot import OneShot
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.local_rules.regrow import Regrow
from autoflip_secure.local_rules.signed_regrow import SignedRegrow
from autoflip_secure.local_rules.sparse_units import SparseUnits
from autoflip_secure.pruning.budget import BudgetMask
from autoflip_secure.pruning.eflprune import EFLPrune
from autoflip_secure.pruning.erk import RandomErk
from autoflip_secure.pruning.erk_of_all import ErkOfAll
from autoflip_secure.pruning.fedmask import FedMask
from autoflip_secure.pruning.fedpm import FedPM
from autoflip_secure.pruning.fedrts import FedRTS
from autoflip_secure.pruning.fedsparsify import FedSparsify
from autoflip_secure.pruning.fedtiny import SwapByGradient
from autoflip_secure.pruning.lottery import LotteryTickets
from autoflip_secure.pruning.magnitude import Magnitude
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.pruning.own_erk import OwnErk
from autoflip_secure.pruning.prunefl import PruneFL
from autoflip_secure.pruning.random import RandomUnits, RandomWeights
from autoflip_secure.pruning.snip import Snip
from autoflip_secure.pruning.spafl import SpaFL
from autoflip_secure.pruning.subfedavg import SubFedAvg
from autoflip_secure.pruning.taylor import TaylorUnits
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.scenarios.config.messages import kind_of
from autoflip_secure.scenarios.data import datasets, partitions
from autoflip_secure.scenarios.models.architectures import MODELS as MODEL_CLASSES
from autoflip_secure.scenarios.trackers.base import Tracker
from autoflip_secure.scenarios.trackers.mlflow import Mlflow
from autoflip_secure.scenarios.trackers.tensorboard import TensorBoard
from autoflip_secure.scenarios.trackers.wandb import Wandb

P = TypeVar("P", bound=type[Plugin])


def _table(*classes: P) -> dict[str, P]:
    return {kind_of(cls): cls for cls in classes}


ATTACKS = _table(
    NoAttack, LabelFlip, DirtyLabel, GaussianNoise,
    # from rows alone
    SignFlip, InnerProduct, LittleIsEnough, MinMax, MinSum, Mimic, HybridSparse, Fang, RelocatedOrthogonal,
    # on scores and masks
    ScoreEvasion, LayerTrick, BoostedFlip, AnchorInflation, LandscapeLie, MaskCollusion, Starve,
    Decorrelated, RootEvasion, StepReversal,
    # that try what the server would do
    OptimisedInnerProduct, OptimisedLittle, GreedyOracle, MemoryEvasion,
    # backdoors: a trigger, and what is done to updates that carry it
    Backdoor, ModelReplacement, NormBound, Neurotoxin,
    # on what else is sent, and faults
    LieSamples, OverParticipation, Buffers, Fault,
)  # fmt: skip
PRIVACY = _table(NoPrivacy, SampleLevel, ClientLevel, NbAFL)
PRUNERS = _table(
    NoPruning, ThresholdMask, BudgetMask, RandomWeights, RandomUnits, LotteryTickets, OwnErk, TaylorUnits,
    # rivals whose mask the server makes for all, and their controls
    FedSparsify, RandomErk, Magnitude, Snip, SwapByGradient, FedRTS,
    PruneFL, EFLPrune,
    # with masks of the clients' own, or one that they move
    SubFedAvg, ErkOfAll,
    # with masks that are trained
    FedPM, FedMask, SpaFL,
)  # fmt: skip
AGGREGATORS = _table(
    Mean,
    AgreementWeighted,
    RadialAgreement,
    Median,
    TrimmedMean,
    Krum,
    MultiKrum,
    GeometricMedian,
    CenteredClipping,
    NormClip,
    WeakDP,
    MDA,
    MeaMed,
    DnC,
    SMEA,
    CAF,
    FilteredAgreement,
    FLAME,
    FoolsGold,
    FLTrust,
)
PRE_AGGREGATORS = _table(Clip, ARC, NNM, Bucketing, LastRows)
LOCAL_RULES = _table(NoLocalRule, Proximal, FedLEx, Regrow, SignedRegrow, OneShot, SparseUnits)
DATASETS = _table(*datasets.DATASETS)
PARTITIONS = _table(*partitions.PARTITIONS)
MODELS = _table(*MODEL_CLASSES)
TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": Mlflow, "wandb": Wandb}
