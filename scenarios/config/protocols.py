"""From the settings of a cell to the protocol that the federation runs."""

from __future__ import annotations

from autoflip_secure.federation.cell import Protocol
from autoflip_secure.scenarios.config.settings import Settings


def protocol(settings: Settings) -> Protocol:
    """How a cell is run."""
    return Protocol(
        rounds=settings.rounds,
        cohort=settings.cohort,
        evaluate_every=settings.evaluate_every,
        training=settings.training,
        exploration=settings.exploration,
        guidance=settings.guidance,
        pruner=settings.algorithm.pruner,
        aggregator=settings.algorithm.aggregator,
        local_rule=settings.algorithm.local_rule,
        attack=settings.attack,
        privacy=settings.privacy,
        sampling=settings.sampling,
        secure_sum=settings.secure_sum,
        evaluation=settings.evaluation,
        measures=settings.measures,
        server_lr=settings.server_lr,
        server_momentum=settings.server_momentum,
    )
