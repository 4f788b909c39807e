"""The equations of the aggregators once more, in plain doubles, and rows of which one is long."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from slow_servers import SlowAgreement, SlowRadial
from torch import nn

from autoflip_secure.defenses.aggregators.flame import FLAME
from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum
from autoflip_secure.defenses.aggregators.median import TrimmedMean
from autoflip_secure.defenses.aggregators.norm_clip import WeakDP
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


def norm_clip(rows: Rows) -> Rows:
    norms = [norm(row) for row in rows]
    typical = math.exp(float(np.quantile(np.log(norms), 0.4)))
    clipped = [row * min(1, typical / length) for row, length in zip(rows, norms, strict=True)]
    return mean(np.array(clipped))


def weak_dp(rows: Rows) -> Rows:
    typical = math.exp(float(np.quantile(np.log([norm(row) for row in rows]), 0.4)))
    draws = torch.randn(P, generator=torch.Generator().manual_seed(0)).double().numpy()
    return norm_clip(rows) + WeakDP().noise * typical / math.sqrt(P) * draws


ASSUMED = round(0.2 * CLIENTS)
SUBSETS = [list(one) for one in itertools.combinations(range(CLIENTS), CLIENTS - ASSUMED)]


def mda(rows: Rows) -> Rows:
    apart = [[norm(one - other) for other in rows] for one in rows]
    return rows[min(SUBSETS, key=lambda s: (max(apart[a][b] for a in s for b in s),
                                            math.fsum(apart[a][b] ** 2 for a in s for b in s)))].mean(0)  # fmt: skip


def largest_eigenvalue(rows: Rows, weights: Rows) -> tuple[float, Rows]:
    """Of the covariance, and its direction."""
    offsets = rows - weights @ rows
    values, vectors = np.linalg.eigh((offsets * weights[:, None]).T @ offsets)
    return float(values[-1]), vectors[:, -1]


def smea(rows: Rows) -> Rows:
    even = np.full(CLIENTS - ASSUMED, 1 / (CLIENTS - ASSUMED))
    return rows[min(SUBSETS, key=lambda s: largest_eigenvalue(rows[s], even)[0])].mean(0)


def caf(rows: Rows) -> Rows:
    weights, best, least = np.ones(CLIENTS), rows.mean(0), math.inf
    while weights.sum() > CLIENTS - 2 * ASSUMED:
        share = weights / weights.sum()
        value, direction = largest_eigenvalue(rows, share)
        if value < least:
            best, least = share @ rows, value
        along = ((rows - share @ rows) @ direction) ** 2 * (weights > 0)
        weights = weights * (1 - along / along.max())
    return best


def meamed(rows: Rows) -> Rows:
    found = []
    for column in rows.T:
        centre = float(np.median(column))
        found.append(np.mean(sorted(column, key=lambda x: abs(x - centre))[: CLIENTS - ASSUMED]))
    return np.array(found)


def dnc(rows: Rows) -> Rows:
    direction = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][0]
    outlying = ((rows - rows.mean(0)) @ direction) ** 2
    return rows[np.sort(outlying.argsort()[: CLIENTS - ASSUMED])].mean(0)


def cosine(one: Rows, other: Rows) -> float:
    return float(one @ other) / (norm(one) * norm(other))


def crowd(rows: Rows) -> list[int]:
    """The first of the crowds joined by ever larger cosine distances that more than half of the rows are in."""
    n = len(rows)
    apart = [[0.0 if k == j else 1 - cosine(rows[k], rows[j]) for j in range(n)] for k in range(n)]
    for reach in sorted({distance for one in apart for distance in one}):
        of = list(range(n))
        for k, j in itertools.product(range(n), range(n)):
            if apart[k][j] <= reach:
                of = [of[k] if each == of[j] else each for each in of]
        largest = max(of, key=of.count)
        if 2 * of.count(largest) > n:
            return [k for k in range(n) if of[k] == largest]
    raise AssertionError


def flame(rows: Rows) -> Rows:
    middle = float(np.median([norm(row) for row in rows]))
    clipped = np.array([rows[k] * min(1, middle / norm(rows[k])) for k in crowd(rows)])
    draws = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0)).double().numpy()
    return clipped.mean(0) + FLAME().noise * middle * draws


def foolsgold(histories: Rows) -> list[float]:
    """alpha, in the order of the paper's loops."""
    n = len(histories)
    alike = [[0.0 if k == j else cosine(histories[k], histories[j]) for j in range(n)] for k in range(n)]
    most, found = [max(one) for one in alike], []
    for k in range(n):
        for j in range(n):
            if most[j] > most[k]:
                alike[k][j] *= most[k] / most[j]
        found.append(1 - max(alike[k]))
    largest, alphas = max(found), []
    for beta in (one / largest for one in found):
        alpha = math.inf if beta == 1 else -math.inf if beta == 0 else math.log(beta / (1 - beta)) + 0.5
        alphas.append(min(1.0, max(0.0, alpha)))
    return alphas


