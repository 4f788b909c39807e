"""The clients' side of a round: what each one trains on, and what it sends."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import ClientJob, DataAttack, PrivacyView, TrainingSchedule, UpdateAttack
from autoflip_secure.models.masks import facts, kept
from autoflip_secure.seeds import Purpose, generator


def client_labels(cell: Cell, client: int, round_: int) -> Int[Tensor, " n"]:
    """The labels as this client sees them in this round."""
    attack = cell.protocol.attack
    lying = isinstance(attack, DataAttack) and client in cell.malicious_ids and attack.active(round_)
    known = cell.labels_seen
    if (client, lying) not in known:
        labels = cell.problem.y_train[cell.problem.clients[client]]
        if isinstance(attack, DataAttack) and lying:
            draws = generator(cell.seed, Purpose.DATA_ATTACK, client)
            labels = attack.labels(labels, cell.problem.num_classes, draws)
        known[client, lying] = labels
    return known[client, lying]


def client_jobs(
    cell: Cell, weights: Tensor, mask: Tensor, clients: Tensor, round_: int, *address: int
) -> list[ClientJob]:
    """Local training of ``clients`` from ``weights``."""
    pruned = mask if facts(mask, cell.problem.layout).masked else None
    return [
        ClientJob(
            start=weights,
            samples=cell.problem.clients[k],
            labels=client_labels(cell, k, round_),
            seed=cell.seed,
            address=(round_, k, *address),
            mask=pruned,
            private=(private := cell.private_steps(k, round_)),
            draws=cell.draws if private is not None else None,
        )
        for k in clients.tolist()
    ]


def attack_updates(
    cell: Cell, updates: Tensor, clients: Tensor, mask: Bool[Tensor, "*clients params"], round_: int
) -> Float[Tensor, "clients params"]:
    """Rows as they are sent: malicious clients change theirs, and only live coordinates that are not frozen travel.

    Args:
        mask: one for all clients, or one for each.
    """
    layout, attack, malicious = cell.problem.layout, cell.protocol.attack, cell.malicious_in(round_)[clients]
    if isinstance(attack, UpdateAttack) and bool(malicious.any()):
        draws = [generator(cell.seed, Purpose.UPDATE_ATTACK, round_, k) for k in clients.tolist()]
        active = mask & layout.trained.to(mask.device) if mask.dim() == 2 else facts(mask, layout).live
        updates = _attacked(attack, updates, malicious.to(updates.device), active, draws)
    if mask.dim() == 2:
        return torch.where(mask & layout.sent.to(mask.device), updates, 0.0)
    return updates if facts(mask, layout).whole else kept(updates, facts(mask, layout).travelling)


def _attacked(
    attack: UpdateAttack, updates: Tensor, malicious: Tensor, active: Tensor, draws: list[torch.Generator]
) -> Tensor:
    """All rows after the attack; where every client has its own active coordinates, each malicious one is asked alone.

    An attack may read the generators, so each question has them as they were.
    """
    if active.dim() == 1:
        return attack.updates(updates, malicious, active, draws)
    states, result = [draw.get_state() for draw in draws], updates.clone()
    for row in malicious.nonzero().squeeze(1).tolist():
        for draw, state in zip(draws, states, strict=True):
            draw.set_state(state)
        result[row] = attack.updates(updates, malicious, active[row], draws)[row]
    return result


def privacy_view(cell: Cell, clients: Tensor, active: Tensor, round_: int, *channel: int) -> PrivacyView:
    """What the client-level mechanism works on.

    Private draws at (DP_NOISE, round, client, *channel), (SERVER_NOISE, round, *channel); no channel: the update's.
    """
    return PrivacyView(
        round=round_,
        honest=~cell.malicious_in(round_)[clients].to(active.device),
        active=active,
        expected=float(cell.protocol.cohort),
        noise_multiplier=cell.noise_multipliers[0],
        generators=[cell.draws.generator(Purpose.DP_NOISE, round_, k, *channel) for k in clients.tolist()],
        server=cell.draws.generator(Purpose.SERVER_NOISE, round_, *channel),
    )


LARGEST_NORM: Final = 1e18
"""Of a row that can be computed with in single precision, products and sums of a few hundred squares included."""
UNUSABLE: Final = f"not finite, or longer than {LARGEST_NORM:g}"


def usable_rows(updates: Float[Tensor, "clients params"]) -> Bool[Tensor, " clients"]:
    """Rows that can be computed with: no NaN, no infinity, and a norm of at most :data:`LARGEST_NORM`."""
    norms: Tensor = torch.linalg.vector_norm(updates, dim=1)
    return norms <= LARGEST_NORM


def chosen(rows: Shaped[Tensor, "clients ..."], usable: Bool[Tensor, " clients"]) -> Shaped[Tensor, "usable ..."]:
    """``rows[usable]``: ``rows`` themselves, not a copy, where all are."""
    return rows if bool(usable.all()) else rows[usable]


def weight_decay_shrinkage(schedule: TrainingSchedule, samples: Float[Tensor, " clients"]) -> Float[Tensor, " clients"]:
    """Share of the weights that decay alone takes off in local training (0 for Adam, where it has no closed form)."""
    if schedule.optimizer != "sgd" or schedule.weight_decay == 0:
        return torch.zeros_like(samples)
    steps = schedule.epochs * (samples / schedule.batch_size).ceil()
    return 1 - (1 - schedule.lr * schedule.weight_decay / (1 - schedule.momentum)) ** steps
