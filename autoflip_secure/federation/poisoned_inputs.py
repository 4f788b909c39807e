"""The inputs of malicious clients that change them: rows behind those of the training set, for the time of a round.

Trainers read one tensor of inputs and jobs name rows of it. A block in which somebody changes inputs has a copy of the
training set with room behind it, into which the changed samples of a round's participants are written; their jobs name
these rows instead. Everything that trains (stacked, one at a time, privately, gradients for channels) is as ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.outside_attacks import inputs_of
from autoflip_secure.interfaces import ClientJob, DataAttack, InputAttack, InputView
from autoflip_secure.seeds import Purpose, generator

Plan = tuple[Int[Tensor, " cohort"], list[ClientJob]]
"""Who takes part, and what they train."""


class PoisonedInputs:
    """What the clients of a block train on. Without an attack on inputs it is the training set itself."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.x: Shaped[Tensor, "rows ..."] = cells[0].problem.x_train  # the same in all cells of a block
        self._clean = len(self.x)
        self._known = dict[tuple[object, ...], Tensor]()  # rows of this round by what made them
        self._end = self._clean
        parts = (attack for cell in cells for attack in cell.protocol.attack.parts)
        self._poisoned = any(isinstance(attack, InputAttack) for attack in parts)

    def of(
        self, cells: Sequence[Cell], rounds: Sequence[int], clients: Sequence[int], samples: Sequence[Tensor]
    ) -> tuple[Shaped[Tensor, "rows ..."], list[Int[Tensor, " _"]]]:
        """Inputs, and rows of them for each of ``samples``, which are a client's rows of the training set in a round
        of a cell. They hold until the next call."""
        if not self._poisoned:
            return self.x, list(samples)
        self._known.clear()
        self._end = self._clean
        found = [self._rows(*one) for one in zip(cells, rounds, clients, samples, strict=True)]
        return self.x, found

    def of_round(
        self, cells: Sequence[Cell], round_: int, plans: Sequence[Plan]
    ) -> tuple[Shaped[Tensor, "rows ..."], list[Plan]]:
        """Inputs, and the plans of a round (0 = exploration) with jobs that name rows of them."""
        if not self._poisoned:
            return self.x, list(plans)
        flat = [
            (cell, client, job)
            for cell, (clients, jobs) in zip(cells, plans, strict=True)
            for client, job in zip(clients.tolist(), jobs, strict=True)
        ]
        x, rows = self.of(
            [cell for cell, *_ in flat], [round_] * len(flat), [client for _, client, _ in flat],
            [job.samples for *_, job in flat],
        )  # fmt: skip
        each = iter(rows)
        return x, [(clients, [replace(job, samples=next(each)) for job in jobs]) for clients, jobs in plans]

    def _rows(self, cell: Cell, round_: int, client: int, samples: Tensor) -> Tensor:
        """Rows of the client's samples, those that an attack changes behind the training set."""
        lies = [
            (number, attack, int(malicious[:client].sum()))
            for number, attack, malicious in cell.attacking(DataAttack, round_)  # type: ignore[type-abstract]
            if isinstance(attack, InputAttack) and bool(malicious[client])
        ]
        if not lies:
            return samples
        said = tuple((number, attack.model_dump_json(), member) for number, attack, member in lies)
        own, labels = self.x[samples], cell.problem.y_train[samples]
        drawn = tuple(one.cpu().numpy().tobytes() for one in (samples, labels))
        key = (cell.seed, client, said, drawn, cell.problem.num_classes)
        if key not in self._known:  # cells that differ in algorithm have the same samples, and explore once
            inputs = own
            for number, attack, member in lies:
                view = InputView(
                    inputs=inputs,
                    labels=labels,
                    num_classes=cell.problem.num_classes,
                    largest=cell.largest,
                    member=member,
                    generator=generator(cell.seed, Purpose.DATA_ATTACK, client, *([number] if number else [])),
                )
                inputs = inputs_of(attack, view, round_)
            changed = (inputs != own).flatten(1).any(1)
            self._known[key] = samples.clone()
            self._known[key][changed] = self._behind(inputs[changed])
        return self._known[key]

    def _behind(self, inputs: Tensor) -> Tensor:
        """Rows at which these inputs are written."""
        end = self._end + len(inputs)
        if end > len(self.x):
            grown = self.x.new_empty(end + end // 8, *self.x.shape[1:])
            grown[: self._end] = self.x[: self._end]
            self.x = grown
        self.x[self._end : end] = inputs
        places = torch.arange(self._end, end, device=self.x.device)
        self._end = end
        return places
