"""What a run asks of a plug-in from outside, done on small numbers before a folder is made.

A plug-in proposes, and what it proposes is judged here, alike for all of one family: shapes, types, ranges; that the
same question has the same answer, whatever was drawn before; that nothing it is shown is changed in place. A run would
otherwise end in its middle, or be one that nobody can repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.federation.outside_answers import is_trust
from autoflip_secure.federation.secure_updates import score_secretly
from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    Channel,
    ClientPrivacy,
    DataAttack,
    Exploration,
    Guidance,
    InputAttack,
    LocalRule,
    NoisePlan,
    ParticipationAttack,
    Plugin,
    PreAggregator,
    PrivacyView,
    PrivateSteps,
    Pruner,
    PruneView,
    RoundView,
    RowAttack,
    SampleAttack,
    TrainedMask,
)
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.units import Units
from autoflip_secure.scenarios.data.datasets import Dataset
from autoflip_secure.scenarios.data.partitions import Partition
from autoflip_secure.scenarios.running.attack_trial import (
    try_data_attack,
    try_input_attack,
    try_participation_attack,
    try_row_attack,
    try_sample_attack,
)
from autoflip_secure.scenarios.running.cells_trial import try_cells
from autoflip_secure.scenarios.running.channel_trial import (
    of_participants,
    rounds_with_channels,
    try_channels,
)
from autoflip_secure.scenarios.running.local_rule_trial import try_local_rule
from autoflip_secure.scenarios.running.lone_trial import try_lone_training, uses
from autoflip_secure.scenarios.running.own_mask_trial import try_client_masks, try_coverage
from autoflip_secure.scenarios.running.pre_aggregation_trial import try_pre_aggregator
from autoflip_secure.scenarios.running.trained_mask_trial import try_trained_mask
from autoflip_secure.scenarios.running.trial_judge import Judge
from autoflip_secure.secure_rows.own_parties import OwnParties
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig
from autoflip_secure.seeds import Purpose, generator, numpy_generator

_SIZE = 0.01  # standard deviation of the coordinates of made-up updates


@dataclass(frozen=True)
class Stage:
    """What a plug-in is tried with: the data and the model of its cell."""

    data: Dataset
    layout: Layout
    units: Units | None  # None: unknown
    weights: Tensor
    clients: int
    cohort: int
    rounds: int
    secure_sum: SecureSumConfig | None = None
    channels: tuple[Channel, ...] = ()  # that pruner and aggregator of its cell ask clients for

    def rows(self, count: int) -> Tensor:
        """Made-up updates (count, params)."""
        return _SIZE * torch.randn(count, self.layout.size, generator=generator(0, Purpose.UPDATE_ATTACK, 1))

    @property
    def exploration(self) -> Exploration:
        """Of everybody, or of the first four."""
        rows = self.rows(min(self.clients, 4))
        count = len(rows)
        each = torch.ones(count)
        return Exploration(
            torch.arange(count), 10 * each, rows, rows.square().sum(0), each, each.bool(), ((0.5,),) * count
        )

    @property
    def guidance(self) -> Guidance:
        """As it is after that exploration."""
        return Guidance(self.exploration.energy, torch.full_like(self.weights, 0.5))


def try_out(place: str, plugin: Plugin, stage: Stage) -> None:
    """Ask a plug-in from outside once for everything that a run asks.

    Args:
        place: how messages begin: its key and kind.
        plugin: of any family but models and data, which are rehearsed, and trackers.
        stage: what it is asked with.

    Raises:
        InputError: it fails, or what it answers cannot be used; says what was expected.
    """
    for base, trial in _TRIALS.items():  # an attack may be of several kinds
        if isinstance(plugin, base):
            trial(Judge(place), plugin, stage)


def _try_aggregator(judge: Judge, aggregator: Aggregator, stage: Stage) -> None:
    guidance = stage.guidance if aggregator.needs_guidance else None
    if aggregator.needs_clean_data and aggregator.clean_samples < 1:
        raise judge.refuse("root_samples: should be a whole number from 1, of samples that the server owns")
    number = next(iter([*judge.ask("wants", lambda: rounds_with_channels(aggregator, stage)), 1]))
    channels = try_channels(judge, aggregator, stage, number)
    for count in dict.fromkeys((min(stage.cohort, stage.clients), 1)):  # who sends what cannot be used is left out
        rows, samples = stage.rows(count), torch.full((count,), 10.0)
        mask, here = torch.ones_like(stage.weights, dtype=torch.bool), torch.arange(count)
        brought = {name: of_participants(one, count) for name, one in channels.items()}
        view = RoundView(
            number,
            here,
            samples,
            stage.weights,
            mask,
            guidance,
            stage.layout,
            torch.zeros(count),
            channels=brought,
            root=stage.rows(1)[0] if aggregator.needs_clean_data else None,
            generator=partial(generator, 0, Purpose.AGGREGATION, number),
            updates=rows,
        )

        def ask(view: RoundView = view) -> Aggregate:
            return aggregator.aggregate(_state(aggregator, stage), view)

        found = judge.ask(f"aggregate of {count} updates", ask, rows, samples, mask, stage.weights)
        if not isinstance(found, Aggregate):
            raise judge.refuse(f"aggregate gives a {type(found).__name__}, expected an Aggregate")
        judge.tensor("aggregate: delta", found.delta, stage.weights)
        trust = judge.tensor("aggregate: trust", found.trust, samples)
        if not is_trust(trust):
            raise judge.refuse("aggregate: trust should be non-negative and sum to 1, or be all 0 for no step")
        _check_scores(judge, aggregator, found, samples)
        try_cells(judge, aggregator, view, partial(_state, aggregator, stage))
        if stage.secure_sum is not None and stage.secure_sum.updates and count > 1:
            judge.ask(f"decide on {count} secret updates", partial(_on_shares, aggregator, stage, view), rows, samples)
        if aggregator.own_masks:
            try_coverage(judge, aggregator, view, _state(aggregator, stage))


def _state(aggregator: Aggregator, stage: Stage) -> Any:
    exploration = stage.exploration if aggregator.needs_guidance else None
    return aggregator.start(stage.layout, stage.weights, stage.clients, exploration)


def _on_shares(aggregator: Aggregator, stage: Stage, view: RoundView) -> Aggregate:
    """What it decides where it is shown no row; says what it asked for beyond what may be revealed."""
    assert stage.secure_sum is not None
    seen = (
        replace(stage.exploration, deviations=stage.exploration.deviations[:0]) if aggregator.needs_guidance else None
    )
    state = aggregator.start(stage.layout, stage.weights, stage.clients, seen)
    parties, draws = OwnParties(), generator(0, Purpose.SECURE_CHECKS, 1)
    honest, width = torch.ones(len(view.clients), dtype=torch.bool), stage.secure_sum.sketch
    found = score_secretly(parties, aggregator, state, view.public, view.updates, honest, draws, width).aggregate
    assert found is not None
    return found


def _check_known(judge: Judge, aggregator: Aggregator) -> None:
    """How well scores find fixed attacks says nothing of an attacker who knows them: one that scores names some."""
    named = aggregator.known_by
    if not isinstance(named, tuple) or not all(isinstance(one, Mapping) and "kind" in one for one in named):
        raise judge.refuse("known_by: should be a tuple of attacks, each a mapping with a kind and its options")
    if aggregator.scores_clients and not named:
        raise judge.refuse(
            "known_by: is empty; an aggregator that scores clients names the attacks that know it, for the suite "
            "`adaptive`: known_by: ClassVar = ({'kind': 'greedy_oracle', 'stealth': 0.9},)"
        )


def _check_scores(judge: Judge, aggregator: Aggregator, found: Aggregate, like: Tensor) -> None:
    if aggregator.scores_clients != (found.scores is not None):
        what = "has scores_clients = True and gives none" if aggregator.scores_clients else "gives some"
        raise judge.refuse(
            f"aggregate: scores: {what}; set `scores_clients: ClassVar[bool]` to whether it scores clients"
        )
    _check_known(judge, aggregator)
    if found.scores is not None:
        scores = judge.tensor("aggregate: scores", found.scores, like)
        if not bool(((scores >= 0) & (scores <= 1)).all()):
            raise judge.refuse("aggregate: scores should lie in [0, 1]")


def _try_pruner(judge: Judge, pruner: Pruner, stage: Stage) -> None:
    exploration, guidance = (stage.exploration, stage.guidance) if pruner.needs_guidance else (None, None)
    mask = torch.ones_like(stage.weights, dtype=torch.bool)
    asking, memory = judge.ask("wants", lambda: rounds_with_channels(pruner, stage)), dict[str, Tensor]()
    cut = False
    for number in sorted({0, *asking, stage.rounds}):
        channels = try_channels(judge, pruner, stage, number) if number or pruner.prepares else {}
        view = PruneView(
            stage.layout, stage.units, stage.weights, mask, exploration, guidance, number, stage.rounds,
            lambda *address: generator(0, Purpose.PRUNING, *address), channels=channels, memory=memory,
            multiply_adds=partial(uses, stage),
        )  # fmt: skip
        memory = judge.ask("remember", partial(pruner.remember, view), mask, stage.weights, *memory.values())
        if not isinstance(memory, Mapping) or not all(isinstance(one, Tensor) for one in memory.values()):
            raise judge.refuse("remember should give named tensors: a dict of name -> tensor, {} for none")
        view = replace(view, memory=memory)
        found = judge.tensor("mask", judge.ask("mask", partial(pruner.mask, view), mask, stage.weights), mask)
        if not bool(found.any()):
            raise judge.refuse(f"mask prunes everything in round {number}; leave some weights")
        rescale = partial(pruner.rescale, stage.weights, mask, found, view)
        judge.tensor("rescale", judge.ask("rescale", rescale, stage.weights), stage.weights)
        mask, cut = found, cut or (number == 0 and not bool(found.all()))
    if pruner.draws_again:
        later = replace(view, mask=torch.ones_like(mask), round=stage.rounds - 1, again=True)
        found = judge.tensor("mask", judge.ask("mask", partial(pruner.mask, later), mask, stage.weights), mask)
        if cut and bool(found.all()):
            raise judge.refuse(
                "mask prunes nothing after a later exploration; ask `view.fresh`, not whether it is round 0"
            )
    if isinstance(pruner, TrainedMask):
        try_trained_mask(judge, pruner, stage)
    if pruner.own:
        try_client_masks(judge, pruner, stage)
    if pruner.begins_alone:
        try_lone_training(judge, pruner, stage)


def _try_partition(judge: Judge, partition: Partition, stage: Stage) -> None:
    data = stage.data

    def ask() -> tuple[Tensor, ...]:
        rng = numpy_generator(0, Purpose.PARTITION)
        return partition.split(data.y_train, stage.clients, data.num_classes, data.groups, rng)

    judge.ask("deal", ask, data.y_train)


def _try_privacy(judge: Judge, mechanism: ClientPrivacy, stage: Stage) -> None:
    steps = judge.ask("steps", lambda: mechanism.steps(1.0))
    if steps is not None and not isinstance(steps, PrivateSteps):
        raise judge.refuse(f"steps gives a {type(steps).__name__}, expected PrivateSteps or None")
    if not mechanism.works_on_updates:
        return
    rows, count = stage.rows(3), 3
    run = NoisePlan((20, 30, 40), count, stage.rounds, stage.rounds)
    own = judge.ask("own_noise", lambda: mechanism.own_noise(run))
    if own is not None and not 0 <= own < inf:
        raise judge.refuse(f"own_noise = {own!r}: should be a number, 0 or more, or None")
    if mechanism.claimed is not None and not mechanism.unproven:
        raise judge.refuse("claimed: gives an epsilon without saying in `unproven` why it is no guarantee")

    def view(number: int) -> PrivacyView:
        noise = [numpy_generator(0, Purpose.DP_NOISE, number, k) for k in range(count)]
        server = numpy_generator(0, Purpose.SERVER_NOISE, number)
        return PrivacyView(
            number, torch.ones(count).bool(), stage.layout.sent.clone(), float(count), 1.0, noise, server,
            stage.weights, run,
        )  # fmt: skip

    judge.tensor("explore", judge.ask("explore", lambda: mechanism.explore(rows, view(0)), rows), rows)
    judge.tensor("send", judge.ask("send", lambda: mechanism.send(mechanism.start(), rows, view(1)), rows), rows)
    step = rows.mean(0)
    found = judge.ask("publish", lambda: mechanism.publish(mechanism.start(), step, rows, view(1)), step, rows)
    if not isinstance(found, tuple) or len(found) != 2:
        raise judge.refuse("publish should give the step and the next state, a tuple of two")
    judge.tensor("publish", found[0], step)


_TRIALS: dict[type, Callable[[Judge, Any, Stage], None]] = {
    DataAttack: try_data_attack,
    InputAttack: try_input_attack,
    RowAttack: try_row_attack,
    SampleAttack: try_sample_attack,
    ParticipationAttack: try_participation_attack,
    Aggregator: _try_aggregator,
    PreAggregator: try_pre_aggregator,
    Pruner: _try_pruner,
    Partition: _try_partition,
    ClientPrivacy: _try_privacy,
    LocalRule: try_local_rule,
}
