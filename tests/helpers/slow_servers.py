"""Servers in plain Python, client by client and in double: what the scored aggregators are compared with."""

from __future__ import annotations

import math

import numpy as np

from autoflip_secure.models.layout import Layout


class SlowAgreement:
    """Phase 2 of the algorithm in plain Python, client by client."""

    def __init__(self, params: int) -> None:
        self.means: dict[str, dict[int, float]] = {"L": {}, "X": {}, "C": {}}
        self.memory = [0.0] * params

    def round(
        self, updates: list[list[float]], clients: list[int], energy: list[float]
    ) -> tuple[list[float], list[float]]:
        def cos(a: list[float], b: list[float]) -> float:
            return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))

        fresh = {
            "L": [cos([abs(x) for x in u], [math.sqrt(e) for e in energy]) for u in updates],
            "X": [-math.log(np.linalg.norm(u)) for u in updates],
            "C": [cos(u, self.memory) for u in updates] if any(self.memory) else [],
        }
        z = [-math.inf] * len(updates)
        for name, (floor, cap) in {"L": (0.06, 0.15), "X": (0.6, 0.7), "C": (0.15, 0.3)}.items():
            for k, value in zip(clients, fresh[name], strict=False):
                old = self.means[name].get(k)
                self.means[name][k] = value if old is None else 0.5 * old + 0.5 * value
            seen = list(self.means[name].values())
            if not seen:
                continue
            centre = float(np.quantile(seen, 0.6))
            sigma = min(max(1.4826 * float(np.median([abs(x - centre) for x in seen])), floor), cap)
            for i, k in enumerate(clients):
                mean = self.means[name][k]
                x = mean if name == "C" else min(fresh[name][i], mean)
                z[i] = max(z[i], (centre - x) / sigma)
        scores = [min(max((3 - value) / 1.5, 0), 1) for value in z]
        weights = [(10.0 + k) * s for k, s in zip(clients, scores, strict=True)]
        trust = [w / sum(weights) if sum(weights) else 0.0 for w in weights]
        r = math.exp(np.quantile([-x for x in self.means["X"].values()], 0.4))
        step = [0.0] * len(self.memory)
        for u, t in zip(updates, trust, strict=True):
            factor = min(1.0, 2 * r / float(np.linalg.norm(u)))
            step = [a + t * factor * x for a, x in zip(step, u, strict=True)]
        self.memory = [0.8 * h + 0.2 * d for h, d in zip(self.memory, step, strict=True)]
        return scores, step


class SlowRadial:
    """The equations of radial agreement in plain Python."""

    def __init__(self, layout: Layout, weights: np.ndarray, energy: np.ndarray, deviations: np.ndarray) -> None:
        self.layout = layout
        hidden = [j for s in layout.hidden for j in range(s.start, s.stop)]
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
            scattered = sigma * math.sqrt(self.layout.size)
            signal = max(math.sqrt(max(0.0, norm**2 - scattered**2)), 0.1 * norm / (1 + scattered))
            self.blend(self.signal, k, math.log(signal), 0.5)
            sigmas.append(sigma)
            signals.append(signal)
        r = math.exp(np.quantile(list(self.signal.values()), 0.4))
        self.r = r
        for u, sigma, signal in zip(rows, sigmas, signals, strict=True):
            noisy = sigma * math.sqrt(self.layout.size) / r > 0.25
            if noisy:
                size = max(signal, r / 2)
                radial = float(u @ w) / (size * float(np.linalg.norm(w))) + 2 * sigma / size
            else:
                size = float(np.linalg.norm(u))
                cosines = []
                for group in self.layout.layers:
                    a, b = u[group[0].start : group[-1].stop], w[group[0].start : group[-1].stop]
                    cosines.append(float(a @ b) / (float(np.linalg.norm(a)) * float(np.linalg.norm(b))))
                radial = sum(cosines) / len(cosines)
            out.append((radial, sigma, size, sigma * math.sqrt(self.layout.size), noisy))
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
        step = np.zeros(self.layout.size)
        for u, m, weight in zip(rows, measured, weights, strict=True):
            bound = self.r if m[2] > 4 * self.r else 2 * self.r
            step += (weight / sum(weights) if sum(weights) else 0) * min(1, bound / m[2]) * u
        return scores, step
