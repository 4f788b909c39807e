"""What only the model tells of trained masks: whether there is a tensor to be masked."""

from __future__ import annotations

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import trained_mask
from autoflip_secure.interfaces.trained_mask import coordinates
from autoflip_secure.scenarios.config.messages import kind_of


def refuse_unscored(cell: Cell) -> None:
    """Refuse a cell whose clients would train the mask of nothing.

    Raises:
        InputError: no tensor of the model is scored.
    """
    pruner = trained_mask(cell.protocol.pruner)
    if pruner is not None and not bool(coordinates(pruner, cell.problem.layout, "scored").any()):
        raise InputError(
            f"algorithm.pruner.kind = {kind_of(type(pruner))}: no tensor of the model would have a mask, as it has no "
            "trained weights but those of its output layer; use a model with a hidden layer, or another pruner"
        )
