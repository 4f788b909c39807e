"""Rules under the names of ``conformance/*.json``: ours, and byzfl's with what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import byzfl
import numpy as np
import torch
from shared_releases import RELEASES
from torch import Tensor, nn

from autoflip_secure.algorithm.client_memory import typical
from autoflip_secure.defenses.aggregators.caf import CAF
from autoflip_secure.defenses.aggregators.centered_clipping import CenteredClipping
from autoflip_secure.defenses.aggregators.dnc import DnC
from autoflip_secure.defenses.aggregators.flame import FLAME
from autoflip_secure.defenses.aggregators.fltrust import FLTrust
from autoflip_secure.defenses.aggregators.foolsgold import FoolsGold
from autoflip_secure.defenses.aggregators.geometric_median import GeometricMedian
from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum
from autoflip_secure.defenses.aggregators.mda import MDA
from autoflip_secure.defenses.aggregators.meamed import MeaMed
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.defenses.aggregators.norm_clip import NormClip
from autoflip_secure.defenses.aggregators.smea import SMEA
from autoflip_secure.defenses.pre_aggregators.arc import ARC
from autoflip_secure.defenses.pre_aggregators.bucketing import Bucketing
from autoflip_secure.defenses.pre_aggregators.clip import Clip
from autoflip_secure.defenses.pre_aggregators.nnm import NNM
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.interfaces import Aggregator, PreAggregator, PrivacyView, RoundView, RowsView
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import numpy_generator

sys.path.insert(0, str(Path(__file__).parents[2] / "conformance"))

Rows = list[list[float]]
Rule = Callable[..., Any]


def layout(width: int) -> Layout:
    """Of a model with so many parameters."""
    return Layout.of(nn.Linear(width - 1, 1))


def view(updates: Tensor, samples: Tensor | None = None, of: Layout | None = None) -> RoundView:
    """A round in which nothing but rows matters; the server's root set says what the rows have in common."""
    n, width = updates.shape
    return RoundView(
        round=1, clients=torch.arange(n), samples=torch.ones(n) if samples is None else samples, updates=updates,
        weights=torch.zeros(width), mask=torch.ones(width, dtype=torch.bool), guidance=None,
        layout=of or layout(width), shrinkage=torch.zeros(n),
        generator=lambda *address: torch.Generator().manual_seed(sum(address)), root=torch.full((width,), 0.5),
    )  # fmt: skip


def step(aggregator: Aggregator, updates: Tensor, samples: Tensor | None = None, of: Layout | None = None) -> Tensor:
    """The first step."""
    seen = view(updates, samples, of)
    return aggregator.aggregate(aggregator.start(seen.layout, seen.weights, len(updates), None), seen).delta


def mixed(pre_aggregator: PreAggregator, updates: Tensor, malicious: int, seed: int = 0) -> Tensor:
    """The rows that come of rows."""
    return pre_aggregator.mix(RowsView(updates, updates, malicious, torch.Generator().manual_seed(seed))).rows


def _assuming(make: Callable[..., Aggregator]) -> Rule:
    return lambda rows, f, **options: step(make(bad_share=f / len(rows), **options), torch.tensor(rows))


def _clipping(rows: Rows, centre: list[float], radius: float, steps: int) -> Tensor:
    seen = view(torch.tensor(rows))
    return CenteredClipping(radius=radius, unit="absolute", steps=steps).aggregate(torch.tensor(centre), seen).delta


def _norm_clip(rows: Rows, bound: float, samples: list[float]) -> Tensor:
    updates, weights = torch.tensor(rows), torch.tensor(samples, dtype=torch.float32)
    remembered = float(typical(updates.norm(dim=1).log()))
    return step(NormClip(clip=bound / remembered), updates, weights)


def _fltrust(rows: Rows, root: list[float]) -> Tensor:
    seen = replace(view(torch.tensor(rows)), root=torch.tensor(root))
    return FLTrust().aggregate(None, seen).delta


