"""Who looks: the public, the server, another client, and malicious clients that were honest once. Oracles by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from math import exp, log, log1p, sqrt
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.integrate import trapezoid
from scipy.stats import norm
from sizes import sized

from autoflip_secure.defenses.privacy.accountants import Mechanism, rdp_curve
from autoflip_secure.defenses.privacy.cohort_views import known_cohorts, unknown_cohorts
from autoflip_secure.defenses.privacy.guarantees import guarantee
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule, schedule_of
from autoflip_secure.records.privacy import Guarantee, Observer
from autoflip_secure.records.rounding import upper_text
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger

ROOT = Path(__file__).parents[3]
CENTRAL = {"kind": "client_level", "noise_multiplier": 2.0}
DISTRIBUTED = {**CENTRAL, "noise": "distributed"}
ORDERS = (2.0, 5.0, 20.0)


def cell_of(**given: Any) -> Any:
    base: dict[str, Any] = {
        "clients": 10, "cohort": 4, "rounds": 6, "seeds": [31], "model": {"kind": "mlp", "hidden": [8]},
        "training": {"batch_size": 4}, "partition": "iid", "algorithm": "fedavg",
    }  # fmt: skip
    spec = resolve(Document("here", {**base, **given})).cells[0]
    return CellBuilder().cell(spec, spec, torch.device("cpu"))


def against(observer: Observer, **given: Any) -> Guarantee:
    return guarantee(schedule_of(cell_of(**given)), observer)


# ------------------------------------------------------------------------------------------------------ another client


def sampled_without_replacement(rate: float, noise: float, rounds: int, delta: float) -> float:
    """The divergence of the pair that dominates replacing one, integrated, and the conversion of Balle et al."""
    x = np.linspace(0.5, 20 * noise, 100_001)
    without, ratio = norm.pdf(x, 0, noise), 1 + rate * np.expm1((2 * x - 1) / (2 * noise**2))
    best = float("inf")
    for order in range(2, 12):
        excess = without * (ratio**order - ratio) + without * (ratio ** (1.0 - order) - 1)
        renyi = log1p(float(trapezoid(excess, x))) / (order - 1)
        best = min(best, rounds * renyi + log((order - 1) / order) - (log(delta) + log(order)) / (order - 1))
    return best


def test_a_client_that_knows_whether_it_was_drawn_learns_more_about_the_others() -> None:
    """5 of 20, sigma 2, 30 rounds: in rounds that it is not in, 5 of the other 19 are. The docs say so."""
    given = {"clients": 20, "cohort": 5, "rounds": 30, "privacy": CENTRAL}
    public, another = against("public", **given), against("another client", **given)
    proven = []
    for found, population in ((public, 20), (another, 19)):
        (release,), (client,) = found.releases, found.clients
        assert (release.relation, release.noise_multiplier, release.steps) == ("replace one client", 1.0, 30)
        assert (release.rate, release.population) == (5 / population, population)
        assert client.rdp == pytest.approx(sampled_without_replacement(5 / population, 1.0, 30, 0.005), rel=1e-2)
        assert client.prv is not None
        assert client.rdp is not None
        assert client.prv < client.rdp
        proven.append((client.prv, client.rdp))
    assert proven[0] < proven[1]
    assert proven[0][1] < proven[1][1]
    told = f"ε ≤ {upper_text(proven[0][0])} against the public, {upper_text(proven[1][0])} against such a client (PRV"
    assert told in " ".join((ROOT / "docs" / "threat_model.md").read_text(encoding="utf-8").split())
    assert "cohorts of which this observer knows nothing" in public.reason
    assert "whether it was drawn itself" in another.reason


def test_independent_coins_and_samples_of_ones_own_tell_a_client_nothing_about_others() -> None:
    for asked in ({"sampling": "poisson", "privacy": CENTRAL}, {"privacy": "sample_level"}):
        public, another = against("public", **asked), against("another client", **asked)
        assert another.clients == public.clients
        assert another.relation == public.relation


def test_rows_that_the_server_sees_are_all_that_scores_are_made_of() -> None:
    """Its own row is no part of another client's, so such a client is in no better place than the public."""
    given = {"algorithm": "agreement_only", "privacy": DISTRIBUTED}
    assert against("another client", **given).clients == against("public", **given).clients