ROOT = torch.full((P,), 0.5 / P**0.5) + 0.1 * torch.randn(P, generator=torch.Generator().manual_seed(53)) / P**0.5


def fltrust(rows: Rows) -> Rows:
    g = ROOT.double().numpy()
    trust = [max(0.0, cosine(row, g)) for row in rows]
    return weighted(trust, np.array([norm(g) / norm(row) * row for row in rows]))


def weighted(weights: list[float], rows: Rows) -> Rows:
    return np.array(weights) @ rows / math.fsum(weights)


WEIGHTS = torch.randn(P, generator=torch.Generator().manual_seed(50))
ENERGY = torch.rand(P, generator=torch.Generator().manual_seed(51)) ** 4
EXPLORED = ENERGY.sqrt() * (0.3 * WEIGHTS + torch.randn(CLIENTS, P, generator=torch.Generator().manual_seed(52)))


def agreement(rows: Rows) -> tuple[list[float], Rows]:
    return SlowAgreement(P).round(rows.tolist(), list(range(CLIENTS)), ENERGY.double().tolist())


def filtered_agreement(rows: Rows) -> Rows:
    """CAF that begins with the scores' weights, of rows clipped to one typical norm."""
    norms = [norm(row) for row in rows]
    typical = math.exp(float(np.quantile(np.log(norms), 0.4)))
    clipped = np.array([row * min(1, typical / length) for row, length in zip(rows, norms, strict=True)])
    weights = np.array(SAMPLES) * np.array(agreement(rows)[0])
    weights = weights / weights.max()
    whole, best, least = weights.sum(), weights @ clipped / weights.sum(), math.inf
    while weights.sum() > (CLIENTS - 2 * ASSUMED) / CLIENTS * whole:
        share = weights / weights.sum()
        value, direction = largest_eigenvalue(clipped, share)
        if value < least:
            best, least = share @ clipped, value
        along = ((clipped - share @ clipped) @ direction) ** 2 * (weights > 0)
        weights = weights * (1 - along / along.max())
    return best


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
    "norm_clip": norm_clip,
    "weak_dp": weak_dp,
    "mda": mda,
    "meamed": meamed,
    "dnc": dnc,
    "smea": smea,
    "caf": caf,
    "flame": flame,
    "fltrust": fltrust,
    "foolsgold": lambda rows: weighted(foolsgold(rows), rows),
    "agreement": lambda rows: agreement(rows)[1],
    "filtered_agreement": filtered_agreement,
    "radial": lambda rows: radial(rows)[1],
}
SCORES: dict[str, Callable[[Rows], list[float]]] = {
    "agreement": lambda rows: agreement(rows)[0],
    "filtered_agreement": lambda rows: agreement(rows)[0],
    "radial": lambda rows: radial(rows)[0],
    "flame": lambda rows: [float(k in crowd(rows)) for k in range(len(rows))],
    "foolsgold": foolsgold,
    "fltrust": lambda rows: [(1 + cosine(row, ROOT.double().numpy())) / 2 for row in rows],
}
