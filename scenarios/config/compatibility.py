"""Cross-checks: which values of a scenario go together, checked before anything runs.

| what the aggregator needs of the updates | through the parties |
|---|---|
| their weighted sum (mean) | yes |
| that and a few numbers about each (agreement, radial; from outside: any ReadingAggregator) | yes |
| every one of them (median, Krum, …) | no: refused, with the reason |
"""

from __future__ import annotations

from pydantic_core import PydanticCustomError

from autoflip_secure.federation.visibility import UPDATES, least
from autoflip_secure.interfaces import (
    Aggregator,
    ClientPrivacy,
    LocalRule,
    Plugin,
    TrainedMask,
    TrainedThresholds,
    explores,
)
from autoflip_secure.scenarios.config import (
    attack_checks,
    exploring_again,
    lone_training,
    personal,
    pre_aggregation,
    trained_masks,
    training_checks,
)
from autoflip_secure.scenarios.config.algorithms import ALGORITHMS
from autoflip_secure.scenarios.config.families import AlgorithmConfig
from autoflip_secure.scenarios.config.fields import Fields
from autoflip_secure.scenarios.config.messages import kind_of
from autoflip_secure.scenarios.config.tables import PRUNERS
from autoflip_secure.secure_rows.secure_sum import LEAST_CROWD, SecureSumConfig


def check(settings: Fields) -> None:
    """Values that do not go together are refused.

    Raises:
        PydanticCustomError: they do not; names the key that is in the way.
    """
    _private_enough(settings)
    _named_as_it_is(settings.algorithm)
    _claimed_only(settings)
    _through_parties(settings)
    _measured(settings)
    _noted_weights(settings)
    if (mixed := pre_aggregation.obstacle(settings)) is not None:
        _refuse(*mixed)
    if (trained := trained_masks.obstacle(settings)) is not None:
        _refuse(*trained)
    _moved_masks(settings)
    _told_cohorts(settings)
    if (own := personal.obstacle(settings)) is not None:
        _refuse(*own)
    if (alone := lone_training.obstacle(settings)) is not None:
        _refuse(*alone)
    if (again := exploring_again.obstacle(settings)) is not None:
        _refuse(*again)
    _shortened(settings)
    obstacle = impossible(settings)
    if obstacle is not None:
        _refuse(*obstacle, "secure_sum")
    if (unfit := training_checks.obstacle(settings)) is not None:
        _refuse(*unfit)
    if settings.cohort > settings.clients:
        _refuse(
            "cohort",
            f"{settings.cohort}: is larger than clients = {settings.clients}; lower cohort or raise clients",
            "clients",
        )
    explorers = settings.exploration.explorers
    if explorers is not None and explorers > settings.clients:
        _refuse(
            "exploration.explorers",
            f"{explorers}: is larger than clients = {settings.clients}; lower it, or leave it out for all clients",
            "clients",
        )
    if (refused := attack_checks.obstacle(settings)) is not None:
        _refuse(*refused)


def _shortened(settings: Fields) -> None:
    """Shares of a shorter row are no shorter."""
    config, algorithm = settings.exploration, settings.algorithm
    exploring = explores(algorithm.pruner, algorithm.aggregator, algorithm.local_rule)
    if settings.secure_sum is not None and exploring and config.shortens:
        key = "upload_bits" if config.upload_bits < 32 else "upload_share"
        _refuse(
            f"exploration.{key}",
            f"{getattr(config, key)}: saves nothing in shares, each of which is as long as the whole row whatever it "
            "holds; leave it out, or set secure_sum: none",
            "secure_sum",
        )


def _refuse(path: str, message: str, other: str = "") -> None:
    raise PydanticCustomError("cross_check", "{text}", {"text": f"{path} = {message}", "path": path, "other": other})


