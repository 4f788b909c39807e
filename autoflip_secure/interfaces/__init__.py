"""The nouns of the project: what a plug-in is asked, and with what. Small abstract classes, no behaviour.

A plug-in is a frozen, validated configuration with pure functions on rows: state in, state out. It is named by its
``kind`` in one explicit table (:mod:`autoflip_secure.scenarios.config.tables`), by an entry point or by the path of
its class (``docs/plugins.md``); never by import side effects.
"""

from autoflip_secure.interfaces.aggregation import (
    Aggregate,
    Aggregator,
    PublicView,
    ReadingAggregator,
    RoundView,
    ScoringAggregator,
)
from autoflip_secure.interfaces.attack import (
    Attack,
    DataAttack,
    NoAttack,
    ParticipationAttack,
    RowAttack,
    SampleAttack,
    SeveralAttacks,
    UpdateAttack,
    Window,
)
from autoflip_secure.interfaces.attack_view import KNOWLEDGE, MEANS, AttackView, Threat
from autoflip_secure.interfaces.base import Config, Plugin
from autoflip_secure.interfaces.channel import UPDATE, Channel, ChannelRequest, ClientView, Received
from autoflip_secure.interfaces.channel_source import ChannelSource
from autoflip_secure.interfaces.contribution import ClientJob, PrivateSteps, Trained
from autoflip_secure.interfaces.input_attack import BackdoorAttack, InputAttack, InputView, largest_values
from autoflip_secure.interfaces.landscape import Exploration, Guidance
from autoflip_secure.interfaces.local_rule import BroadcastView, LocalRule, LocalView, NoLocalRule, RoundRule, WorksOn
from autoflip_secure.interfaces.lone_training import LoneStage, LoneView
from autoflip_secure.interfaces.pre_aggregation import (
    AssumingPreAggregator,
    ClientRows,
    Mixture,
    PreAggregator,
    RowsView,
)
from autoflip_secure.interfaces.privacy import Accountant, ClientPrivacy, NoisePlan, NoPrivacy, PrivacyView
from autoflip_secure.interfaces.pruning import (
    ClientEndView,
    ClientPruneView,
    OwnMask,
    Pruner,
    PruneView,
    explores,
    guided,
)
from autoflip_secure.interfaces.row_reader import Groups, OpenRows, Part, RowReader
from autoflip_secure.interfaces.schedule import TrainingSchedule
from autoflip_secure.interfaces.trained_mask import (
    FrozenStart,
    Role,
    Scoring,
    SeedView,
    TrainedMask,
    even_sigmoid,
    straight_through,
    trained_mask,
)
from autoflip_secure.interfaces.trained_thresholds import TrainedThresholds, threshold_pairs, trained_thresholds

__all__ = [
    "KNOWLEDGE",
    "MEANS",
    "UPDATE",
    "Accountant",
    "Aggregate",
    "Aggregator",
    "AssumingPreAggregator",
    "Attack",
    "AttackView",
    "BackdoorAttack",
    "BroadcastView",
    "Channel",
    "ChannelRequest",
    "ChannelSource",
    "ClientEndView",
    "ClientJob",
    "ClientPrivacy",
    "ClientPruneView",
    "ClientRows",
    "ClientView",
    "Config",
    "DataAttack",
    "Exploration",
    "FrozenStart",
    "Groups",
    "Guidance",
    "InputAttack",
    "InputView",
    "LocalRule",
    "LocalView",
    "LoneStage",
    "LoneView",
    "Mixture",
    "NoAttack",
    "NoLocalRule",
    "NoPrivacy",
    "NoisePlan",
    "OpenRows",
    "OwnMask",
    "Part",
    "ParticipationAttack",
    "Plugin",
    "PreAggregator",
    "PrivacyView",
    "PrivateSteps",
    "PruneView",
    "Pruner",
    "PublicView",
    "ReadingAggregator",
    "Received",
    "Role",
    "RoundRule",
    "RoundView",
    "RowAttack",
    "RowReader",
    "RowsView",
    "SampleAttack",
    "Scoring",
    "ScoringAggregator",
    "SeedView",
    "SeveralAttacks",
    "Threat",
    "Trained",
    "TrainedMask",
    "TrainedThresholds",
    "TrainingSchedule",
    "UpdateAttack",
    "Window",
    "WorksOn",
    "even_sigmoid",
    "explores",
    "guided",
    "largest_values",
    "straight_through",
    "threshold_pairs",
    "trained_mask",
    "trained_thresholds",
]
