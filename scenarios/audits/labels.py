"""Label inference from the exploration: plain deviations, those that are sent, and their sum alone.

Of algorithms whose local rule is made of squared deviations (FedLEx, PPFLex), from these too: what the authors share.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from autoflip_secure.attacks.inference.label_inference import class_scores, class_scores_of_squares
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.interfaces import NoPrivacy
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.records.audit import LabelInference
from autoflip_secure.records.roc import area_under_curve
from autoflip_secure.scenarios.audits.metrics import mean_with_interval
from autoflip_secure.scenarios.audits.view import Views, in_the_open
from autoflip_secure.training import Trainer

Look = Literal["plain", "squared", "as sent", "securely summed"]


def label_inference(cell: Cell, trainer: Trainer, views: Views) -> list[LabelInference]:
    """How well the classes of every honest explorer are guessed; empty where there is nothing to guess."""
    problem = cell.problem
    explorers, sent = views.explored.get(cell.key, (torch.zeros(0, dtype=torch.long), torch.zeros(0)))
    honest = ~cell.malicious_clients[explorers.cpu()]
    owned = torch.stack(
        [torch.bincount(problem.y_train[rows].cpu(), minlength=problem.num_classes) > 0 for rows in problem.clients]
    )[explorers.cpu()][honest]
    readable = any(segment.output and segment.trained for segment in problem.layout)
    if len(owned) == 0 or bool(owned.all()) or not readable:
        return []
    looks: list[tuple[Look, Tensor]] = [("plain", sent)]
    if cell.protocol.mechanism is not None:
        open_, seen = in_the_open(cell), Views()
        bare = open_.protocol.model_copy(update={"privacy": NoPrivacy(), "rounds": 1})
        watch_cells([replace(open_, protocol=bare)], trainer, seen)
        looks = [("plain", seen.explored[cell.key][1])]
        if cell.protocol.secure_sum is None:
            looks.append(("as sent", sent))
    if isinstance(cell.protocol.rule, FedLEx):
        looks.insert(1, ("squared", looks[0][1].square()))
    looks.append(("securely summed", sent.sum(0, keepdim=True).expand(len(sent), -1)))
    return [_guessed(cell, look, rows.cpu()[honest], owned) for look, rows in looks]


def _guessed(cell: Cell, look: Look, rows: Tensor, owned: Tensor) -> LabelInference:
    scores = (class_scores_of_squares if look == "squared" else class_scores)(rows, cell.problem.layout)
    right = []
    for row, mine in zip(scores, owned, strict=True):
        chosen = row.argsort(descending=True)[: int(mine.sum())]
        right.append(float(mine[chosen].float().mean()))
    return LabelInference(
        view=look,
        clients=len(rows),
        accuracy=mean_with_interval(right),
        chance=float(owned.float().mean(1).mean()),
        auc=area_under_curve(owned.flatten().numpy(), scores.flatten().numpy()),
    )