def test_where_everybody_else_takes_part_nobody_hides() -> None:
    both = against("another client", clients=4, cohort=4, privacy=CENTRAL)
    assert [(r.rate, r.population, r.noise_multiplier) for r in both.releases] == [(1.0, 3, 1.0)]
    assert against("another client", clients=1, cohort=1, privacy=CENTRAL).releases == []


def test_a_target_holds_against_other_clients_too() -> None:
    cell = cell_of(
        clients=20, cohort=5, rounds=8, privacy={"kind": "client_level", "target_epsilon": 4.0, "accountant": "prv"}
    )
    record = ledger(cell)
    assert record is not None
    worst, public = record.epsilon("another client"), record.epsilon("public")
    assert worst is not None
    assert public is not None
    assert public < worst <= 4.0
    assert worst > 3.9


Crowd = tuple[int, int, list[list[int]], frozenset[int]]


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    """Few clients, how many a round, those of each round first, and who never misbehaves."""
    clients = draw(st.integers(2, 8))
    orders = draw(st.lists(st.permutations(range(clients)), min_size=1, max_size=6))
    loyal = draw(st.frozensets(st.integers(0, clients - 1), min_size=1))
    return clients, draw(st.integers(1, clients)), orders, loyal


def schedule_for(crowd: Crowd) -> ReleaseSchedule:
    """Each participant brings a share of the noise, and the server sees sums."""
    clients, cohort, rounds, loyal = crowd
    return ReleaseSchedule(
        unit="client", samples=(10,) * clients, honest=tuple(sorted(loyal)), noise_multipliers=(3.0,) * clients,
        delta=0.01, batch_size=4, epochs=1, rounds=tuple(tuple(sorted(one[:cohort])) for one in rounds), loyal=loyal,
        explorers=(), exploration_epochs=1, early_stopping=False, sampling="fixed", cohort=cohort, noise="distributed",
        exploration_noise_multiplier=3.0, linear=True, post_processing=(), secure_sum=True,
    )  # fmt: skip


def renyi(parts: list[tuple[float, float]]) -> np.ndarray:
    """RDP at :data:`ORDERS` of one release each of (noise, rate) on a cohort without replacement."""
    return sum((rdp_curve(Mechanism(noise, rate, "fixed"), ORDERS) for noise, rate in parts), np.zeros(len(ORDERS)))


@given(crowds())
@settings(max_examples=sized(25, 400), deadline=None)
def test_what_is_counted_is_no_less_than_what_any_other_client_sees(crowd: Crowd) -> None:
    """One observer at a time (-1: the public): what it knows of rounds, its own and others' noise taken off."""
    schedule = schedule_for(crowd)
    central = replace(schedule, noise="central", secure_sum=False)
    views = unknown_cohorts(schedule, another=True).items()
    claimed = renyi([(seen.noise_multiplier, seen.rate) for seen, numbers in views for _ in numbers])
    for me in range(-1, len(schedule.samples)):
        others = schedule.loyal - {me}
        came = {cohort: len(others.intersection(cohort)) for cohort in schedule.rounds}
        noise = {cohort: 3.0 * sqrt(n / schedule.cohort) for cohort, n in came.items()}
        seen_by_me = [(noise[one], came[one] / len(others)) for one in schedule.rounds if came[one]]
        assert (claimed >= renyi(seen_by_me) * (1 - 1e-9)).all()
        whole_noise = unknown_cohorts(central, another=me >= 0).items()
        counted_whole = renyi([(seen.noise_multiplier, seen.rate) for seen, numbers in whole_noise for _ in numbers])
        assert (counted_whole >= renyi([(3.0, rate) for _, rate in seen_by_me]) * (1 - 1e-9)).all()
        for k in others:
            counted = known_cohorts(schedule, k, rows=False, another=True).items()
            known = sum(1 / noise[one] ** 2 for one in schedule.rounds if k in one)
            assert sum(len(numbers) / left**2 for left, numbers in counted) >= known * (1 - 1e-9)


