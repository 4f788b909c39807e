"""Epsilon over rounds: at every point that of the client that has paid most by then, each at its own delta."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest

from autoflip_secure.defenses.privacy import guarantees
from autoflip_secure.defenses.privacy.accountants import counted, rdp_epsilon
from autoflip_secure.defenses.privacy.guarantees import guarantee
from autoflip_secure.defenses.privacy.ledger import deltas, releases
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule
from autoflip_secure.records.privacy import OBSERVERS, Observer
from autoflip_secure.runtime.threads import one_thread

BASE = ReleaseSchedule(
    unit="sample", samples=(60, 60, 60), honest=(0, 1, 2), noise_multipliers=(1.0,) * 3, delta=None, batch_size=20,
    epochs=1, rounds=((0, 1), (2, 1), (2, 1), (2, 1)), loyal=frozenset(range(3)), explorers=(), exploration_epochs=1,
    early_stopping=False, sampling="fixed", cohort=2, noise="distributed", exploration_noise_multiplier=1.0,
    linear=True, post_processing=(),
)  # fmt: skip


def by_hand(schedule: ReleaseSchedule, number: int, observer: Observer, relation: str) -> float:
    """The ledger of a run that ends after so many rounds, client by client."""
    so_far = replace(schedule, rounds=schedule.rounds[:number])
    found, reason = releases(so_far, observer)
    assert not reason
    assert {release.relation for release in found} <= {relation}
    largest = 0.0
    for client in schedule.honest:
        count = counted(r for r in found if r.client in (client, None))
        delta = deltas(schedule)
        assert count is not None
        epsilon = rdp_epsilon(count, delta[client if client in delta else None])
        assert epsilon is not None
        largest = max(largest, epsilon)
    return largest


@pytest.fixture(autouse=True, scope="module")
def _by_rdp_alone() -> Iterator[None]:
    """The curve is RDP's, and the others take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guarantees, "MOST", 0)
        guarantee(BASE, "server")  # imports what it needs
        yield


CLIENTS = 5


def random_schedule(seed: int) -> ReleaseSchedule:
    rng = np.random.default_rng(seed)

    def some() -> tuple[int, ...]:
        return tuple(int(k) for k in np.flatnonzero(rng.random(CLIENTS) < rng.choice([0.2, 0.7])))

    rounds = tuple(some() for _ in range(rng.integers(1, 13)))
    unit: Literal["sample", "client"] = "sample" if seed % 2 else "client"
    return replace(
        BASE, unit=unit, samples=tuple(int(n) for n in rng.choice([40, 60, 100], CLIENTS)),
        honest=tuple(range(CLIENTS)), noise_multipliers=(float(rng.choice([1, 4])),) * CLIENTS, rounds=rounds,
        loyal=frozenset(range(CLIENTS)), explorers=some(), cohort=CLIENTS,
        linear=False,  # one proof at client level, so that no prefix of the run has another
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
@one_thread()
def test_the_curve_is_the_largest_of_all_clients_at_every_point(seed: int) -> None:
    schedule = random_schedule(seed)
    for observer in OBSERVERS:
        found = guarantee(schedule, observer)
        if not found.releases:
            continue
        assert [number for number, _ in found.over_rounds] == list(range(len(schedule.rounds) + 1))
        for number, epsilon in found.over_rounds:
            true = by_hand(schedule, number, observer, found.relation)
            assert true <= epsilon <= true + 0.00101, "rounded up, and by no more than a thousandth"
        assert all(before <= after for (_, before), (_, after) in pairwise(found.over_rounds))
        largest = max(entry.rdp or 0 for entry in found.clients)
        assert largest <= found.over_rounds[-1][1] <= largest + 0.00101


def test_who_pays_first_counts_first() -> None:
    """Client 0 alone takes part in round 1, client 1 in all others: the curve followed client 1, and began with 0.0."""
    schedule = replace(BASE, rounds=((0,), (1,), (1,), (1,)))
    found = guarantee(schedule, "server")
    curve = dict(found.over_rounds)
    alone = guarantee(replace(schedule, rounds=((0,),)), "server")
    assert curve[0] == 0
    assert curve[1] == alone.over_rounds[-1][1] > 2
    assert curve[2] == curve[1] < curve[3]


def test_every_client_has_a_delta_of_its_own() -> None:
    """More samples hide a client's sample better at one delta, and pay at a smaller one."""
    schedule = replace(BASE, samples=(60, 1000, 60), rounds=((1,), (0,)), delta=None)
    found = guarantee(schedule, "server")
    assert found.over_rounds[-1][1] == pytest.approx(max(e.rdp or 0 for e in found.clients), abs=1e-3)
    assert {entry.delta for entry in found.clients} == {0.1 / 60, 0.1 / 1000}


def test_the_curve_keeps_to_the_neighbours_of_the_guarantee() -> None:
    """Of the two proofs for a noised sum the one that counts for the run counts at every point."""
    schedule = replace(
        BASE, unit="client", samples=(50,) * 20, honest=tuple(range(20)), noise_multipliers=(4.0,) * 20,
        loyal=frozenset(range(20)),
        cohort=4, rounds=tuple(tuple((4 * t + k) % 20 for k in range(4)) for t in range(60)),
    )  # fmt: skip
    found = guarantee(schedule, "public")
    shorter = [replace(schedule, rounds=schedule.rounds[:n]) for n in range(1, 61)]
    assert len({releases(one, "public")[0][0].relation for one in shorter}) == 2, "or this says nothing"
    assert found.over_rounds[-1][1] == pytest.approx(max(e.rdp or 0 for e in found.clients), abs=1e-3)
    assert all(before <= after for (_, before), (_, after) in pairwise(found.over_rounds))


def test_after_a_release_without_a_bound_the_curve_ends() -> None:
    """Noise so weak that no order has a finite divergence."""
    weak = replace(BASE, noise_multipliers=(1e-200, 1.0, 1.0), rounds=((1,), (0,), (1,)))
    found = guarantee(weak, "server")
    assert [number for number, _ in found.over_rounds] == [0, 1]


def test_earlier_attempts_were_paid_for_before_the_first_round() -> None:
    one = guarantee(BASE, "server").over_rounds
    twice = guarantee(replace(BASE, earlier=(BASE,)), "server").over_rounds
    assert twice[0][1] == pytest.approx(one[-1][1], abs=1e-3)
    assert twice[-1][1] > one[-1][1]