def _named_as_it_is(algorithm: AlgorithmConfig) -> None:
    """What reports say of a known name is said of what this package does under it."""
    foreign = [part for part in ("pruner", "aggregator", "local_rule") if getattr(algorithm, part).foreign]
    foreign += ["pre-aggregator" for one in algorithm.aggregator.before if one.foreign]
    if foreign and algorithm.name in ALGORITHMS:
        _refuse(
            "algorithm.name",
            f"{algorithm.name}: is an algorithm of this package, and its {foreign[0]} comes from outside; give it a "
            "name of its own",
        )


def _claimed_only(settings: Fields) -> None:
    """NbAFL is more than its training: the noise is what it is about."""
    if settings.algorithm.name == "nbafl" and getattr(settings.privacy, "kind", "") != "nbafl":
        _refuse(
            "algorithm",
            "nbafl: is the local training of NbAFL, and its clipped and noised weights are a privacy mechanism; set "
            "privacy: {kind: nbafl, allow_unproven: true}, or algorithm: fedprox for the training alone",
            "privacy",
        )


def _through_parties(settings: Fields) -> None:
    """PPFLex is FedLEx behind secure sums: without them it is something else."""
    if settings.algorithm.name == "ppflex" and (settings.secure_sum is None or not settings.secure_sum.updates):
        _refuse(
            "algorithm",
            "ppflex: is FedLEx whose exploration and updates pass through parties; set secure_sum: {parties: 3, "
            "updates: true} and exploration.method: linear, or algorithm: fedlex in the open",
            "secure_sum",
        )


def _moved_masks(settings: Fields) -> None:
    """Masks that clients move belong to each of them, and are moved at all."""
    rule, pruner, epochs = settings.algorithm.local_rule, settings.algorithm.pruner, settings.training.epochs
    if not isinstance(rule, LocalRule) or not rule.moves_masks:
        return
    if not pruner.several_masks:
        trained = rule.works_on == "scores"
        able = " or ".join(
            kind for kind, cls in PRUNERS.items()
            if any(getattr(cls, one, False) for one in ("own", "collects"))
            and issubclass(cls, TrainedMask) == trained and not issubclass(cls, TrainedThresholds)
        )  # fmt: skip
        _refuse(
            "algorithm.local_rule",
            f"{kind_of(type(rule))}: moves each client's mask while it trains, and with the pruner "
            f"{kind_of(type(pruner))} all clients hold one mask; use a pruner with masks of their "
            f"own, or one that collects them: {able}",
            "algorithm",
        )
    if not any(rule.moves_after(epoch, epochs) for epoch in range(1, epochs + 1)):
        _refuse(
            "algorithm.local_rule",
            f"{kind_of(type(rule))}: would move masks after none of training.epochs = {epochs}; give more epochs, or "
            "let it move masks earlier",
            "training.epochs",
        )


def _told_cohorts(settings: Fields) -> None:
    """What is sent to everybody must not say who took part, where a guarantee rests on that being drawn in secret."""
    rule = settings.algorithm.local_rule
    if isinstance(rule, LocalRule) and rule.remembers_explorers and isinstance(settings.privacy, ClientPrivacy):
        _refuse(
            "algorithm.local_rule",
            f"{kind_of(type(rule))}: is renewed from what the participants of each round explored, so it tells "
            "everybody who took part, and privacy may rest on that being unknown; set matrix: once, or privacy: none",
            "privacy",
        )


def _measured(settings: Fields) -> None:
    """Numbers computed from single updates are a release that no ledger counts."""
    if settings.measures and settings.privacy.works_on_updates:
        _refuse(
            "measures",
            f"{', '.join(settings.measures)}: is computed from single clients' updates, which privacy hides and no "
            "ledger counts here; leave it out, or set privacy: none",
            "privacy",
        )


def _noted_weights(settings: Fields) -> None:
    """What a client compares with the end of its training lies before it."""
    pruner, epochs = settings.algorithm.pruner, settings.training.epochs
    noted = pruner.snapshot(epochs)
    if noted is not None and noted >= epochs:
        _refuse(
            "training.epochs",
            f"{epochs}: the pruner {kind_of(type(pruner))} compares weights after epoch {noted} with those at the end "
            f"of local training, which are the same; give at least {noted + 1}",
            "algorithm",
        )


