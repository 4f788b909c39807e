"""What tests of masks that the server moves look at: what was sent, the states around each round, gradients by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from digits_cells import PROBLEM, TRAIN, X
from torch import Tensor, nn

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_labels
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import choose_trainer

LAYOUT = PROBLEM.layout
HIDDEN = int(LAYOUT.prunable.sum())


class Seen(Watcher):
    """By round: the states before and after, the participants, their updates, and what they sent besides."""

    def __init__(self) -> None:
        self.before: dict[int, ServerState] = {}
        self.after: dict[int, ServerState] = {}
        self.clients: dict[int, list[int]] = {}
        self.updates: dict[int, Tensor] = {}
        self.rows: dict[int, dict[str, Tensor]] = {}

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        number = after.round
        self.before[number], self.after[number] = before, after
        self.clients[number], self.updates[number] = clients.tolist(), sent.clone()

    def channels(self, cell: Cell, before: ServerState, clients: Tensor, sent: Mapping[str, Tensor]) -> None:
        self.rows[before.round + 1] = {name: rows.clone() for name, rows in sent.items()}


def watched(one: Cell, kind: Literal["auto", "sequential"] = "auto") -> tuple[RunRecord, Seen]:
    seen = Seen()
    (record,) = run_cells([one], choose_trainer(PROBLEM.module, LAYOUT, X[:1], kind), watch=seen)
    return record, seen


def gradient(cell: Cell, weights: Tensor, client: int, round_: int) -> Tensor:
    """Of the client's mean loss at ``weights``, by plain autograd, at masked coordinates too."""
    module = PROBLEM.module
    LAYOUT.load(module, weights)
    module.zero_grad()
    rows = cell.problem.clients[client]
    nn.functional.cross_entropy(module(X[TRAIN][rows]), client_labels(cell, client, round_)).backward()
    return LAYOUT.flatten({name: p.grad for name, p in module.named_parameters() if p.grad is not None})


def shares(cell: Cell, clients: list[int]) -> Tensor:
    """p_k."""
    sizes = torch.tensor([float(len(cell.problem.clients[k])) for k in clients])
    return sizes / sizes.sum()


def counts(mask: Tensor) -> list[int]:
    return [int(mask[segment.slice].sum()) for segment in LAYOUT.hidden]
