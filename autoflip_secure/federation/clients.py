"""The clients' side of a round: what each one trains on, and what it sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.outside_attacks import labels_of, samples_of
from autoflip_secure.interfaces import ClientJob, DataAttack, PrivacyView, SampleAttack, TrainingSchedule
from autoflip_secure.models.masks import facts
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training.evaluation import class_outputs


def client_labels(
    cell: Cell, client: int, round_: int, weights: Float[Tensor, " params"] | None = None
) -> Int[Tensor, " n"]:
    """The labels as this client sees them in this round. Draws at (DATA_ATTACK, client, *number of a later attack).

    Args:
        cell: the cell.
        client: whose.
        round_: 0 = exploration.
        weights: the global model, which labels may depend on; None: the initial one.
    """
    lies = [
        (number, attack)
        for number, attack, malicious in cell.attacking(DataAttack, round_)  # type: ignore[type-abstract]
        if bool(malicious[client])
    ]
    weights = cell.problem.initial if weights is None else weights
    if any(attack.follows_model for _, attack in lies):
        return _false_labels(cell, client, lies, weights, round_)
    key = client, tuple(number for number, _ in lies)
    if key not in cell.labels_seen:
        cell.labels_seen[key] = _false_labels(cell, client, lies, weights, round_)
    return cell.labels_seen[key]


def _false_labels(
    cell: Cell, client: int, lies: Sequence[tuple[int, DataAttack]], weights: Tensor, round_: int
) -> Tensor:
    problem, samples = cell.problem, cell.problem.clients[client]
    labels = problem.y_train[samples]
    for number, attack in lies:
        draws = generator(cell.seed, Purpose.DATA_ATTACK, client, *([number] if number else []))
        if attack.follows_model:
            outputs = class_outputs(problem.module, problem.layout, weights[None], problem.x_train[samples])[0]
            asked = partial(attack.labels_under, labels, problem.num_classes, draws, outputs)
        else:
            asked = partial(attack.labels, labels, problem.num_classes, draws)
        labels = labels_of(attack, asked, labels, problem.num_classes, round_)
    return labels


def stated_samples(cell: Cell, clients: Int[Tensor, " clients"], round_: int) -> Float[Tensor, " clients"]:
    """n_k as each client states it in this round, on the device of ``clients``."""
    samples = cell.owned(clients)
    for _, attack, malicious in cell.attacking(SampleAttack, round_):  # type: ignore[type-abstract]
        lying = malicious[clients.cpu()].to(samples.device)
        samples[lying] = samples_of(attack, samples[lying], round_).to(samples)
    return samples


def client_jobs(
    cell: Cell, weights: Tensor, mask: Tensor, clients: Tensor, round_: int, *address: int, model: Tensor | None = None
) -> list[ClientJob]:
    """Local training of ``clients`` from ``weights``; ``model``: what these stand for, where that is another."""
    pruned = mask if facts(mask, cell.problem.layout).masked else None
    return [
        ClientJob(
            start=weights,
            samples=cell.problem.clients[k],
            labels=client_labels(cell, k, round_, weights if model is None else model),
            seed=cell.seed,
            address=(round_, k, *address),
            mask=pruned,
            private=(private := cell.private_steps(k, round_)),
            draws=cell.draws if private is not None else None,
        )
        for k in clients.tolist()
    ]


def privacy_view(
    cell: Cell, clients: Tensor, active: Tensor, round_: int, *channel: int, weights: Tensor | None = None
) -> PrivacyView:
    """What the client-level mechanism works on; ``weights``: the global model that clients began with.

    Private draws at (DP_NOISE, round, client, *channel), (SERVER_NOISE, round, *channel); no channel: the update's.
    In round 0 all clients are expected to send a channel.
    """
    expected = len(cell.problem.clients) if round_ == 0 and channel else cell.protocol.cohort
    return PrivacyView(
        round=round_,
        honest=~cell.malicious_in(round_)[clients].to(active.device),
        active=active,
        expected=float(expected),
        noise_multiplier=cell.noise_multipliers[0],
        generators=[cell.draws.generator(Purpose.DP_NOISE, round_, k, *channel) for k in clients.tolist()],
        server=cell.draws.generator(Purpose.SERVER_NOISE, round_, *channel),
        weights=weights,
        plan=cell.noise_plan,
    )


LARGEST_NORM: Final = 1e18
"""Of a row that can be computed with in single precision, products and sums of a few hundred squares included."""
UNUSABLE: Final = f"not finite, or longer than {LARGEST_NORM:g}"


def usable_rows(updates: Float[Tensor, "clients params"]) -> Bool[Tensor, " clients"]:
    """Rows that can be computed with: no NaN, no infinity, and a norm of at most :data:`LARGEST_NORM`."""
    norms: Tensor = torch.linalg.vector_norm(updates, dim=1)
    return norms <= LARGEST_NORM


@dataclass(frozen=True)
class Usable:
    """Whose rows can be computed with, as a tensor and as plain flags."""

    flags: Bool[Tensor, " clients"]
    plain: Sequence[bool]

    @classmethod
    def of(cls, *flags: Bool[Tensor, " _"]) -> list[Usable]:
        """Of several rounds."""
        return list(map(cls, flags, listed(flags)))

    @cached_property
    def everyone(self) -> bool:
        """All are."""
        return all(self.plain)

    @cached_property
    def anybody(self) -> bool:
        """One is."""
        return any(self.plain)

    def chosen(self, rows: Shaped[Tensor, "clients ..."]) -> Shaped[Tensor, "usable ..."]:
        """Theirs of ``rows``: ``rows`` themselves, not a copy, where all are."""
        return rows if self.everyone else rows[self.flags.to(rows.device)]

    def others(self, clients: Sequence[int]) -> list[int]:
        """Whose rows cannot be computed with."""
        return [client for client, able in zip(clients, self.plain, strict=True) if not able]


def listed(vectors: Sequence[Shaped[Tensor, " _"]]) -> list[list[Any]]:
    """The numbers of several vectors as lists, fetched at once: on a device every question is a wait."""
    flat = torch.cat(list(vectors)).tolist() if vectors else []
    ends = list(accumulate(len(one) for one in vectors))
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def weight_decay_shrinkage(schedule: TrainingSchedule, samples: Float[Tensor, " clients"]) -> Float[Tensor, " clients"]:
    """Share of the weights that decay alone takes off in local training (0 for Adam, where it has no closed form)."""
    if schedule.optimizer != "sgd" or schedule.weight_decay == 0:
        return torch.zeros_like(samples)
    steps = schedule.epochs * (samples / schedule.batch_size).ceil()
    return 1 - (1 - schedule.lr * schedule.weight_decay / (1 - schedule.momentum)) ** steps