def _private_enough(settings: Fields) -> None:
    """What can be said of privacy without the data; the ledger says the rest before anything runs."""
    privacy = settings.privacy
    if not isinstance(privacy, ClientPrivacy) or not privacy.works_on_updates:
        return
    if privacy.delta is not None and privacy.delta >= 1 / settings.clients and privacy.claimed is None:
        _refuse(
            "privacy.delta",
            f"{privacy.delta:g}: is not below 1/clients = {1 / settings.clients:g}, so one client's data could be "
            f"published in full; give less, or leave it out for {0.1 / settings.clients:g}",
            "clients",
        )
    if settings.sampling == "poisson" and not privacy.trusted_server:
        _refuse(
            "sampling",
            "poisson: with distributed noise the number of noise shares in a round is not known in advance; set "
            "sampling: fixed, or privacy.noise: central",
            "privacy",
        )


def impossible(settings: Fields) -> tuple[str, str] | None:
    """The key that is in the way of secure sums, and the sentence about it; None: all is well."""
    config, algorithm = settings.secure_sum, settings.algorithm
    if config is None:
        return None
    pruner, rule = algorithm.pruner, algorithm.local_rule
    exploring = explores(pruner, algorithm.aggregator, rule)
    if not exploring and not config.updates:
        return "secure_sum.updates", (
            f"false: algorithm {algorithm.name} does not explore, so nothing would pass through the parties; set "
            "secure_sum.updates: true, or secure_sum: none"
        )
    if exploring and settings.exploration.method != "linear":
        return "exploration.method", (
            f"{settings.exploration.method}: needs every explorer's deviation, and secure_sum shows the server only "
            "sums; set exploration.method: linear"
        )
    if exploring and pruner.needs_explorers:
        return "algorithm", (
            f"{algorithm.name}: its pruner {kind_of(type(pruner))} looks at what single explorers sent, and "
            "secure_sum shows the server only sums; use the pruner threshold"
        )
    if exploring and isinstance(rule, LocalRule) and rule.needs_explorers:
        return "algorithm", (
            f"{algorithm.name}: its local rule {kind_of(type(rule))} looks at what single explorers sent, and "
            "secure_sum shows the server only sums; use one that takes the landscape as it is, as fedlex with "
            "landscape: energy does"
        )
    return _impossible_crowd(settings, exploring) or _impossible_updates(settings, config)


def needed(kind: type[Plugin]) -> str:
    """What the server has to see of the updates for an aggregator as it is by default: one line of ``list``."""
    aggregator = kind()
    assert isinstance(aggregator, Aggregator)
    reason = aggregator.hindrance()
    if reason is not None:
        return f"every one of them, so not through parties: {reason}"
    return UPDATES[least(aggregator)]


def _impossible_crowd(settings: Fields, exploring: bool) -> tuple[str, str] | None:
    explorers = settings.exploration.count(settings.clients)
    if exploring and explorers < LEAST_CROWD:
        return "exploration.explorers", f"{explorers}: a sum over one explorer is its row; let two or more explore"
    if settings.secure_sum is not None and settings.secure_sum.updates and settings.cohort < LEAST_CROWD:
        return "cohort", f"{settings.cohort}: a sum over one client is its update; let two or more take part"
    return None


def _impossible_updates(settings: Fields, config: SecureSumConfig) -> tuple[str, str] | None:
    aggregator, privacy = settings.algorithm.aggregator, settings.privacy
    if not config.updates:
        return None
    reason = aggregator.hindrance()
    if reason is not None:
        return "secure_sum.updates", (
            f"true: the aggregator {kind_of(type(aggregator))} cannot work with sums: {reason}; or set "
            "secure_sum.updates: false"
        )
    if privacy.works_on_updates and privacy.trusted_server:
        return "privacy.noise", (
            "central: the server clips every update, so it has to see them; set privacy.noise: distributed, or "
            "secure_sum.updates: false"
        )
    return None
