"""Attacks on rules that trust clean data, or unlikeness, against what these rules say by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attacked_cohort import MALICIOUS, attacked, problem, rows

from autoflip_secure.attacks.poisoning.decorrelated import Decorrelated
from autoflip_secure.attacks.poisoning.inner_product import InnerProduct
from autoflip_secure.attacks.poisoning.root_evasion import RootEvasion
from autoflip_secure.defenses.aggregators.foolsgold import FoolsGold


def test_no_angle_takes_more_from_the_mean_for_what_it_is_trusted() -> None:
    """ReLU(cos(u, g)) <u, mu> over unit vectors u of the plane of g and mu, by a grid; and none outside the plane."""
    draws = torch.Generator().manual_seed(2)
    for angle in (0.2, 1.0, 1.5, 2.0, 3.0):
        g = torch.randn(30, generator=draws, dtype=torch.float64)
        off = torch.randn(30, generator=draws, dtype=torch.float64)
        g = g / g.norm()
        off = off - (off @ g) * g
        mean = 4 * (math.cos(angle) * g + math.sin(angle) * off / off.norm())
        row = RootEvasion().row(mean, g)
        assert float(row.norm()) == pytest.approx(1)
        found = max(0.0, float(row @ g)) * float(row @ mean)
        turns = np.linspace(-math.pi, math.pi, 2001)
        plane = [(math.cos(t) * g + math.sin(t) * off / off.norm()) for t in turns]
        least = min(max(0.0, float(u @ g)) * float(u @ mean) for u in plane)
        assert found == pytest.approx(least, rel=1e-3)
        for _ in range(50):
            u = torch.randn(30, generator=draws, dtype=torch.float64)
            u = row + 0.3 * u / u.norm()
            u = u / u.norm()
            assert max(0.0, float(u @ g)) * float(u @ mean) >= found - 1e-9
    assert not RootEvasion().row(g, g).any(), "nothing is left to reverse"


def test_without_a_root_the_own_honest_rows_stand_for_it() -> None:
    found = attacked(RootEvasion())
    own = torch.where(found.active, found.trained[list(MALICIOUS)].mean(0), 0.0)
    expected = RootEvasion().row(found.honest.mean(0), own)
    assert torch.allclose(torch.nn.functional.normalize(found.lies[0], dim=0), expected, atol=1e-5)
    assert float(found.lies[0].norm()) == pytest.approx(float(found.honest.norm(dim=1).median()), rel=1e-4)


def test_each_liar_keeps_its_direction_and_the_sum_over_rounds_stays_unlike() -> None:
    first = attacked(Decorrelated(), 1)
    later = attacked(Decorrelated(), 2, rows(seed=4), memory=first.attacked.memory)

    def own(one: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(one + mean)

    assert torch.allclose(own(first.lies, first.honest.mean(0)), own(later.lies, later.honest.mean(0)), atol=1e-4)
    memory, sums = None, torch.zeros(3, problem().layout.size)
    for number in range(1, 21):
        found = attacked(Decorrelated(), number, rows(seed=number), memory=memory)
        memory, sums = found.attacked.memory, sums + found.lies
    unit = torch.nn.functional.normalize(sums)
    assert float((unit @ unit.T).fill_diagonal_(0).max()) < 0.4
    assert torch.equal(attacked(Decorrelated(noise=0)).lies, attacked(InnerProduct(epsilon=1)).lies)


def test_foolsgold_takes_them_for_honest_and_copies_for_sybils() -> None:
    """Honest clients of different data; liars who send one row lose their say, liars with directions keep it."""
    apart = torch.randn(10, problem().layout.size, generator=torch.Generator().manual_seed(8))
    same, unlike = (
        attacked(one, 1, apart, aggregator=FoolsGold()) for one in (InnerProduct(epsilon=2), Decorrelated())
    )
    trust = [float(one.knows.trial(one.sent).trust[list(MALICIOUS)].sum()) for one in (same, unlike)]
    assert trust[0] == pytest.approx(0, abs=1e-3)
    assert trust[1] > 0.2
