"""What all clients send before training, in the ledger: one release, which nothing amplifies, beside the rounds'."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
from ledger_cells import CENTRAL, by_observer, cell_of
from sizes import every

from autoflip_secure.defenses.privacy.accountants import Mechanism, rdp_epsilon
from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.records.privacy import Release
from autoflip_secure.scenarios.running.privacy_planning import ledger

SNIP = {"pruner": {"kind": "snip", "bound": 0.1}, "aggregator": "mean"}
CLIENTS, COHORT, ROUNDS, SIGMA = 10, 4, 6, 2.0


def rows(found: list[Release]) -> list[tuple[str, int, float, str, str]]:
    return [(one.name, one.steps, round(one.noise_multiplier, 6), one.sampling, one.relation) for one in found]


@pytest.mark.parametrize(
    ("sampling", "sensitivity", "relation"),
    every(2, [("fixed", 2, "replace one client"), ("poisson", 1, "zero out one client")]),
)
def test_the_public_pays_once_for_the_first_mask_and_then_for_the_rounds(
    sampling: str, sensitivity: int, relation: str
) -> None:
    cell = cell_of(algorithm=SNIP, sampling=sampling, privacy=CENTRAL)
    found, reason = releases(schedule_of(cell), "public")
    assert reason == ""
    assert rows(found) == [
        ("preparation, gradient", 1, SIGMA / sensitivity, "none", relation),
        ("updates", ROUNDS, SIGMA / sensitivity, sampling, relation),
    ]
    assert (found[0].first_round, found[0].last_round, found[0].rate) == (0, 0, 1.0)
    assert "masks" in found[0].post_processing
    record = ledger(cell)
    (entry,) = by_observer(record)["public"].clients
    first = Mechanism(SIGMA / sensitivity, 1.0, "none")
    both = ((first, 1), (Mechanism(SIGMA / sensitivity, COHORT / CLIENTS, sampling), ROUNDS))  # type: ignore[arg-type]
    assert entry.rdp == rdp_epsilon(tuple(sorted(both)), entry.delta)
    plain = by_observer(ledger(cell_of(algorithm="fedavg", sampling=sampling, privacy=CENTRAL)))["public"].clients[0]
    assert entry.epsilon > plain.epsilon  # type: ignore[operator]
    assert entry.training is not None  # that of the updates alone
    assert entry.training < entry.epsilon  # type: ignore[operator]
    assert record is not None
    assert any("before training all clients send gradient" in note for note in record.notes)
    curve = dict(by_observer(record)["public"].over_rounds)
    assert curve[0] == pytest.approx(rdp_epsilon(((first, 1),), entry.delta), rel=1e-3)
    assert curve[ROUNDS] == pytest.approx(entry.rdp, rel=1e-3)


def test_a_trusted_server_sees_it_without_noise() -> None:
    found, reason = releases(schedule_of(cell_of(algorithm=SNIP, privacy=CENTRAL)), "server")
    assert "the server is trusted" in reason
    assert [(one.name, one.mechanism, one.noise_multiplier) for one in found] == [
        ("preparation, gradient", "none", 0.0),
        ("updates", "none", 0.0),
    ]


@pytest.mark.parametrize(
    ("observer", "secure", "shares"),
    [("server", False, 1), ("server", True, 8), ("another client", True, 7), ("public", True, 8)],
)
def test_where_clients_bring_the_noise_shares_of_the_honest_alone_count(
    observer: Any, secure: bool, shares: int
) -> None:
    """Every client adds sigma · bound / sqrt(n); two of ten may keep theirs, and another client knows its own."""
    settings: dict[str, Any] = {
        "privacy": {**CENTRAL, "noise": "distributed"},
        "attack": {"kind": "sign_flip", "clients": [0, 1]},
    }
    settings["secure_sum"] = {"parties": 2, "updates": True} if secure else None
    schedule = schedule_of(cell_of(algorithm=SNIP, **settings))
    (one,) = [one for one in releases(schedule, observer)[0] if one.name == "preparation, gradient"]
    sensitivity = 2 if one.relation == "replace one client" else 1
    assert one.noise_multiplier * sensitivity == pytest.approx(SIGMA * sqrt(shares / CLIENTS))


def test_several_channels_before_training_are_one_mechanism() -> None:
    schedule = schedule_of(cell_of(algorithm=SNIP, sampling="poisson", privacy=CENTRAL))
    found, _ = releases(replace(schedule, prepared=("a", "b", "c", "d")), "public")
    assert (found[0].name, found[0].noise_multiplier) == ("preparation, a, b, c, d", SIGMA / 2)


def test_a_target_counts_the_preparation() -> None:
    target = {"kind": "client_level", "target_epsilon": 3.0}
    ours, plain = (cell_of(algorithm=one, sampling="poisson", privacy=target) for one in (SNIP, "fedavg"))
    assert ours.noise_multipliers[0] > 1.05 * plain.noise_multipliers[0]
    record = ledger(ours)
    assert record is not None
    epsilon = record.epsilon("public")
    assert epsilon is not None
    assert 2.0 < epsilon <= 3.0


def test_no_proof_covers_it_beside_dp_sgd() -> None:
    cell = cell_of(privacy={"kind": "sample_level", "noise_multiplier": 1.0})
    schedule = replace(schedule_of(cell), prepared=("gradient",))
    assert "DP-SGD covers updates alone" in releases(schedule, "public")[1]
