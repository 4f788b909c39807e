r"""Mini-batches of one sample, on which BatchNorm cannot train: found before anything is trained.

Client :math:`k` with :math:`n_k` samples is left with one when :math:`n_k \equiv 1 \pmod B`. Who takes part is drawn by
address, so the clients that will train are known, and nobody is refused for a client that never does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.scenarios.models.trial import copied, quiet
from autoflip_secure.seeds import Purpose
from autoflip_secure.terminal.counting import count_of


def needs_company(module: nn.Module, rows: Tensor) -> str | None:
    """Why ``module`` cannot train on one sample, or None when it can; found out by trial.

    BatchNorm refuses; statistics over the batch that are made by hand give what is not finite.

    Args:
        module: left as it is.
        rows: one or two different rows of the data.
    """
    net = copied(module).cpu().train()
    with drawing_at(0, Purpose.FORWARD), torch.no_grad(), quiet():
        try:
            alone, company = net(rows[:1].cpu()), net(rows[:2].cpu().expand(2, *rows.shape[1:]))
        except ValueError as error:
            return "BatchNorm cannot train on one sample" if "more than 1 value per channel" in str(error) else None
        except Exception:  # whatever fails for another reason is told by the trial of the model
            return None
    if not isinstance(alone, Tensor) or not isinstance(company, Tensor):
        return None
    if bool(company.isfinite().all()) and not bool(alone.isfinite().all()):
        return f"{type(module).__name__} gives NaN or infinity for a batch of one sample"
    return None


def refuse_lone_samples(cell: Cell, reason: str) -> None:
    """Refuse a cell in which somebody who trains gets a batch of one sample; ``reason``: see :func:`needs_company`.

    Raises:
        InputError: names the client, its samples, and a batch size at which nobody is left alone, if there is one.
    """
    sizes = {k: len(cell.problem.clients[k]) for k in sorted(_trained(cell))}
    batch = cell.protocol.training.batch_size
    lone = next((k for k, size in sizes.items() if size % batch == 1 or size == 1), None)
    if lone is None:
        _refuse_lone_root(cell, reason)
        return
    fits = next((b for b in range(batch + 1, max(sizes.values()) + 1) if all(n % b != 1 for n in sizes.values())), None)
    way_out = f"training.batch_size = {fits} leaves nobody alone here" if fits else "no batch size helps here"
    raise InputError(
        f"{reason}, and client {lone} with {count_of(sizes[lone], 'sample')} gets such a batch at "
        f"batch_size = {batch}; {way_out}; or choose another partition, or a model with GroupNorm"
    )


def _refuse_lone_root(cell: Cell, reason: str) -> None:
    """The same of the server's root set."""
    size, batch = 0 if cell.problem.root is None else len(cell.problem.root), cell.protocol.training.batch_size
    if size % batch == 1 or size == 1:
        raise InputError(
            f"algorithm.aggregator.root_samples = {size}: {reason}, and the server's root set leaves a batch of one "
            f"sample at batch_size = {batch}; root_samples = {size + 1} does not"
        )


def _trained(cell: Cell) -> set[int]:
    """Who trains in some round; where cohorts are secret, anybody may."""
    if cell.protocol.client_level is not None:
        return set(range(len(cell.problem.clients)))
    found: set[int] = set()
    for round_ in range(1, cell.protocol.rounds + 1):
        found.update(cell.cohort(round_).tolist())
    found.update(cell.explorers.tolist())
    return found
