"""What only the model tells of trained masks: whether there is a tensor to be masked."""

from __future__ import annotations

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import threshold_pairs, trained_mask, trained_thresholds
from autoflip_secure.interfaces.trained_mask import coordinates
from autoflip_secure.scenarios.config.messages import kind_of


def refuse_unscored(cell: Cell) -> None:
    """Refuse a cell whose clients would train the mask of nothing.

    Raises:
        InputError: no tensor of the model is scored, or no layer has units with thresholds.
    """
    pruner, layout = trained_mask(cell.protocol.pruner), cell.problem.layout
    if (units := trained_thresholds(pruner)) is not None:
        if not threshold_pairs(tuple(layout)):
            raise InputError(
                f"algorithm.pruner.kind = {kind_of(type(units))}: no layer of the model has a weight and a bias, and "
                "thresholds are kept at the places of biases; use a model with biases, as mlp or cnn, or another pruner"
            )
        return
    if pruner is not None and not bool(coordinates(pruner, layout, "scored").any()):
        raise InputError(
            f"algorithm.pruner.kind = {kind_of(type(pruner))}: no tensor of the model would have a mask, as it has no "
            "trained weights but those of its output layer; use a model with a hidden layer, or another pruner"
        )
