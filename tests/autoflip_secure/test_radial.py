"""Radial agreement against a slow server written with plain numbers, and against the identity that it rests on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from autoflip_secure.interfaces import Exploration, RoundView
from autoflip_secure.parameters import Layout
from autoflip_secure.radial import RadialAgreement, radial_cosine

LAYOUT = Layout.of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
P = LAYOUT.size
CLIENTS = 8


class SlowServer:
    """The equations of radial agreement in plain Python."""

    def __init__(self, weights: np.ndarray, energy: np.ndarray, deviations: np.ndarray) -> None:
        hidden = [j for s in LAYOUT.hidden for j in range(s.start, s.stop)]
        self.low = sorted(hidden, key=lambda j: energy[j])[: int(0.25 * len(hidden))]
        self.radial: dict[int, float] = {}
        self.noise: dict[int, float] = {}
        self.signal: dict[int, float] = {}
        self.largest = 0.0
        measured = self.measure(deviations, list(range(len(deviations))), weights)
        r_before = self.signal
        self.signal = {}
        for k, (radial, _, _, _, noisy) in enumerate(measured):
            if not noisy:
                self.radial[k] = radial
                self.signal[k] = r_before[k]

    @staticmethod
    def blend(memory: dict[int, float], k: int, value: float, rho: float) -> None:
        memory[k] = value if k not in memory else rho * memory[k] + (1 - rho) * value

    def measure(
        self, rows: np.ndarray, clients: list[int], w: np.ndarray
    ) -> list[tuple[float, float, float, float, bool]]:
        shats = []
        for u, k in zip(rows, clients, strict=True):
            values = sorted(abs(u[j]) for j in self.low)
            shats.append(1.4826 * values[(len(values) - 1) // 2])
            self.blend(self.noise, k, shats[-1], 0.5)
        s0 = np.quantile(list(self.noise.values()), 0.4)
        out = []
        sigmas, signals = [], []
        for u, k, shat in zip(rows, clients, shats, strict=True):
            sigma = math.sqrt(max(0.0, shat**2 - s0**2))
            norm = float(np.linalg.norm(u))
            signal = max(math.sqrt(max(0.0, norm**2 - sigma**2 * P)), 0.1 * norm / (1 + sigma * math.sqrt(P)))
            self.blend(self.signal, k, math.log(signal), 0.5)
            sigmas.append(sigma)
            signals.append(signal)
        r = math.exp(np.quantile(list(self.signal.values()), 0.4))
        self.r = r
        for u, sigma, signal in zip(rows, sigmas, signals, strict=True):
            noisy = sigma * math.sqrt(P) / r > 0.25
            if noisy:
                size = max(signal, r / 2)
                radial = float(u @ w) / (size * float(np.linalg.norm(w))) + 2 * sigma / size
            else:
                size = float(np.linalg.norm(u))
                cosines = []
                for group in LAYOUT.layers:
                    a, b = u[group[0].start : group[-1].stop], w[group[0].start : group[-1].stop]
                    cosines.append(float(a @ b) / (float(np.linalg.norm(a)) * float(np.linalg.norm(b))))
                radial = sum(cosines) / len(cosines)
            out.append((radial, sigma, size, sigma * math.sqrt(P), noisy))
        return out

    def round(
        self, rows: np.ndarray, clients: list[int], samples: list[float], w: np.ndarray
    ) -> tuple[list[float], np.ndarray]:
        measured = self.measure(rows, clients, w)
        shares = [n / sum(samples) for n in samples]
        noise = [p * m[3] / float(np.linalg.norm(w)) for p, m in zip(shares, measured, strict=True)]
        for k, m, rho in zip(clients, measured, noise, strict=True):
            if not (m[4] and rho > 0.2 and k in self.radial):
                self.blend(self.radial, k, m[0], 0.6)
        c = float(np.quantile(list(self.radial.values()), 0.6))
        self.largest = max(self.largest, c)
        scores = []
        for k, m, rho in zip(clients, measured, noise, strict=True):
            s = 1.0
            if c > 0 and c >= 0.3 * self.largest:
                x = self.radial[k] / c
                s = min(max((x + 0.3) / 0.6, 0), 1)
                if not m[4]:
                    s *= min(max((2.8 - x) / 0.6, 0), 1)
            if m[4] and rho > 0.2:
                s *= (0.2 / rho) ** 4
            scores.append(s)
        weights = [p * s for p, s in zip(shares, scores, strict=True)]
        step = np.zeros(P)
        for u, m, weight in zip(rows, measured, weights, strict=True):
            bound = self.r if m[2] > 4 * self.r else 2 * self.r
            step += (weight / sum(weights) if sum(weights) else 0) * min(1, bound / m[2]) * u
        return scores, step


def view(rows: torch.Tensor, clients: list[int], weights: torch.Tensor, shrinkage: float = 0.0) -> RoundView:
    return RoundView(
        round=1,
        clients=torch.tensor(clients),
        samples=torch.tensor([10.0 + k for k in clients]),
        updates=rows,
        weights=weights,
        mask=torch.ones(P, dtype=torch.bool),
        guidance=None,
        layout=LAYOUT,
        shrinkage=torch.full((len(clients),), shrinkage),
    )


def exploration(deviations: torch.Tensor, energy: torch.Tensor) -> Exploration:
    n = len(deviations)
    return Exploration(
        torch.arange(n),
        torch.ones(n),
        deviations,
        energy,
        torch.ones(n),
        torch.ones(n, dtype=torch.bool),
        ((0.0,),) * n,
    )


@pytest.mark.parametrize("seed", range(8))
def test_scores_and_step_equal_the_slow_server_over_many_rounds(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights, energy = torch.randn(P, generator=draw), torch.rand(P, generator=draw) ** 4

    def rows(n: int) -> torch.Tensor:
        return energy.sqrt() * (0.3 * weights + torch.randn(n, P, generator=draw))

    deviations = rows(CLIENTS)
    deviations[1] += 0.7 * torch.randn(P, generator=draw)
    aggregator = RadialAgreement()
    state = aggregator.start(LAYOUT, weights, CLIENTS, exploration(deviations, energy))
    slow = SlowServer(weights.double().numpy(), energy.double().numpy(), deviations.double().numpy())
    saw = set()
    for _ in range(8):
        clients = torch.randperm(CLIENTS, generator=draw)[:5].sort().values.tolist()
        updates = rows(5)
        for i, k in enumerate(clients):
            if k == 1:
                updates[i] += 1.5 * torch.randn(P, generator=draw)  # noisy
            if k == 2:
                updates[i] -= 3 * energy.sqrt() * weights  # contradicts the model
            if k == 3:
                updates[i] *= 9  # oversized
        result = aggregator.aggregate(state, view(updates, clients, weights))
        scores, step = slow.round(
            updates.double().numpy(), clients, [10.0 + k for k in clients], weights.double().numpy()
        )
        assert result.scores is not None
        assert result.scores.tolist() == pytest.approx(scores, abs=5e-4)
        assert result.delta.tolist() == pytest.approx(step.tolist(), abs=5e-4)
        saw |= {round(s, 1) for s in scores}
        state = result.state
    assert {0.0, 1.0} <= saw  # the rounds really met both filtered and trusted clients


def test_the_identity_for_a_softmax_output_layer() -> None:
    """-<grad L, w_out> = sum_i (q_i - p_i) f_i: positive for right labels, negative for contradicting ones."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(5, 4, generator=draw, requires_grad=True)
    features = torch.randn(60, 4, generator=draw)
    logits = features @ w.T
    believed = logits.argmax(1)
    for labels, sign in ((believed, 1), ((believed + 1) % 5, -1)):
        loss = nn.functional.cross_entropy(logits, labels)
        (gradient,) = torch.autograd.grad(loss, w, retain_graph=True)
        q_minus_p = nn.functional.one_hot(labels, 5) - logits.softmax(1)
        along = float(-(gradient * w.detach()).sum())
        assert along == pytest.approx(float((q_minus_p * logits).sum(1).mean().detach()), rel=1e-4)
        assert sign * along > 0


def test_weight_decay_is_taken_out() -> None:
    weights = torch.randn(P, generator=torch.Generator().manual_seed(2))
    rows = torch.randn(4, P, generator=torch.Generator().manual_seed(3))
    aggregator = RadialAgreement()
    state = aggregator.start(LAYOUT, weights, CLIENTS, exploration(rows, torch.rand(P)))
    plain = aggregator.aggregate(state, view(rows, [0, 1, 2, 3], weights))
    decayed = aggregator.aggregate(state, view(rows - 0.25 * weights, [0, 1, 2, 3], weights, shrinkage=0.25))
    torch.testing.assert_close(decayed.statistics["radial"], plain.statistics["radial"], atol=1e-4, rtol=1e-3)


def test_layers_before_a_normalisation_are_left_out() -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)))
    weights = torch.randn(layout.size, generator=torch.Generator().manual_seed(0))
    rows = torch.zeros(1, layout.size)
    for segment in layout:
        if segment.output:
            rows[0, segment.slice] = weights[segment.slice]
        elif segment.normalised:
            rows[0, segment.slice] = -weights[segment.slice]
    assert float(radial_cosine(rows, weights, layout)) == pytest.approx(1)
