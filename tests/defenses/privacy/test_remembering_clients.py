"""Clients that remember earlier rounds: secret cohorts of a fixed number hide nothing then, Poisson ones still do."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any

import numpy as np
import pytest
from ledger_cells import CENTRAL, by_observer, cell_of
from scipy.stats import norm

from autoflip_secure.defenses.privacy.dominating_pairs import profile
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.scenarios.running.privacy_planning import ledger

NOISE = 1.5  # standard deviation / clip norm
Y = np.linspace(-14, 14, 4001)


def divergence(one: np.ndarray, other: np.ndarray, alpha: float) -> float:
    return float(np.maximum(one - alpha * other, 0).sum() * (Y[1] - Y[0]))


def row(value: float) -> np.ndarray:
    return np.asarray(norm.pdf(Y, value, NOISE))


def test_in_cohorts_of_a_fixed_number_the_second_round_tells_more_than_its_pair() -> None:
    """One of three is drawn, each time anew. In round 1 all send -1, but for client 0 of the first data set, which
    sends 1. In round 2 client 0 sends 1 or -1, and the others send -1 if they were drawn before, else 1."""
    first = 8.0  # what was published in round 1: surely client 0 in the first data set, anybody in the second
    was_it = {1: norm.pdf(first, 1, NOISE) / 3, 0: norm.pdf(first, -1, NOISE) * 2 / 3}
    surely = was_it[1] / sum(was_it.values())
    assert surely > 0.99

    def second(own: float, chance: float) -> np.ndarray:
        """Given the chance that client 0 was drawn in round 1; else each of the others was in half of the cases."""
        again = (1 - chance) / 2
        return np.asarray(row(own) / 3 + 2 / 3 * (again * row(-1) + (1 - again) * row(1)))

    one, other = second(1, surely), second(-1, 1 / 3)
    for epsilon in (0.0, 0.2):
        proven = float(profile(NOISE / 2, 1 / 3, "replace", np.array([epsilon]))[0])
        assert divergence(one, other, np.exp(epsilon)) > 1.1 * proven
    without = row(1) / 3 + 2 / 3 * row(-1), row(-1) / 3 + 2 / 3 * row(-1)  # who remembers nothing
    assert divergence(*without, 1.0) <= 1.001 * float(profile(NOISE / 2, 1 / 3, "replace", np.array([0.0]))[0])


def test_poisson_cohorts_hide_a_client_that_remembers_as_one_that_does_not() -> None:
    """Whatever was published in round 1 and whatever row client 0 makes of having been there, or not."""
    rate, rng = 0.3, np.random.default_rng(5)
    for _ in range(40):
        first, (early, there, away) = rng.normal(0, 2), rng.uniform(-1, 1, 3)
        was = rate * norm.pdf(first, early, NOISE)
        chance = was / (was + (1 - rate) * norm.pdf(first, 0, NOISE))
        with_it = (1 - rate) * row(0) + rate * (chance * row(there) + (1 - chance) * row(away))
        for epsilon in (-0.1, 0.0, 0.3, 1.0):
            pairs = {"remove": (with_it, row(0)), "add": (row(0), with_it)}
            for way, (one, other) in pairs.items():
                proven = float(profile(NOISE, rate, way, np.array([epsilon]))[0])  # type: ignore[arg-type]
                assert divergence(one, other, np.exp(epsilon)) <= proven + 1e-6


def prunefl(every: int = 2, **more: Any) -> dict[str, Any]:
    pruner = {"kind": "prunefl", "init": "none", "bound": 0.1, "every": every, **more}
    return {"pruner": pruner, "aggregator": "mean"}


@pytest.mark.parametrize("observer", ["public", "another client"])
def test_every_participation_counts_where_a_server_adds_the_noise(observer: Any) -> None:
    cell = cell_of(algorithm=prunefl(), privacy=CENTRAL)
    found, reason = releases(schedule_of(cell), observer)
    assert reason == ""
    came = Counter((k, number % 2 == 0) for number in range(1, 7) for k in cell.cohort(number).tolist())
    counted = Counter[tuple[Any, bool]]()
    for one in found:
        assert (one.relation, one.sampling, one.rate) == ("zero out one client", "none", 1.0)
        beside = one.name == "updates, importance"
        assert one.noise_multiplier == pytest.approx(2 / sqrt(2) if beside else 2)
        counted[one.client, beside] += one.steps
    assert counted == came
    record = ledger(cell)
    assert record is not None
    assert any("cohorts amplify nothing" in note and "importance" in note for note in record.notes)


def test_a_target_holds_for_what_is_counted() -> None:
    target = {"kind": "client_level", "target_epsilon": 3.0}
    found = ledger(cell_of(algorithm=prunefl(), privacy=target, clients=40))
    assert found is not None
    assert 2.0 < (found.epsilon("public") or 0.0) <= 3.0
    assert dict(by_observer(found)["public"].over_rounds)[6] <= 3.001


@pytest.mark.parametrize(
    ("settings", "relation"),
    [
        ({"sampling": "poisson", "algorithm": prunefl()}, "add or remove one client"),
        ({"algorithm": prunefl(every=1)}, "replace one client"),  # sent and forgotten in every round
        ({"algorithm": prunefl(importance="update")}, "replace one client"),
    ],
)
def test_who_remembers_nothing_or_is_drawn_by_a_coin_is_hidden_as_ever(settings: Any, relation: str) -> None:
    cell = cell_of(privacy=CENTRAL, **settings)
    seen = by_observer(ledger(cell))["public"]
    assert seen.relation == relation
    assert all(one.sampling == settings.get("sampling", "fixed") for one in seen.releases)


def test_noise_of_the_clients_counts_for_every_participation_too() -> None:
    cell = cell_of(algorithm=prunefl(), privacy={**CENTRAL, "noise": "distributed"}, clients=40)
    found = releases(schedule_of(cell), "public")[0]
    assert {(one.relation, one.sampling) for one in found} == {("zero out one client", "none")}
    assert {round(one.noise_multiplier, 6) for one in found} == {2.0, round(2 / sqrt(2), 6)}
