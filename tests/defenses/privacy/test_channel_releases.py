"""Channels in the ledger: update and channels of a round are one Gaussian mechanism of one cohort, all counted."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import sqrt
from typing import Any

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from ledger_cells import CENTRAL, by_observer, cell_of
from scipy.stats import norm

from autoflip_secure.defenses.privacy.accountants import Mechanism, counted, rdp_epsilon
from autoflip_secure.defenses.privacy.dominating_pairs import profile
from autoflip_secure.defenses.privacy.ledger import joint, releases
from autoflip_secure.defenses.privacy.pld import pld_epsilon
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule, schedule_of
from autoflip_secure.records.privacy import Release
from autoflip_secure.scenarios.running.privacy_planning import ledger, planned

TAYLOR = {"kind": "taylor", "every": 2, "until": 1.0, "bound": 0.1}


def algorithm(**more: Any) -> dict[str, Any]:
    return {"pruner": {**TAYLOR, **more}, "aggregator": "mean"}


def rows(found: list[Release]) -> list[tuple[str, int, float, str]]:
    return [(one.name, one.steps, round(one.noise_multiplier, 6), one.sampling) for one in found]


@pytest.mark.parametrize(("noise", "rate"), [(1.0, 0.4), (0.7, 0.1), (2.0, 1.0)])
def test_two_parts_of_one_drawn_cohort_are_one_mechanism_of_their_joint_noise(noise: float, rate: float) -> None:
    """Hockey-stick divergence in two dimensions, on a grid, of (1-q) N(0, s²I) + q N((1, 1), s²I) from N(0, s²I)."""
    axis = np.linspace(-9 * noise, 9 * noise + 1, 801)
    area = (axis[1] - axis[0]) ** 2
    x, y = np.meshgrid(axis, axis)
    there, away = (norm.pdf(x, m, noise) * norm.pdf(y, m, noise) for m in (1.0, 0.0))
    mixed = (1 - rate) * away + rate * there
    together = joint(noise, ("units",))
    library = from_gaussian_mechanism(together, sampling_prob=rate, value_discretization_interval=1e-3)
    for epsilon in (0.1, 0.5, 1.5):
        exact = max(float(np.maximum(p - np.exp(epsilon) * q, 0).sum() * area)
                    for p, q in ((mixed, away), (away, mixed)))  # fmt: skip
        assert library.get_delta_for_epsilon(epsilon) == pytest.approx(exact, rel=0.01, abs=1e-7)
        ours = max(float(profile(together, rate, way, np.array([epsilon]))[0]) for way in ("remove", "add"))
        assert ours == pytest.approx(exact, rel=2e-3, abs=1e-8)


def test_amplifying_each_part_by_itself_would_claim_another_epsilon() -> None:
    once = pld_epsilon(((Mechanism(joint(1.0, ("units",)), 0.1, "poisson"), 30),), 1e-5)
    apart = pld_epsilon(((Mechanism(1.0, 0.1, "poisson"), 60),), 1e-5)
    assert once is not None
    assert apart is not None
    assert once > 1.1 * apart


def test_joint_noise_is_that_of_the_inverse_squares() -> None:
    assert joint(0.8, ()) == 0.8
    for count in (1, 2, 5):
        assert joint(0.8, ("x",) * count) == pytest.approx(1 / sqrt((1 + count) / 0.8**2))


def test_every_round_with_reports_is_a_release_of_both() -> None:
    cell = cell_of(algorithm=algorithm(), sampling="poisson", privacy=CENTRAL)
    public, reason = releases(schedule_of(cell), "public")
    assert reason == ""
    assert rows(public) == [("updates", 3, 2.0, "poisson"), ("updates, units", 3, round(2 / sqrt(2), 6), "poisson")]
    assert (public[1].first_round, public[1].last_round) == (2, 6)
    assert all("masks" in one.post_processing for one in public)
    record = ledger(cell)
    seen = by_observer(record)["public"]
    count = counted(public)
    assert count is not None
    (entry,) = seen.clients
    assert entry.rdp == rdp_epsilon(count, entry.delta)
    plain = by_observer(ledger(cell_of(algorithm="fedavg", sampling="poisson", privacy=CENTRAL)))["public"]
    assert entry.epsilon > plain.clients[0].epsilon  # type: ignore[operator]
    library = partial(from_gaussian_mechanism, sampling_prob=0.4, value_discretization_interval=1e-3)
    composed = library(2.0).self_compose(3).compose(
        library(2.0 / sqrt(2)).self_compose(3)
    )  # fmt: skip
    assert pld_epsilon(count, entry.delta) == pytest.approx(composed.get_epsilon_for_delta(entry.delta), abs=0.01)
    server = by_observer(record)["server"]
    assert [(r.name, r.mechanism, r.steps) for r in server.releases] == [("updates", "none", 3),
                                                                        ("updates, units", "none", 3)]  # fmt: skip
    assert record is not None
    assert any("in 3 of 6 rounds clients send units" in note for note in record.notes)


@pytest.mark.parametrize("secure", [None, {"parties": 2, "updates": True}])
def test_whoever_sees_rows_or_sums_of_noised_shares_sees_those_of_both(secure: Any) -> None:
    settings = {"privacy": {**CENTRAL, "noise": "distributed"}, "secure_sum": secure}
    cell, plain = cell_of(algorithm=algorithm(), **settings), cell_of(algorithm="fedavg", **settings)
    for observer in ("server", "another client"):
        ours, theirs = (releases(replace(schedule_of(plain), channels=channels), observer)[0]  # type: ignore[arg-type]
                        for channels in (schedule_of(cell).channels, ()))  # fmt: skip
        assert {one.name for one in ours} == {"updates", "updates, units"}
        inverse = [sum(one.steps / one.noise_multiplier**2 for one in found) for found in (ours, theirs)]
        beside = sum(
            one.steps / one.noise_multiplier**2 / 2 for one in ours if one.name == "updates, units"
        )  # half of a joint release is the channel's
        if observer == "server":  # who is missed most among clients may be another one
            assert inverse[0] - beside == pytest.approx(inverse[1])
        assert sum(one.steps for one in ours) == sum(one.steps for one in theirs)


def test_a_target_counts_the_reports() -> None:
    target = {"kind": "client_level", "target_epsilon": 3.0}
    found, multipliers = [], []
    for one in (algorithm(), "fedavg"):
        cell = cell_of(algorithm=one, sampling="poisson", privacy=target)
        record = ledger(cell)
        assert record is not None
        found.append(record.epsilon("public"))
        multipliers.append(cell.noise_multipliers[0])
    assert all(epsilon is not None and 2.0 < epsilon <= 3.0 for epsilon in found)
    assert multipliers[0] > 1.1 * multipliers[1]
    cell = cell_of(algorithm=algorithm(), sampling="poisson", privacy=target)
    assert {one.name for one in planned(cell)} == {"updates", "updates, units"}


def test_the_curve_ends_where_the_ledger_does() -> None:
    cell = cell_of(algorithm=algorithm(), sampling="poisson", privacy=CENTRAL)
    seen = by_observer(ledger(cell))["public"]
    curve = dict(seen.over_rounds)
    assert curve[6] == pytest.approx(seen.clients[0].rdp, rel=1e-3)
    alone = [rdp_epsilon(((Mechanism(s, 0.4, "poisson"), 1),), seen.clients[0].delta) for s in (2.0, 2 / sqrt(2))]
    assert curve[1] == pytest.approx(alone[0], rel=1e-3)
    assert curve[2] - curve[1] > alone[0] / 2  # type: ignore[operator]


def test_no_proof_covers_measures_of_samples_beside_dp_sgd() -> None:
    cell = cell_of(privacy={"kind": "sample_level", "noise_multiplier": 1.0})
    schedule: ReleaseSchedule = replace(schedule_of(cell), channels=(("units",),) * 6)
    assert "DP-SGD covers updates alone" in releases(schedule, "public")[1]
