"""How well honest clients are hidden among the others who come to a round, and by whose noise."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import dp_accounting as dp
import pytest
from dp_accounting.rdp import RdpAccountant
from ledger_cells import CENTRAL, by_observer, cell_of

from autoflip_secure.defenses.privacy.guarantees import guarantee
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.scenarios.running.privacy_planning import ledger


def poor_crowd() -> Any:
    """30 of 100 clients misbehave, and each honest one brings its noise."""
    return cell_of(
        algorithm="fedavg", clients=100, cohort=10, rounds=30,
        privacy={"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0},
        attack={"kind": "gaussian_noise", "scope": 0.3}, training={"batch_size": 4},
    )  # fmt: skip


def test_rounds_to_which_many_honest_clients_came_hide_each_of_them_less() -> None:
    """Noise that participants bring tells how many they are; the rate is that of so many honest ones, of the honest."""
    cell = poor_crowd()
    public, _ = releases(schedule_of(cell), "public")
    assert {(r.relation, r.sampling, r.population) for r in public} == {("replace one client", "fixed", 70)}
    came = [int((~cell.malicious_clients[cell.cohort(t)]).sum()) for t in range(1, 31)]
    expected = {(3.0 * sqrt(min(1, h / 10)) / 2, h / 70): came.count(h) for h in came if h}
    found: dict[tuple[float, float], int] = {}
    for r in public:
        found[r.noise_multiplier, r.rate] = found.get((r.noise_multiplier, r.rate), 0) + r.steps
    assert found == expected
    assert sum(found.values()) == sum(h > 0 for h in came)
    assert max(rate for _, rate in found) > 0.1 > min(rate for _, rate in found), "the cohort's rate is 0.1 throughout"


def test_given_their_number_honest_participants_are_a_sample_without_replacement() -> None:
    """One honest client is in h / honest of the rounds with h honest ones, and not in the cohort's rate of them."""
    cell = poor_crowd()
    honest = (~cell.malicious_clients).nonzero().squeeze(1)
    one = int(honest[0])
    came: dict[int, list[bool]] = {}
    for number in range(1, 6001):
        cohort = cell.cohort(number)
        here = int((~cell.malicious_clients[cohort]).sum())
        came.setdefault(here, []).append(one in cohort.tolist())
    many = {h: ins for h, ins in came.items() if len(ins) > 300}
    assert len(many) >= 4
    for h, ins in many.items():
        rate = h / len(honest)
        assert abs(sum(ins) / len(ins) - rate) < 4 * sqrt(rate * (1 - rate) / len(ins))


def test_when_everybody_who_is_honest_came_nobody_hides_among_them() -> None:
    """Four of 2,000 are honest, and all came every time: what is public is a Gaussian mechanism, not amplified."""
    schedule = schedule_of(cell_of(algorithm="fedavg", privacy={**CENTRAL, "noise": "distributed"}))
    few = replace(
        schedule, samples=(10,) * 2000, noise_multipliers=(2.0,) * 2000, honest=(0, 1, 2, 3), loyal=frozenset(range(4)),
        rounds=((0, 1, 2, 3),) * 6, delta=0.01,
    )  # fmt: skip
    client = guarantee(few, "public").clients[0]
    exact = RdpAccountant().compose(dp.SelfComposedDpEvent(dp.GaussianDpEvent(2.0), 6)).get_epsilon(0.01)
    assert client.rdp == pytest.approx(exact, rel=5e-3)
    nobody = replace(few, rounds=((7, 8),) * 6)
    assert releases(nobody, "public")[0] == []


def test_explorers_who_bring_noise_cannot_be_added_or_removed_unseen() -> None:
    both = cell_of(algorithm="guidance_only", sampling="poisson", privacy=CENTRAL)
    public = by_observer(ledger(both))["public"]
    assert [(r.name, r.relation, r.noise_multiplier) for r in public.releases] == [
        ("exploration", "zero out one client", 2.0),
        ("updates", "zero out one client", 2.0),
    ]


def test_a_secure_sum_shows_the_server_the_noise_of_the_honest() -> None:
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0}
    cell = cell_of(algorithm="fedavg", privacy=privacy, attack={"kind": "gaussian_noise", "scope": 0.2})
    seen, _ = releases(replace(schedule_of(cell), secure_sum=True), "server")
    assert {r.noise_multiplier for r in seen} <= {3.0 * sqrt(h / 4) for h in range(1, 5)}
    rows, _ = releases(schedule_of(cell), "server")
    assert max(r.noise_multiplier for r in rows) < min(r.noise_multiplier for r in seen)
