"""How well a backdoor works: the share of test inputs of other classes that its trigger sends to the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import BackdoorAttack
from autoflip_secure.training import evaluate


def backdoor_of(cell: Cell) -> BackdoorAttack | None:
    """The backdoor of a cell; None: it has none. A scenario has one at most."""
    return next((attack for attack in cell.protocol.attack.parts if isinstance(attack, BackdoorAttack)), None)


def triggered_test(cell: Cell, attack: BackdoorAttack) -> tuple[Shaped[Tensor, "m ..."], Shaped[Tensor, "m ..."]]:
    """Test inputs of all classes but the target: as they are, and with the whole trigger."""
    clean = cell.problem.x_test[cell.problem.y_test != attack.wanted]
    return clean, attack.triggered(clean, cell.largest)


def attack_success(cells: Sequence[Cell], vectors: Float[Tensor, "cells params"]) -> list[float | None]:
    """Attack success rate of each cell's model; cells with the same trigger and target in one stacked program.

    None: no backdoor, no test sample of another class, or a model whose loss is not finite.
    """
    found: list[float | None] = [None] * len(cells)
    groups = dict[tuple[str, str], list[int]]()
    for place, cell in enumerate(cells):
        attack = backdoor_of(cell)
        if attack is not None:
            groups.setdefault((type(attack).__qualname__, attack.model_dump_json()), []).append(place)
    for places in groups.values():
        cell = cells[places[0]]
        attack, problem = backdoor_of(cell), cell.problem
        assert attack is not None
        _, inputs = triggered_test(cell, attack)
        if len(inputs) == 0:
            continue
        wanted = torch.full((len(inputs),), attack.wanted, dtype=torch.long, device=inputs.device)
        shares, losses = evaluate(problem.module, problem.layout, vectors[places], inputs, wanted)
        for place, share, loss in zip(places, shares.tolist(), losses.tolist(), strict=True):
            found[place] = share if math.isfinite(loss) else None
    return found