@pytest.mark.parametrize(("loyal", "relation"), [(8, "zero out one client"), (400, "replace one client")])
def test_of_two_proofs_against_another_client_the_smaller_counts(loyal: int, relation: str) -> None:
    """In a small crowd cohorts hide nobody, so what is counted is a client that takes its own noise off sums."""
    rounds = [[0, 1, 2, 3], [0, 1, 4, 5], [2, 3, 6, 7]]
    schedule = schedule_for((400, 4, rounds, frozenset(range(loyal))))
    found = guarantee(schedule, "another client")
    assert found.relation == relation
    if loyal == 8:
        pays = [(r.steps, r.noise_multiplier) for r in found.releases if r.client == 0]
        assert pays == [(2, 3 * sqrt(3 / 4))], "client 1 is in both, and knows its own share"
    else:
        pays = [(r.steps, r.noise_multiplier, r.rate) for r in found.releases]
        assert pays == [(1, 1.5, 4 / 399), (2, 1.5 * sqrt(3 / 4), 4 / 399)]


# -------------------------------------------------------------------------------------------- who turns malicious later


def test_who_turns_bad_later_hands_over_its_early_noise() -> None:
    """Bad from round 4 on: the noise of rounds 1 to 3 is counted without its share all the same."""
    late = {"kind": "gaussian_noise", "scope": 0.3, "window": {"first": 4}, "explorers": False}
    cell = cell_of(clients=10, cohort=6, privacy=DISTRIBUTED, attack=late)
    assert not cell.malicious_in(1).any()
    schedule = replace(schedule_of(cell), secure_sum=True)
    found, _ = releases(schedule, "server")
    ever = set(cell.malicious_clients.nonzero().squeeze(1).tolist())
    expected: dict[float, int] = {}
    for number in range(1, 7):
        cohort = set(cell.cohort(number).tolist())
        noise = 2.0 * sqrt(len(cohort - ever) / 6)
        expected[noise] = expected.get(noise, 0) + len(cohort - ever)
    counted: dict[float, int] = {}
    for release in found:
        counted[release.noise_multiplier] = counted.get(release.noise_multiplier, 0) + release.steps
    assert counted == pytest.approx(expected)
    public = unknown_cohorts(schedule, another=False)
    assert {(seen.drawn, seen.population): len(numbers) for seen, numbers in public.items()} == {
        (honest, 7): came
        for honest, came in Counter(len(set(cell.cohort(n).tolist()) - ever) for n in range(1, 7)).items()
    }


# ------------------------------------------------------------------------------------------------------- zero out, add


def mixture(gradients: tuple[float, ...], rate: float, noise: float, x: np.ndarray) -> np.ndarray:
    """Density of the noised sum of a Poisson batch, over all batches."""
    density = np.zeros_like(x)
    for drawn in product((0, 1), repeat=len(gradients)):
        chance = rate ** sum(drawn) * (1 - rate) ** (len(drawn) - sum(drawn))
        density += chance * norm.pdf(x, sum(g for g, d in zip(gradients, drawn, strict=True) if d), noise)
    return density


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=4), st.floats(0.05, 1), st.floats(0.5, 3), st.floats(0, 2)
)  # fmt: skip
@settings(max_examples=sized(15, 200), deadline=None)
def test_zeroing_a_sample_out_is_dominated_by_the_pair_that_the_accountants_compose(
    gradients: list[float], rate: float, noise: float, epsilon: float
) -> None:
    """One step on one coordinate: delta by integration, both ways, beside that of (1-q)N(0) + qN(1) and N(0)."""
    x = np.linspace(-25, 25, 2501)
    width = x[1] - x[0]
    here, gone = (mixture((first, *gradients[1:]), rate, noise, x) for first in (gradients[0], 0.0))
    upper, lower = mixture((1.0,), rate, noise, x), mixture((0.0,), rate, noise, x)
    for ours, theirs in (((here, gone), (upper, lower)), ((gone, here), (lower, upper))):
        deltas = [np.maximum(p - exp(epsilon) * q, 0).sum() * width for p, q in (ours, theirs)]
        assert deltas[0] <= deltas[1] + 2e-4  # twice what the grid can be wrong by
