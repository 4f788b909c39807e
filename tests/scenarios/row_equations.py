"""The equations of the aggregators once more, in plain doubles, and rows of which one is long."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from slow_servers import SlowAgreement, SlowRadial
from torch import nn

from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum
from autoflip_secure.defenses.aggregators.median import TrimmedMean
from autoflip_secure.federation.clients import LARGEST_NORM
from autoflip_secure.models.layout import Layout

LAYOUT = Layout.of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
P = LAYOUT.size
CLIENTS, LONG = 7, 3  # the one with a row of another length
SAMPLES = [10.0 + k for k in range(CLIENTS)]
LENGTHS = [1.0, 1e3, 1e6, 1e12, LARGEST_NORM]  # the last one to the edge of what the server lets through
Rows = np.ndarray  # (clients, params), in double


def cohort(length: float, seed: int, *, turned: bool = False) -> torch.Tensor:
    """Honest rows of norm about 1, and one of ``length``: in a direction of its own, or against the others."""
    draw = torch.Generator().manual_seed(seed)
    rows = (0.5 + torch.randn(CLIENTS, P, generator=draw)) / P**0.5
    away = -rows.mean(0) if turned else rows[LONG]
    rows[LONG] = away * (length * (1 - 1e-6) / away.norm())
    return rows


def norm(x: Rows) -> float:
    return math.sqrt(math.fsum(float(a) ** 2 for a in x))


def mean(rows: Rows) -> Rows:
    return sum(n / sum(SAMPLES) * row for n, row in zip(SAMPLES, rows, strict=True))


def trimmed(rows: Rows) -> Rows:
    cut = round(TrimmedMean().bad_share * CLIENTS)
    return np.array([math.fsum(sorted(column)[cut:-cut]) / (CLIENTS - 2 * cut) for column in rows.T])


def krum_order(rows: Rows) -> list[int]:
    malicious = round(Krum().bad_share * CLIENTS)
    scores = []
    for k in range(CLIENTS):
        squares = sorted(norm(rows[k] - rows[other]) ** 2 for other in range(CLIENTS) if other != k)
        scores.append(math.fsum(squares[: CLIENTS - malicious - 1]))
    return sorted(range(CLIENTS), key=scores.__getitem__)


def multi_krum(rows: Rows) -> Rows:
    return rows[krum_order(rows)[: CLIENTS - round(MultiKrum().bad_share * CLIENTS)]].mean(0)


def slope(rows: Rows, point: Rows) -> float:
    """Length of the gradient of the summed distance, weighted with shares of samples: 0 at the geometric median."""
    pulls = [n / sum(SAMPLES) * (point - row) / norm(point - row) for n, row in zip(SAMPLES, rows, strict=True)]
    return norm(sum(pulls))


def geometric_median(rows: Rows) -> Rows:
    point = np.median(rows, 0)
    for _ in range(300):
        pull = [n / max(1e-6, norm(point - row)) for n, row in zip(SAMPLES, rows, strict=True)]
        point = sum(p / math.fsum(pull) * row for p, row in zip(pull, rows, strict=True))
    assert slope(rows, point) < 1e-9
    return point


def centred_clipping(rows: Rows) -> Rows:
    norms = [norm(row) for row in rows]  # the first centre is zero
    radius = sorted(norms)[(CLIENTS - 1) // 2]
    return sum(min(1, radius / length) * row for length, row in zip(norms, rows, strict=True)) / CLIENTS


WEIGHTS = torch.randn(P, generator=torch.Generator().manual_seed(50))
ENERGY = torch.rand(P, generator=torch.Generator().manual_seed(51)) ** 4
EXPLORED = ENERGY.sqrt() * (0.3 * WEIGHTS + torch.randn(CLIENTS, P, generator=torch.Generator().manual_seed(52)))


def agreement(rows: Rows) -> tuple[list[float], Rows]:
    return SlowAgreement(P).round(rows.tolist(), list(range(CLIENTS)), ENERGY.double().tolist())


def radial(rows: Rows) -> tuple[list[float], Rows]:
    w = WEIGHTS.double().numpy()
    slow = SlowRadial(LAYOUT, w, ENERGY.double().numpy(), EXPLORED.double().numpy())
    return slow.round(rows, list(range(CLIENTS)), SAMPLES, w)


STEPS: dict[str, Callable[[Rows], Rows]] = {
    "mean": mean,
    "median": lambda rows: np.median(rows, 0),
    "trimmed_mean": trimmed,
    "krum": lambda rows: rows[krum_order(rows)[0]],
    "multi_krum": multi_krum,
    "geometric_median": geometric_median,
    "centered_clipping": centred_clipping,
    "agreement": lambda rows: agreement(rows)[1],
    "radial": lambda rows: radial(rows)[1],
}
SCORES = {"agreement": lambda rows: agreement(rows)[0], "radial": lambda rows: radial(rows)[0]}
