"""What the cells of a block must share: they are one program, which is read off the first of them.

What is compared is said by those who know it, :meth:`.Protocol.block_key` and :meth:`.Problem.block_key`; a sweep is
cut into blocks by the same keys (:mod:`autoflip_secure.scenarios.config.plan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.records.configs import differences
from autoflip_secure.terminal.visible import short


def refuse_mixed(cells: Sequence[Cell]) -> None:
    """Refuse cells that are no block.

    Raises:
        InputError: there is none, or two differ in what a block shares; names it, and both values.
    """
    if not cells:
        raise InputError("a block of no cells: give at least one cell")
    first = cells[0]
    problem, protocol = first.problem.block_key(), first.protocol.block_key()
    for cell in cells[1:]:
        other = cell.problem.block_key()
        found = [(key, mine, other[key]) for key, mine in problem.items() if not _same(mine, other[key])]
        found += differences(protocol, cell.protocol.block_key())
        if found:
            key, one, two = found[0]
            raise InputError(
                f"{key} = {_said(one)} in cell {short(first.key)} and {_said(two)} in cell {short(cell.key)}: cells of "
                "a block are trained and evaluated as one program, so it is the same in all of them; run these apart"
            )


def _same(one: Any, other: Any) -> bool:
    """Tensors and modules are the same objects, for only these are sure to stay equal; all else is equal."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or (not isinstance(one, Tensor | nn.Module) and bool(one == other))


def _said(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of its own"
    return f"a {type(value).__name__} of its own" if isinstance(value, nn.Module) else short(repr(value), 80)
