"""Personal evaluation: each honest client's own model on rows of its own that nobody trains on.

A client's model is the global one under the mask that the client holds; where masks are trained, its own. What is
stated is the mean over clients, each counting alike, the worst of them, and the standard deviation between them.
Malicious clients are left out, in all rounds: how well an attacker serves itself is no goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.client_states import ClientStates
from autoflip_secure.federation.own_models import Tuned, own_model
from autoflip_secure.federation.personal_record import PersonalTest
from autoflip_secure.federation.state import ServerState
from autoflip_secure.records.run import DataRecord
from autoflip_secure.training.own_evaluation import evaluate_own


def honest_clients(cell: Cell) -> list[int]:
    """Whom personal evaluation is about."""
    return (~cell.malicious_clients).nonzero().squeeze(1).tolist()


def personal_tests(
    cells: Sequence[Cell],
    states: Sequence[ServerState],
    kept: Sequence[ClientStates | None],
    due: Sequence[bool],
    tuned: Tuned | None = None,
) -> list[PersonalTest | None]:
    """Of the cells that ask for it and are due; all clients of all of them in one program.

    ``tuned``: models that are tested instead, after the last round.
    """
    asking = [n for n, cell in enumerate(cells) if due[n] and cell.protocol.evaluation == "personal"]
    asked = [(n, client) for n in asking for client in honest_clients(cells[n])]
    if not asked:
        return [None] * len(cells)

    def models(places: Sequence[int]) -> Tensor:
        rows = []
        for number, client in (asked[place] for place in places):
            state, own, last = states[number], kept[number], (tuned or {}).get((number, client))
            if last is not None:
                rows.append(last)
            elif own is None or not own.own_masks:
                rows.append(torch.where(state.mask, state.model, 0.0))
            else:
                rows.append(own_model(cells[number], state, own, client)[0])
        return torch.stack(rows)

    problem = cells[0].problem
    samples = [cells[n].problem.held_out[client] for n, client in asked]
    labels = [cells[n].problem.y_train[rows] for (n, _), rows in zip(asked, samples, strict=True)]
    accuracy, loss = evaluate_own(problem.module, problem.layout, models, problem.x_train, samples, labels)
    found: list[PersonalTest | None] = [None] * len(cells)
    first = 0
    for number in asking:
        clients = honest_clients(cells[number])
        part = slice(first, first := first + len(clients))
        found[number] = PersonalTest(clients, accuracy[part], loss[part])
    return found


def tested_on(data: DataRecord, cell: Cell) -> DataRecord:
    """``data`` as tests of this cell see them: with personal evaluation the largest class is that of each client.

    Who always answers the most frequent of its own held-out labels is right so often, mean over honest clients.
    """
    if cell.protocol.evaluation == "global":
        return data
    labels = [cell.problem.y_train[cell.problem.held_out[k]] for k in honest_clients(cell)]
    return data.model_copy(update={"largest_class": fmean(float(y.bincount().max()) / len(y) for y in labels)})