def _foolsgold(rounds: list[Rows], confidence: float) -> Tensor:
    rule, first = FoolsGold(confidence=confidence), view(torch.tensor(rounds[0]))
    state = rule.start(first.layout, first.weights, len(rounds[0]), None)
    for rows in rounds:
        found = rule.aggregate(state, view(torch.tensor(rows)))
        state = found.state
    return found.delta


def _bucketing(rows: Rows, size: int, order: list[int]) -> Tensor:
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    placed = torch.empty(len(rows), len(rows[0]))
    placed[drawn] = torch.tensor(rows)[order]  # what is drawn is then that order
    return mixed(Bucketing(size=size), placed, 0)


def _released(rows: Rows, bound: float) -> Tensor:
    mechanism = ClientLevel(noise_multiplier=0.0, clip=bound, noise="central")
    n, width = len(rows), len(rows[0])
    draws = [numpy_generator(0, k) for k in range(n)]
    view = PrivacyView(1, torch.ones(n).bool(), torch.ones(width).bool(), float(n), 0.0, draws, numpy_generator(0, n))
    return mechanism.send(mechanism.start(), torch.tensor(rows), view)


OURS: dict[str, Rule] = {
    "mean": lambda rows: step(Mean(), torch.tensor(rows)),
    "median": lambda rows: step(Median(), torch.tensor(rows)),
    "geometric_median": lambda rows: step(GeometricMedian(smoothing=1e-9, tolerance=1e-9), torch.tensor(rows)),
    "trimmed_mean": _assuming(TrimmedMean),
    "krum": _assuming(Krum),
    "multi_krum": _assuming(MultiKrum),
    "mda": _assuming(MDA),
    "meamed": _assuming(MeaMed),
    "dnc": _assuming(DnC),
    "smea": _assuming(SMEA),
    "caf": _assuming(CAF),
    "flame": lambda rows: step(FLAME(noise=0), torch.tensor(rows)),
    "foolsgold": _foolsgold,
    "fltrust": _fltrust,
    "centered_clipping": _clipping,
    "norm_clip": _norm_clip,
    "clip": lambda rows, bound: mixed(Clip(norm=bound, unit="absolute"), torch.tensor(rows), 0),
    "arc": lambda rows, f: mixed(ARC(), torch.tensor(rows), f),
    "nnm": lambda rows, f: mixed(NNM(), torch.tensor(rows), f),
    "bucketing": _bucketing,
    "clipped_release": _released,
    "clipped_mean": lambda rows, bound, clients: _released(rows, bound).sum(0) / clients,
    **RELEASES,
}


def _byzfl(make: Callable[..., Any]) -> Rule:
    return lambda rows, **options: make(**options)(np.array(rows))


def _byzfl_krum(make: Callable[..., Any]) -> Rule:
    return lambda rows, f, neighbours: make(f=f)(np.array(rows))


BYZFL: dict[str, Rule] = {
    "mean": _byzfl(byzfl.Average),
    "median": _byzfl(byzfl.Median),
    "geometric_median": lambda rows: byzfl.GeometricMedian(nu=1e-9, T=3000)(np.array(rows)),
    "trimmed_mean": _byzfl(byzfl.TrMean),
    "krum": _byzfl_krum(byzfl.Krum),
    "multi_krum": _byzfl_krum(byzfl.MultiKrum),
    "mda": _byzfl(byzfl.MDA),
    "meamed": _byzfl(byzfl.Meamed),
    "centered_clipping": lambda rows, centre, radius, steps: (  # its `m` always raises, so around what was subtracted
        byzfl.CenteredClipping(L=steps, tau=radius)(np.array(rows) - np.array(centre)) + np.array(centre)
    ),
    "clip": lambda rows, bound: byzfl.Clipping(c=bound)(np.array(rows)),
    "arc": _byzfl(byzfl.ARC),
    "nnm": _byzfl(byzfl.NNM),
}
"""SMEA and CAF are not here: they take one power iteration from a random start, and give other numbers every time."""
