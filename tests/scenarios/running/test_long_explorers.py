"""Explorers and participants that send rows of any length: landscape, guidance and record stay finite and exact."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from row_equations import CLIENTS, ENERGY, LAYOUT, LENGTHS, LONG, SAMPLES, P, Rows, cohort, norm

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.algorithm.guidance import NORMALISATIONS, evolve, initial_guidance, normalise
from autoflip_secure.defenses.privacy.noised_rows import clip_to
from autoflip_secure.federation.clients import usable_rows
from autoflip_secure.federation.measures import variance_between_clients, variance_over_coordinates
from autoflip_secure.interfaces import Exploration, Guidance


def energies(rows: Rows, weights: list[float]) -> Rows:
    return sum(w * (row / norm(row)) ** 2 for w, row in zip(weights, rows, strict=True))


@pytest.mark.parametrize("length", LENGTHS, ids=lambda x: f"{x:g}")
@pytest.mark.parametrize("method", ["robust", "plain", "linear"])
def test_landscape_and_guidance_are_finite_whatever_explorers_send(method: str, length: float) -> None:
    rows = cohort(length, 0)
    explored = explore(torch.arange(CLIENTS), torch.tensor(SAMPLES), rows, method, [[0.0]] * CLIENTS)
    squares, exact = sum(row**2 for row in rows.double().numpy()), rows.double().numpy()
    if method == "plain":
        expected = squares / squares.sum()
    else:
        shares = [float(a) * float(k) for a, k in zip(explored.agreement, explored.kept, strict=True)]
        shares = shares if method == "robust" else [float(k) for k in explored.kept]
        expected = energies(exact, [share / sum(shares) for share in shares])
    assert explored.energy.tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-7)
    assert_usable(explored)


def assert_usable(explored: Exploration) -> None:
    assert float(explored.energy.sum()) == pytest.approx(1, abs=1e-4)
    for kind in NORMALISATIONS:
        guidance = normalise(initial_guidance(explored).energy, LAYOUT, kind)
        assert bool(((guidance >= 0) & (guidance <= 1)).all())


@pytest.mark.parametrize("method", ["plain", "linear"])
@pytest.mark.parametrize("entry", [1e19, 3e38], ids=lambda x: f"{x:g}")
def test_landscape_of_explorers_who_all_lie(method: str, entry: float) -> None:
    """In single precision such rows have no squares. The server leaves them out before; this does not rely on it."""
    rows = torch.full((CLIENTS, P), entry)
    rows[:, ::2] *= -1
    assert_usable(explore(torch.arange(CLIENTS), torch.tensor(SAMPLES), rows, method, [[0.0]] * CLIENTS))


@pytest.mark.parametrize("length", LENGTHS, ids=lambda x: f"{x:g}")
def test_guidance_evolves_by_its_equation(length: float) -> None:
    rows, trust = cohort(length, 1), torch.tensor(SAMPLES) / sum(SAMPLES)
    begun = Guidance(ENERGY / ENERGY.sum(), torch.ones(P))
    found, exact, omega = evolve(begun, rows, trust, 0.1), rows.double().numpy(), trust.double().tolist()
    energy = 0.9 * begun.energy.double().numpy() + 0.1 * energies(exact, omega)
    assert found.energy.tolist() == pytest.approx(energy.tolist(), rel=1e-4)
    moved = sum(w * np.abs(row) for w, row in zip(omega, exact, strict=True))
    along = np.abs(sum(w * row for w, row in zip(omega, exact, strict=True)))
    assert found.parameter_agreement.tolist() == pytest.approx((0.9 + 0.1 * along / moved).tolist(), rel=1e-4)


@pytest.mark.parametrize("length", [*LENGTHS, 1e19], ids=lambda x: f"{x:g}")
def test_variances_in_the_record_are_exact(length: float) -> None:
    rows = cohort(length, 2)
    exact = statistics.fmean(statistics.pvariance(column) for column in rows.double().T.tolist())
    assert variance_between_clients(rows) == pytest.approx(exact, rel=1e-9)
    assert variance_over_coordinates(rows[LONG], None) == pytest.approx(
        statistics.pvariance(rows[LONG].double().tolist()), rel=1e-9
    )
    together = rows[:LONG] + length  # all of them far away, and as near to one another as single precision allows
    exact = statistics.fmean(statistics.pvariance(column) for column in together.double().T.tolist())
    assert variance_between_clients(together) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("clip", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("length", [*LENGTHS, 1e19, 3e38], ids=lambda x: f"{x:g}")
def test_no_row_is_longer_than_the_clip_norm(length: float, clip: float) -> None:
    """A sensitivity is no matter of rounding, not even where the factor has no digits in single precision."""
    rows = torch.full((1, P), length / 2 if length > 1e38 else length)
    assert norm(clip_to(rows, clip)[0].double().numpy()) <= clip


def test_what_the_server_lets_through() -> None:
    rows = torch.zeros(6, P)
    rows[1, 0], rows[2, 0], rows[3, 0], rows[4, 0], rows[5, 0] = 0.99e18, 1.01e18, 1e20, math.inf, math.nan
    assert usable_rows(rows).tolist() == [True, True, False, False, False, False]
