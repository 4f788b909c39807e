"""The ledger: every release of a real schedule, at sample and at client level, and what each observer is proven."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import dp_accounting as dp
import pytest
from dp_accounting.rdp import RdpAccountant
from ledger_cells import CENTRAL, by_observer, cell_of, three

from autoflip_secure.defenses.privacy.guarantees import guarantee
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.reports.study.privacy import ledger_rows, proven
from autoflip_secure.scenarios.running.privacy_planning import ledger


def test_sample_level_counts_every_step_of_every_participation_and_of_the_exploration() -> None:
    cell = cell_of(
        privacy={"kind": "sample_level", "noise_multiplier": 1.2}, attack={"kind": "gaussian_noise", "scope": 0.2}
    )
    both = by_observer(ledger(cell))
    assert both["server"].clients == both["public"].clients == both["another client"].clients
    assert {g.relation for g in both.values()} == {"zero out one sample"}
    malicious = set(cell.malicious_clients.nonzero().squeeze(1).tolist())
    assert {r.client for r in both["server"].releases} == set(range(10)) - malicious
    for found in both["server"].clients:
        n = len(cell.problem.clients[found.client])
        participations = sum(found.client in cell.cohort(t).tolist() for t in range(1, 7))
        steps = -(-n // 16) * (2 * participations + 3)
        oracle = RdpAccountant().compose(
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(16 / n, dp.GaussianDpEvent(1.2)), steps)
        )
        assert found.delta == pytest.approx(0.1 / n)
        assert found.rdp == pytest.approx(oracle.get_epsilon(0.1 / n), rel=1e-2)
        assert found.training is not None
        assert found.training < found.rdp
    worst = max(c.rdp for c in both["server"].clients if c.rdp is not None)
    assert both["server"].over_rounds[-1][1] == pytest.approx(worst, abs=2e-3)
    assert [r for r, _ in both["server"].over_rounds] == list(range(7))
    assert any(c.prv is not None and c.prv < worst for c in both["server"].clients)
    assert "agreement scores" in both["server"].releases[0].post_processing


def test_without_exploration_training_is_everything() -> None:
    for client in by_observer(ledger(cell_of(algorithm="fedavg", privacy="sample_level")))["public"].clients:
        assert client.training == client.epsilon


def test_a_target_is_kept_by_every_client() -> None:
    cell = cell_of(privacy={"kind": "sample_level", "target_epsilon": 3.0})
    assert len(set(cell.noise_multipliers)) > 1
    for client in by_observer(ledger(cell))["public"].clients:
        assert client.rdp is not None
        if client.rdp > 0:
            assert 2.9 < client.rdp <= 3.0


@pytest.mark.parametrize("noise", [{"noise_multiplier": 2.0}, {"target_epsilon": 3.0}])
def test_the_largest_epsilon_is_that_of_the_tightest_accountant(noise: dict[str, float]) -> None:
    """Clients of 143 and 144 samples: none of them takes part in less of the same than another."""
    server = by_observer(ledger(cell_of(privacy={"kind": "sample_level", **noise})))["server"]
    tightest = []
    for client in server.clients:
        tightest.append(min(three([r for r in server.releases if r.client == client.client], client.delta)))
        assert client.epsilon is not None
        assert client.epsilon >= tightest[-1]
    assert max(c.epsilon or 0 for c in server.clients) == max(tightest)


def test_central_noise_is_amplified_for_the_public_and_no_protection_from_the_server() -> None:
    both = by_observer(ledger(cell_of(algorithm="fedavg", sampling="poisson", privacy=CENTRAL)))
    assert not both["server"].proven
    assert "trusted" in both["server"].reason
    assert [(r.mechanism, r.steps) for r in both["server"].releases] == [("none", 6)]
    (client,) = both["public"].clients
    oracle = RdpAccountant().compose(dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.4, dp.GaussianDpEvent(2.0)), 6))
    assert client.rdp == pytest.approx(oracle.get_epsilon(0.01), rel=5e-3)
    assert both["public"].relation == "add or remove one client"


def test_fixed_cohorts_are_about_replacing_a_client_with_twice_the_sensitivity() -> None:
    public = by_observer(ledger(cell_of(algorithm="fedavg", privacy=CENTRAL)))["public"]
    (release,) = public.releases
    assert (release.relation, release.sampling, release.noise_multiplier) == ("replace one client", "fixed", 1.0)
    poisson = by_observer(ledger(cell_of(algorithm="fedavg", sampling="poisson", privacy=CENTRAL)))["public"]
    numeric = public.clients[0].prv, public.clients[0].pld
    assert all(epsilon is not None and epsilon < 0.9 * (public.clients[0].rdp or 0) for epsilon in numeric)
    assert (public.clients[0].rdp or 0) > (poisson.clients[0].rdp or 0)


def test_distributed_noise_is_a_share_for_the_server_and_whole_for_the_public() -> None:
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0}
    attack = {"kind": "gaussian_noise", "scope": 0.2}
    cell = cell_of(algorithm="fedavg", privacy=privacy, attack=attack)
    both = by_observer(ledger(cell))
    for release in both["server"].releases:
        participations = sum(release.client in cell.cohort(t).tolist() for t in range(1, 7))
        assert (release.steps, release.noise_multiplier) == (participations, 3.0 / sqrt(4))
        assert release.sampling == "none"
    honest = [4 - int(cell.malicious_clients[cell.cohort(t)].sum()) for t in range(1, 7)]
    found = {r.noise_multiplier for r in both["public"].releases}
    assert found <= {3.0 * sqrt(h / 4) for h in honest}
    assert both["public"].relation == "zero out one client"
    scoring = by_observer(ledger(cell_of(algorithm="agreement_only", privacy=privacy)))
    assert scoring["public"].clients == scoring["server"].clients  # what is made of rows is post-processing
    assert scoring["public"].releases[0].name == "exploration"


@pytest.mark.parametrize("algorithm", ["fedavg", "autoflip"])
def test_who_takes_part_in_more_of_the_same_pays_no_less(algorithm: str) -> None:
    """By the same accountant: PRV and PLD are asked for the client that pays most, and hold for those that pay less."""
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 6.0}
    server = by_observer(ledger(cell_of(algorithm=algorithm, rounds=12, privacy=privacy)))["server"]
    steps = {r.client: r.steps for r in server.releases if r.client is not None}
    most = max(steps.values())
    assert len(set(steps.values())) > 2
    worst = max(c.epsilon for c in server.clients if c.epsilon is not None)
    for client in server.clients:
        mine = [r for r in server.releases if r.client in (client.client, None)]
        bounds = three(mine, client.delta)
        assert client.epsilon is not None
        assert client.rdp == bounds[0]
        assert min(bounds) <= client.epsilon <= worst
        assert (client.epsilon == worst) >= (steps[client.client] == most)
        assert client.training is not None
        assert client.training >= min(three([r for r in mine if r.name == "updates"], client.delta))
    first, *others = sorted(c.client for c in server.clients if c.epsilon == worst and c.client is not None)
    pays = f"client {first} and {len(others)} more pay most" if others else f"client {first} pays most"
    assert f"({pays})" in proven(server)


def test_the_table_shows_what_every_client_pays_before_who_pays_most() -> None:
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 6.0}
    record = ledger(cell_of(algorithm="autoflip", rounds=12, privacy=privacy))
    assert record is not None
    rows, left_out = ledger_rows(record, most=3)
    server = [row for row in rows if "the server" in row["seen by"]]  # who sees the same shares the rows
    assert [row["release"] for row in server] == ["exploration", "updates", "updates"]
    assert int(server[1]["steps"]) >= int(server[2]["steps"])
    assert left_out == 1 + 10 - 3


def test_of_two_proofs_for_the_public_the_smaller_epsilon_counts() -> None:
    """Many clients and few rounds each: who takes part hides them better than zeroing out tells, and the reverse."""
    privacy = {"kind": "client_level", "noise": "distributed", "noise_multiplier": 3.0}
    schedule = schedule_of(cell_of(algorithm="fedavg", privacy=privacy))
    few = guarantee(schedule, "public")
    server = guarantee(replace(schedule, secure_sum=True), "server")
    assert few.relation == "zero out one client"
    assert few.clients[0].epsilon == server.clients[0].epsilon
    crowd = replace(
        schedule,
        samples=(10,) * 2000,
        honest=tuple(range(2000)),
        noise_multipliers=(3.0,) * 2000,
        rounds=((0, 1, 2, 3),) * 40,
        loyal=frozenset(range(2000)),
    )
    many = guarantee(crowd, "public")
    assert many.relation == "replace one client"
    assert {r.noise_multiplier for r in many.releases} == {1.5}
    epsilon, other = many.clients[0].epsilon, guarantee(replace(crowd, secure_sum=True), "server").clients[0].epsilon
    assert epsilon is not None
    assert other is not None
    assert epsilon < other


def test_a_local_rule_that_needs_the_landscape_pays_for_the_exploration() -> None:
    """What it makes of released deviations, and what it does with noised gradients, is post-processing."""
    plain, pulled, scaled = (
        by_observer(ledger(cell_of(algorithm=name, privacy={"kind": "sample_level", "noise_multiplier": 1.2})))[
            "server"
        ]
        for name in ("fedavg", "fedprox", "fedlex")
    )
    assert plain.clients == pulled.clients
    after = {client.client: client for client in scaled.clients}
    for before in plain.clients:
        assert before.rdp is not None
        assert (found := after[before.client].rdp) is not None
        assert after[before.client].training == before.training
        assert found > before.rdp
    assert any(r.name == "exploration" for r in scaled.releases)
    assert "what the local rule makes of the landscape" in scaled.releases[0].post_processing
    assert "guidance and masks" not in scaled.releases[0].post_processing


@pytest.mark.parametrize("unit", ["sample_level", "client_level"])
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"server_lr": 0.5}, ["steps times the server's learning rate"]),
        ({"server_momentum": 0.9}, ["the server's momentum"]),
        (
            {"server_momentum": 0.9, "server_lr": 0.5},
            ["steps times the server's learning rate", "the server's momentum"],
        ),
    ],
)
def test_what_the_server_makes_of_its_step_is_named_and_costs_nothing(
    unit: str, settings: dict[str, Any], named: list[str]
) -> None:
    plain, moved = (
        by_observer(ledger(cell_of(algorithm="fedavg", privacy={"kind": unit, "noise_multiplier": 1.2}, **one)))
        for one in ({}, settings)
    )
    for observer, found in moved.items():
        before = plain[observer]
        assert found.clients == before.clients
        for release, usual in zip(found.releases, before.releases, strict=True):
            assert release.post_processing == [*named, "the global models and their accuracy"]
            assert usual.post_processing == ["the global models and their accuracy"]
