"""What rounding does to RDP is less than what is added for it."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
from sizes import every

from autoflip_secure.defenses.privacy.accountants import (
    ORDERS,
    RENYI_ABSOLUTE,
    RENYI_RELATIVE,
    WHOLE,
    Mechanism,
    epsilon_of,
    rdp_curve,
    rdp_epsilon,
)
from autoflip_secure.defenses.privacy.subsampled_rdp import poisson_rdp

CASES = [(1.0, 0.05), (0.6, 0.5), (3.0, 1e-4), (10.0, 0.9)]


def exactly(noise: float, rate: float, order: float) -> mp.mpf:
    """(order - 1) · RDP: the divergence by the trapezoidal rule, whose error is far below 25 digits here."""
    s, q, a = mp.mpf(noise), mp.mpf(rate), mp.mpf(order)
    spacing = s * min(1, s) / 8
    points = int((24 * s + a) / spacing)
    total = mp.mpf(0)
    for k in range(points):
        x = -12 * s + k * spacing
        total += mp.npdf(x, 0, s) * mp.expm1(a * mp.log1p(q * mp.expm1((2 * x - 1) / (2 * s**2))))
    return mp.log1p(total * spacing)


def of_a_fixed_cohort(noise: float, rate: float, order: int) -> mp.mpf:
    """The same for the pair that replaces one: beyond 1/2, and its copy there."""
    s, q = mp.mpf(noise), mp.mpf(rate)

    def excess(x: mp.mpf) -> mp.mpf:
        loss = mp.log1p(q * mp.expm1((2 * x - 1) / (2 * s**2)))
        return mp.npdf(x, 0, s) * (mp.expm1(order * loss) + mp.expm1((1 - order) * loss) - mp.expm1(loss))

    return mp.log1p(mp.quad(excess, [mp.mpf(1) / 2, order, order + 4 * s, order + 12 * s]))


@pytest.mark.parametrize(("noise", "rate"), every(2, CASES))
def test_no_order_is_below_its_divergence(noise: float, rate: float) -> None:
    asked = (1.25, 2.3, 5.0, 9.9, 40.0)
    found = dict(zip(asked, rdp_curve(Mechanism(noise, rate, "poisson"), asked), strict=True))
    with mp.workdps(25):
        for order, renyi in found.items():
            exact = exactly(noise, rate, order) / (mp.mpf(order) - 1)
            most = (exact + 2 * RENYI_ABSOLUTE / (mp.mpf(order) - 1)) * (1 + 2 * RENYI_RELATIVE)
            assert exact <= renyi <= most


@pytest.mark.parametrize(("noise", "rate"), [*CASES, (0.3, 0.01), (30.0, 0.5), (2.0, 1.0), (2.0, 0.0)])
def test_whole_orders_are_those_of_opacus(noise: float, rate: float) -> None:
    theirs = compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=list(WHOLE))
    assert poisson_rdp(rate, noise, WHOLE) == pytest.approx(np.asarray(theirs), rel=1e-11, abs=1e-12)


def test_without_the_allowance_it_would_be_below() -> None:
    below = 0
    with mp.workdps(25):
        for noise, rate in CASES:
            for order in (1.25, 5.0, 9.9):
                bare = float(np.asarray(compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=[order]))[0])
                below += bare < exactly(noise, rate, order) / (mp.mpf(order) - 1)
    assert below > 0


@pytest.mark.parametrize(("noise", "rate"), CASES)
def test_nor_for_cohorts_of_a_fixed_size(noise: float, rate: float) -> None:
    with mp.workdps(20):
        for order, renyi in zip((2, 5), rdp_curve(Mechanism(noise, rate, "fixed"), (2.0, 5.0)), strict=True):
            assert of_a_fixed_cohort(noise, rate, order) / (order - 1) <= renyi


@pytest.mark.parametrize("orders", [ORDERS, WHOLE])
@pytest.mark.filterwarnings("ignore:Optimal order is the")
def test_the_conversion_is_that_of_opacus(orders: tuple[float, ...]) -> None:
    for delta in (1e-2, 1e-5, 1e-9):
        curve = 30 * rdp_curve(Mechanism(1.0, 0.05, "poisson"), orders)
        finite = np.isfinite(curve)
        theirs, _ = get_privacy_spent(orders=np.array(orders)[finite].tolist(), rdp=curve[finite].tolist(), delta=delta)
        found = epsilon_of(curve, delta, orders)
        assert found == pytest.approx(max(theirs, 0), rel=1e-11)
        assert found is not None
        assert found >= theirs


def test_ten_thousand_steps_grow_by_next_to_nothing() -> None:
    """So no target goes out of reach."""
    mechanism = Mechanism(1.0, 0.01, "poisson")
    bare = np.asarray(compute_rdp(q=0.01, noise_multiplier=1.0, steps=10_000, orders=list(WHOLE)))
    theirs = epsilon_of(bare, 1e-5, WHOLE)
    ours = rdp_epsilon(((mechanism, 10_000),), 1e-5, WHOLE)
    assert theirs is not None
    assert ours is not None
    assert theirs < ours < theirs + 1e-6


def test_noise_whose_square_underflows_has_no_bound() -> None:
    assert rdp_epsilon(((Mechanism(1e-200, 0.5, "poisson"), 1),), 1e-5) is None
