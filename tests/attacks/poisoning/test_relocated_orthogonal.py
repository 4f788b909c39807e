"""RoP: what it knows of the server's last step, and what centred clipping makes of it over rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from attacked_cohort import attacked, problem
from torch import Tensor

from autoflip_secure.attacks.poisoning.relocated_orthogonal import RelocatedOrthogonal


def test_the_last_step_is_what_the_global_model_did_since_they_last_saw_it() -> None:
    first = attacked(RelocatedOrthogonal(), 1)
    memory = first.attacked.memory
    assert memory is not None
    [(key, (seen, weights))] = memory.of.items()
    assert seen == 1
    assert torch.equal(weights, problem().initial)
    step = torch.randn(len(weights), generator=torch.Generator().manual_seed(5))
    moved = replace(memory, of={key: (1, weights - 2 * step)})
    attack = RelocatedOrthogonal(z=2, unit="absolute", reference=1)
    again = attacked(attack, 3, memory=moved)
    step, away = step * again.active, again.lies[0] - step * again.active
    assert float(away.norm()) == pytest.approx(2, rel=1e-4)
    assert float(away @ step) == pytest.approx(0, abs=1e-3)
    assert float(away.sum()) < 0, "270 degrees: away from the vector of ones"
    along = attacked(attack.model_copy(update={"angle": 180.0}), 3, memory=moved)
    assert torch.allclose(along.lies[0], step - 2 * step / step.norm(), atol=1e-5)
    now = attacked(attack, 1, memory=moved)  # a model of this round says nothing about a step
    assert float(now.lies[0].norm()) == pytest.approx(2, rel=1e-4)


def clipped(honest: Tensor, lie: Callable[[Tensor], Tensor], rounds: int) -> tuple[Tensor, float]:
    """The centre of centred clipping after rounds in which seven honest and three malicious clients send the same, and
    the least share that is ever left of a lie."""
    centre, left = torch.zeros_like(honest[0]), 1.0
    for _ in range(rounds):
        offsets = torch.cat([honest, lie(centre).expand(3, -1)]) - centre
        distances = offsets.norm(dim=1)
        factors = (distances.quantile(0.5) / distances.clamp_min(1e-9)).clamp(max=1)
        centre, left = centre + (factors[:, None] * offsets).mean(0), min(left, float(factors[-1]))
    return centre, left


def test_centred_clipping_does_not_clip_it_and_drifts() -> None:
    found = attacked(RelocatedOrthogonal())
    honest, mean = found.honest, found.honest.mean(0)
    calm, _ = clipped(honest, lambda centre: mean, 12)
    turned, left = clipped(honest, lambda centre: RelocatedOrthogonal().row(honest, centre, found.active), 12)
    flipped, kept = clipped(honest, lambda centre: -3 * mean, 12)
    assert left == pytest.approx(1, abs=1e-4)
    assert kept < 0.5
    harm = [float((one - mean).norm() / mean.norm()) for one in (calm, flipped, turned)]
    assert harm[0] < 0.1
    assert harm[2] > 5 * harm[0]
    assert harm[2] > harm[1]
