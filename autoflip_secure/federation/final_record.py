"""What the record says of a run's end: weight tensors, and guidance beside what it was."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from autoflip_secure.algorithm.guidance import normalise
from autoflip_secure.federation.backdoor_test import backdoor_of
from autoflip_secure.federation.own_costs import FinalMasks
from autoflip_secure.federation.trigger_survival import trigger_survival
from autoflip_secure.interfaces import Guidance
from autoflip_secure.records.backdoor import BackdoorRecord
from autoflip_secure.records.run import GuidanceRecord, LayerRecord

if TYPE_CHECKING:
    from autoflip_secure.federation.cell import Cell, Problem

_BINS = 50
_SAMPLE = 600


@lru_cache(maxsize=16)
def _sampled(count: int) -> np.ndarray:
    """Places of the weights that the record shows one by one, of so many."""
    return np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])


def layer_records(problem: Problem, mask: Tensor, own: FinalMasks | None) -> list[LayerRecord]:
    """Every weight tensor as the run leaves it; ``own``: where clients have own masks."""
    if own is not None:
        live, units = own.live_weights, own.units
    else:
        live = {s.name: int(mask[s.slice].sum()) for s in problem.layout if s.kind == "weight"}
        units = {} if problem.units is None else problem.units.of_weights(mask, problem.layout)
    return [
        LayerRecord(
            name=segment.name,
            shape=list(segment.shape),
            hidden=segment.hidden,
            weights=segment.stop - segment.start,
            live_weights=live[segment.name],
            units=units[segment.name].units if segment.name in units else None,
            live_units=units[segment.name].live if segment.name in units else None,
            live_inputs=units[segment.name].live_inputs if segment.name in units else None,
        )
        for segment in problem.layout
        if segment.kind == "weight"
    ]


def backdoor_record(cell: Cell, mask: Tensor, *, whole: bool) -> BackdoorRecord | None:
    """Of the cell's backdoor, if it has one; ``whole``: clients have masks of their own, and this one says nothing."""
    attack, problem = backdoor_of(cell), cell.problem
    if attack is None:
        return None
    return BackdoorRecord(
        target=attack.wanted,
        samples=int((problem.y_test != attack.wanted).sum()),
        survival=None if whole else trigger_survival(cell, attack, mask),
    )


def guidance_record(
    cell: Cell, initial: Tensor | None, guidance: Guidance | None, mask: Tensor
) -> GuidanceRecord | None:
    """G before round 1, given as ``initial``, beside G as the run leaves it; None: there is none."""
    if guidance is None or initial is None:
        return None
    layout, kind = cell.problem.layout, cell.protocol.guidance.normalisation
    pruner = cell.protocol.pruner
    hidden = layout.prunable.to(mask.device)
    first = initial[hidden].cpu().numpy()
    last = normalise(guidance.energy, layout, kind)[hidden].cpu().numpy()
    live = mask[hidden].cpu().numpy()
    edges = np.linspace(0, 1, _BINS + 1)
    chosen = _sampled(len(first))
    return GuidanceRecord(
        normalisation=kind,
        threshold=None if pruner.foreign else getattr(pruner, "threshold", None),
        bin_edges=[round(float(edge), 4) for edge in edges],
        initial_counts=np.histogram(first, edges)[0].tolist(),
        final_counts=np.histogram(last, edges)[0].tolist(),
        sample=[(round(float(first[j]), 4), round(float(last[j]), 4), bool(live[j])) for j in chosen],
    )
