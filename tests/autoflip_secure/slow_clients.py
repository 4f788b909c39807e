"""Federations by plain loops: one client after the other, SGD written out, nothing of trainers and server."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from digits_cells import PROBLEM
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.seeds import Purpose, generator

HELD = replace(
    PROBLEM,
    clients=tuple(rows[8 + k :] for k, rows in enumerate(PROBLEM.clients)),  # different numbers of samples
    held_out=tuple(rows[: 8 + k] for k, rows in enumerate(PROBLEM.clients)),
)
LAYOUT = PROBLEM.layout
HIDDEN = [segment for segment in LAYOUT if segment.hidden]

Moves = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(weights, mask, dense gradient of the last mini-batch) -> mask."""


class SlowClient:
    """Local training of one client, epoch by epoch."""

    def __init__(self, one: Cell, net: torch.nn.Module | None = None) -> None:
        self.cell, self.net = one, copy.deepcopy(net or PROBLEM.module)

    def gradient(self, weights: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        LAYOUT.load(self.net, weights)
        self.net.zero_grad()
        F.cross_entropy(self.net(HELD.x_train[rows]), labels).backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.reshape(-1) for p in self.net.parameters() if p.grad is not None])

    def epochs(
        self, weights: Tensor, mask: Tensor, round_: int, client: int, moves: dict[int, Moves] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights and mask after every epoch; ``moves``: epoch -> how the mask moves then."""
        schedule, rows = self.cell.protocol.training, HELD.clients[client]
        labels, draws = HELD.y_train[rows], generator(self.cell.seed, Purpose.BATCHES, round_, client)
        w = torch.where(mask, weights, 0.0)
        for epoch in range(1, schedule.epochs + 1):
            for batch in torch.randperm(len(rows), generator=draws).split(schedule.batch_size):
                dense = self.gradient(w, rows[batch], labels[batch])
                w = w - schedule.lr * dense * mask
            if moves and epoch in moves:
                mask = moves[epoch](w, mask, dense)
                w = torch.where(mask, w, 0.0)
            yield w, mask

    def accuracy(self, weights: Tensor, rows: Tensor) -> float:
        LAYOUT.load(self.net, weights)
        with torch.no_grad():
            right = [int(self.net(HELD.x_train[row][None])[0].argmax()) == int(HELD.y_train[row]) for row in rows]
        return sum(right) / len(right)


def coverage_mean(weights: Tensor, sent: dict[int, tuple[Tensor, Tensor]], counts: dict[int, float]) -> Tensor:
    """Coordinate by coordinate over those who hold it; what nobody holds stays."""
    mean = weights.clone()
    for j in range(len(weights)):
        holders = [k for k, (_, mask) in sent.items() if mask[j]]
        if holders:
            total = sum(counts[k] for k in holders)
            mean[j] = sum(counts[k] * float(sent[k][0][j]) for k in holders) / total
    return mean


def density(mask: Tensor) -> float:
    return float(torch.cat([mask[s.start : s.stop] for s in HIDDEN]).double().mean())


def prunable() -> int:
    return sum(s.stop - s.start for s in HIDDEN)
