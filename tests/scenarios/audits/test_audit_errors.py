"""How often a sound mechanism would be called broken: bounds of a whole audit, on mechanisms of known epsilon."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sizes import every, sized

from autoflip_secure.defenses.privacy.accountants import Mechanism
from autoflip_secure.scenarios.audits.claims import Claim
from autoflip_secure.scenarios.audits.metrics import auc_with_interval
from autoflip_secure.scenarios.audits.view import Attacked, each, halves, judged


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shares_of_the_error_add_up() -> None:
    for bounds in (1, 2, 4, 7):
        assert bounds * (1 - each(bounds)) == pytest.approx(0.05)
    assert each(0) == 0.95


@pytest.mark.parametrize("noise", every(2, [3.0, 0.7]))
def test_four_bounds_of_a_sound_audit_are_rarely_called_a_violation(noise: float) -> None:
    """The Gaussian mechanism, attacked as well as can be: at most 5 % of audits may fail.

    The first case is the hardest: nothing leaks and nothing is claimed to, so no slack protects from alarms.
    """
    rng, audits, alarms = source(17), sized(30, 200), 0
    worth = 1.0 if noise < 1 else 0.0
    count = ((Mechanism(noise, 1.0, "none"), 1),) if worth else ()
    claimed = Claim(count, 1e-3, "zero out one client")
    for _ in range(audits):
        failed = False
        for part in range(4):
            runs = 1 if part == 3 else 60
            thrown = torch.rand(runs, 200 if runs == 1 else 15, generator=rng) < 0.5
            scores = worth * thrown + noise * torch.randn(thrown.shape, generator=rng)
            failed |= judged(Attacked("client", "public", "x"), claimed, scores, thrown, each(4)).violated
        alarms += failed
    assert alarms / audits <= 0.05 + 2 * (0.05 * 0.95 / audits) ** 0.5


@pytest.mark.slow
def test_areas_over_several_models_cover_chance_when_nothing_leaks() -> None:
    """The same samples, hard and easy ones, in many attacked models: pairs of model and sample are as good as apart."""
    rng, covered, trials = source(8), 0, sized(40, 80)
    for trial in range(trials):
        hardness = torch.randn(100, generator=rng)
        truth = halves(8, 100, rng)
        scores = hardness + 0.3 * torch.randn(8, 100, generator=rng)
        found = auc_with_interval(truth.flatten(), scores.flatten(), np.random.default_rng(trial))
        covered += found.low <= 0.5 <= found.high
    assert covered >= 0.88 * trials
