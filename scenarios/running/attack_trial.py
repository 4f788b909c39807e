"""What a run asks of an attack from outside, done on small numbers; see :mod:`.plugin_trial`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.outside_attacks import is_stated
from autoflip_secure.interfaces import (
    Aggregate,
    AttackView,
    BackdoorAttack,
    Channel,
    DataAttack,
    Exploration,
    InputAttack,
    InputView,
    ParticipationAttack,
    RowAttack,
    SampleAttack,
    UpdateAttack,
    largest_values,
)
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training.bits import same_bits

if TYPE_CHECKING:
    from autoflip_secure.scenarios.running.plugin_trial import Stage
    from autoflip_secure.scenarios.running.trial_judge import Judge

_COHORT = 4
_MALICIOUS = (True, False, True, False)


def try_data_attack(judge: Judge, attack: DataAttack, stage: Stage) -> None:
    """Labels: as many as there were, of classes that the data have."""
    labels, classes = stage.data.y_train[:64], stage.data.num_classes
    asked = "labels_under" if attack.follows_model else "labels"
    outputs = torch.randn(len(labels), classes, generator=generator(1, Purpose.DATA_ATTACK, 0))

    def ask() -> Tensor:
        draws = generator(0, Purpose.DATA_ATTACK, 0)
        if attack.follows_model:
            return attack.labels_under(labels, classes, draws, outputs)
        return attack.labels(labels, classes, draws)

    found = judge.tensor(asked, judge.ask(asked, ask, labels, outputs), labels)
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < classes:
        raise judge.refuse(
            f"{asked} gives classes from {int(found.min())} to {int(found.max())}; the data has 0 to {classes - 1}"
        )


def try_input_attack(judge: Judge, attack: InputAttack, stage: Stage) -> None:
    """Inputs: as many, as large and of the same type; of a backdoor those of the test too, and a class of the data."""
    x, y = stage.data.x_train[:64], stage.data.y_train[:64]
    largest, classes = largest_values(x), stage.data.num_classes
    fault = judge.ask("fault", lambda: attack.fault(x), x)
    if fault is not None:
        raise judge.refuse(f"{fault[0]} = {fault[1]}")

    def ask() -> Tensor:
        return attack.inputs(InputView(x, y, classes, largest, 0, generator(0, Purpose.DATA_ATTACK, 0)))

    judge.tensor("inputs", judge.ask("inputs", ask, x, y, largest), x)
    if isinstance(attack, BackdoorAttack):
        judge.tensor("triggered", judge.ask("triggered", lambda: attack.triggered(x, largest), x, largest), x)
        wanted = judge.ask("wanted", lambda: attack.wanted)
        if not isinstance(wanted, int) or not 0 <= wanted < classes:
            raise judge.refuse(f"wanted is {wanted!r}; the data has classes 0 to {classes - 1}")


def try_sample_attack(judge: Judge, attack: SampleAttack, stage: Stage) -> None:
    """Stated numbers of samples: whole, and at least 1."""
    true = torch.tensor([1.0, 10.0, 300.0])
    found = judge.tensor("samples", judge.ask("samples", lambda: attack.samples(true), true), true)
    if not is_stated(found):
        raise judge.refuse(f"samples states {found.tolist()} for {true.tolist()}; state whole numbers from 1 to 2^31")


def try_participation_attack(judge: Judge, attack: ParticipationAttack, stage: Stage) -> None:
    """Places in the queue: of the same shape, numbers from 0."""
    true = torch.tensor([0.0, 0.25, 0.95], dtype=torch.float64)
    found = judge.tensor("places", judge.ask("places", lambda: attack.places(true), true), true)
    if not bool((found >= 0).all()):
        raise judge.refuse(f"places gives {found.tolist()} for {true.tolist()}; give numbers from 0")


def try_row_attack(judge: Judge, attack: RowAttack, stage: Stage) -> None:
    """Rows of two rounds, with the memory of the first in the second, and of the exploration where it acts there."""
    rows, malicious = stage.rows(_COHORT), torch.tensor(_MALICIOUS)
    if isinstance(attack, UpdateAttack):
        _try_updates(judge, attack, stage, rows, malicious)
    else:
        acts = [0] if "exploration" in attack.threat_card.means else []
        acts += [1, 2] if {"update", "buffers"} & {*attack.threat_card.means} else []
        memory: Any = None
        for number in acts:
            view = _view(attack, stage, rows, malicious, number)

            def ask(view: AttackView = view, memory: Any = memory) -> Any:
                return attack.act(replace(view, generators=_draws(view, view.round), memory=memory))

            shown = (view.updates, view.weights, view.mask, view.active, view.samples, view.malicious)
            found = judge.ask(f"act in round {number}", ask, *shown)
            if not isinstance(found, tuple) or len(found) != 2:
                raise judge.refuse("act should give the rows and its memory (None for none), a tuple of two")
            judge.tensor(f"act in round {number}", found[0], view.updates)
            memory = found[1]
    _try_channels(judge, attack, malicious, stage)


def _try_updates(judge: Judge, attack: UpdateAttack, stage: Stage, rows: Tensor, malicious: Tensor) -> None:
    active = stage.layout.trained.clone()

    def ask() -> Tensor:
        draws = [generator(0, Purpose.UPDATE_ATTACK, 1, k) for k in range(_COHORT)]
        return attack.updates(rows, malicious, active, draws)

    found = judge.tensor("updates", judge.ask("updates", ask, rows, malicious, active), rows)
    if not same_bits(found[~malicious], rows[~malicious]):
        raise judge.refuse(
            "updates changes rows of honest clients; return those as they are (torch.where(malicious[:, None], …))"
        )


def _seen(attack: RowAttack, malicious: Tensor) -> Tensor:
    knowledge = attack.threat_card.knowledge
    if knowledge == "own":
        return malicious.nonzero()[0]
    return malicious.nonzero().squeeze(1) if knowledge == "colluders" else torch.arange(len(malicious))


def _draws(view: AttackView, number: int) -> list[torch.Generator]:
    return [generator(0, Purpose.UPDATE_ATTACK, number, k) for k in view.clients.tolist()]


def _view(attack: RowAttack, stage: Stage, rows: Tensor, malicious: Tensor, number: int) -> AttackView:
    """A round with as much in it as its threat card says, against a plain mean."""
    seen, knows = _seen(attack, malicious), attack.threat_card.knowledge == "defence"
    mask = torch.ones_like(stage.weights, dtype=torch.bool)
    seen_later = knows and number > 0

    def trial(sent: Tensor) -> Aggregate:
        return Aggregate(sent.mean(0), torch.full((len(sent),), 1 / len(sent)), None)

    def landscape(sent: Tensor) -> Exploration:
        each = torch.ones(len(sent))
        return Exploration(torch.arange(len(sent)), 10 * each, sent, sent.square().sum(0), each, each.bool())

    return AttackView(
        round=number,
        rounds=stage.rounds,
        clients=torch.arange(len(rows))[seen],
        samples=torch.full((len(rows),), 10.0)[seen],
        updates=rows[seen],
        malicious=malicious[seen],
        honest=~malicious[seen],
        weights=stage.weights,
        mask=mask,
        active=mask & stage.layout.trained,
        layout=stage.layout,
        participants=len(rows),
        generators=[],
        memory=None,
        tell=lambda sentence: None,
        aggregator=Mean() if knows else None,
        guidance=stage.guidance if seen_later else None,
        exploration=replace(stage.exploration, deviations=stage.exploration.deviations[:0]) if seen_later else None,
        trial=trial if seen_later else None,
        landscape=landscape if knows and number == 0 else None,
    )


def _try_channels(judge: Judge, attack: RowAttack, malicious: Tensor, stage: Stage) -> None:
    """An attack may change the other channels of its cell too."""
    seen = _seen(attack, malicious)
    flags = malicious[seen]
    for channel in stage.channels:
        own = stage.rows(_COHORT)[seen, :1].repeat(1, channel.size)
        what = f"channel (rows of {channel.name})"
        ask: Callable[[], Tensor] = _lie(attack, channel, own, flags, seen)
        lies = judge.tensor(what, judge.ask(what, ask, own, flags), own)
        if not same_bits(lies[~flags], own[~flags]):
            raise judge.refuse(f"{what} changes rows of honest clients; return those as they are")


def _lie(attack: RowAttack, channel: Channel, own: Tensor, flags: Tensor, seen: Tensor) -> Callable[[], Tensor]:
    def lie() -> Tensor:
        draws = [generator(0, Purpose.UPDATE_ATTACK, 1, k, 1) for k in seen.tolist()]
        return attack.channel(channel, own, flags, draws)

    return lie
