r"""Sine waves with noise: a data set that is computed, so that there is nothing to download.

.. math:: x_t = \sin(2 \pi (c + 1)\, t / T + \varphi) + \sigma z_t, \qquad t = 0, \dots, T - 1

with c the class, the phase :math:`\varphi` uniform in [0, pi / 2) and z standard normal.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from autoflip_secure.scenarios.data.base import Arrays, DataSource


class Waves(DataSource):
    """Noisy sine waves of 32 samples, one frequency for each class, generated from a seed."""

    classes: Annotated[int, Field(ge=2, le=15, description="frequencies, 1 to so many periods")] = 4
    samples: Annotated[int, Field(ge=2, le=10_000, description="training samples a class; half as many test")] = 100
    noise: Annotated[float, Field(ge=0, le=1e6, description="sigma, standard deviation of the noise")] = 0.3
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of the waves; the same for every seed of a sweep")] = 0

    def read(self) -> Arrays:
        """Features (samples, 32) in float32, labels from 0: the same arrays at every call."""
        rng = np.random.default_rng(self.seed)
        x_train, y_train = self._waves(self.samples, rng)
        x_test, y_test = self._waves(self.samples // 2, rng)
        return Arrays(x_train, y_train, x_test, y_test, tuple(f"{c + 1} periods" for c in range(self.classes)))

    def _waves(self, each: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(self.classes), each)
        phase = rng.uniform(0, np.pi / 2, len(labels))[:, None]
        time = np.arange(32) / 32
        waves = np.sin(2 * np.pi * (labels[:, None] + 1) * time + phase)
        return (waves + self.noise * rng.standard_normal(waves.shape)).astype(np.float32), labels
