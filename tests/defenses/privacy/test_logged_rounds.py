"""The ledger of a log: every row of its table by dp-accounting, by hand, and by the ledger of the same run here."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, exp, sqrt
from typing import Any

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_cells import by_observer, cell_of
from scipy.optimize import brentq
from scipy.special import ndtr
from sizes import every, sized

from autoflip_secure.defenses.privacy.guarantees import account
from autoflip_secure.defenses.privacy.logged_rounds import LoggedFederation, LoggedRound, account_of
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.records.privacy import OBSERVERS, Guarantee

DELTA = 1e-5
ROUNDS = ((0, 1, 2), (1, 2, 3), (0, 4, 5), (2, 3, 4), (0, 1, 5), (0, 2, 4))


def log_of(sigma: float = 2.0, **more: Any) -> LoggedFederation:
    """Six rounds of three of eight clients; nothing is secret."""
    base: dict[str, Any] = {
        "unit": "client", "clients": 8, "delta": DELTA, "noise": "central", "linear": True, "secure_sum": False,
        "in_advance": True, "colluders": frozenset(),
        "rounds": tuple(LoggedRound(n, people, len(people), sigma) for n, people in enumerate(ROUNDS, 1)),
    }  # fmt: skip
    return LoggedFederation(**{**base, **more})


def found(log: LoggedFederation) -> Mapping[str, Guarantee]:
    return by_observer(account_of(log))


def epsilons(guarantee: Guarantee) -> dict[int | None, float]:
    return {entry.client: entry.epsilon or float("nan") for entry in guarantee.clients}


def exactly(*parts: tuple[float, int]) -> float:
    """Epsilon of (noise / sensitivity, steps) that are not sampled: one Gaussian mechanism (Balle and Wang 2018)."""
    mu = sqrt(sum(steps / noise**2 for noise, steps in parts))
    return float(
        brentq(lambda e: ndtr(mu / 2 - e / mu) - exp(e) * ndtr(-mu / 2 - e / mu) - DELTA, 0, mu * (mu / 2 + 10))
    )


def by_google(*parts: tuple[float, float, int]) -> float:
    """Epsilon of (noise / sensitivity, rate, steps) by dp-accounting's PLD, the tightest there is."""
    accountant = dp_accounting.pld.PLDAccountant()
    for noise, rate, steps in parts:
        accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)), steps)
    return float(accountant.get_epsilon(DELTA))


def by_google_rdp(noise: float, rate: float, steps: int) -> float:
    """Without replacement, neighbours replace one: dp-accounting knows it by RDP alone (Wang et al. 2019)."""
    accountant = RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE)
    population = 1000
    event = dp_accounting.SampledWithoutReplacementDpEvent(
        population, round(rate * population), dp_accounting.GaussianDpEvent(noise)
    )
    accountant.compose(event, steps)
    return float(accountant.get_epsilon(DELTA))


def test_every_participation_counts_where_cohorts_are_known() -> None:
    """Client 0 came four times, client 3 twice; the server is trusted."""
    guarantees = found(log_of())
    for observer in ("public", "another client"):
        own = epsilons(guarantees[observer])
        came = {client: sum(client in people for people in ROUNDS) for client in range(6)}
        assert set(own) == set(came)
        assert max(own.values()) == pytest.approx(exactly((2.0, 4)), rel=0.02)
        assert all(own[k] >= exactly((2.0, n)) - 1e-3 for k, n in came.items())
        assert guarantees[observer].relation == "zero out one client"
    assert not guarantees["server"].proven
    assert "trusted" in guarantees["server"].reason


def test_poisson_cohorts_amplify_for_who_does_not_know_them() -> None:
    guarantees = found(log_of(1.2, sampling="poisson", rate=0.1, secret_from=frozenset({"public"})))
    public = guarantees["public"]
    assert public.relation == "add or remove one client"
    assert epsilons(public)[None] == pytest.approx(by_google((1.2, 0.1, 6)), abs=0.02)
    assert epsilons(public)[None] >= by_google((1.2, 0.1, 6)) - 1e-3
    assert guarantees["another client"].relation == "zero out one client", "it is said to know who takes part"


def test_cohorts_of_a_fixed_size_replace_one_client_at_half_the_noise() -> None:
    """3 of 8, as another client 3 of 7; many clients, so that amplification pays."""
    rounds = tuple(LoggedRound(number, None, 50, 3.0) for number in range(1, 31))
    secret = frozenset({"public", "another client"})
    log = log_of(rounds=rounds, clients=1000, sampling="fixed", secret_from=secret)
    public, other = (found(log)[observer] for observer in ("public", "another client"))
    assert public.relation == other.relation == "replace one client"
    (release,) = public.releases
    assert (release.rate, release.population, release.noise_multiplier) == (0.05, 1000, 1.5)
    (release,) = other.releases
    assert (release.rate, release.population) == (50 / 999, 999)
    assert 0 < epsilons(public)[None] < epsilons(other)[None]
    assert epsilons(public)[None] <= by_google_rdp(1.5, 0.05, 30), "Wang's bound is above that of the dominating pair"


def test_the_smaller_of_two_accounts_counts() -> None:
    """At a high rate knowing the cohorts costs less than half of the noise."""
    secret = frozenset({"public"})
    log = log_of(sampling="fixed", secret_from=secret)
    assert found(log)["public"].relation == "zero out one client"
    assert epsilons(found(log)["public"]) == epsilons(found(log_of())["public"])


@pytest.mark.parametrize(
    ("secure", "linear", "shares"),
    [
        (False, True, {"server": 1, "public": 3, "another client": 2}),
        (True, True, {"server": 3, "public": 3, "another client": 2}),
        (False, False, {"server": 1, "public": 1, "another client": 1}),
    ],
)
def test_noise_of_clients_adds_up_in_a_sum_alone(secure: bool, linear: bool, shares: dict[str, int]) -> None:
    guarantees = found(log_of(noise="distributed", secure_sum=secure, linear=linear))
    for observer, count in shares.items():
        worst = max(epsilons(guarantees[observer]).values())
        assert worst == pytest.approx(exactly((2.0 * sqrt(count), 4)), rel=0.02, abs=0.02), observer


def test_noise_of_who_colludes_does_not_count() -> None:
    """Clients 1 and 5: round 1 has two shares left, round 5 has one."""
    log = log_of(noise="distributed", secure_sum=True, colluding=2, colluders=frozenset({1, 5}))
    server = found(log)["server"]
    assert set(epsilons(server)) == {0, 2, 3, 4}
    parts = [(2.0 * sqrt(left), 1) for left in (2, 2, 1, 3)]  # rounds 1, 3, 5, 6
    assert epsilons(server)[0] == pytest.approx(exactly(*parts), rel=0.02)
    unknown = found(log_of(noise="distributed", secure_sum=True, colluding=2, colluders=None))["server"]
    assert set(epsilons(unknown)) == set(range(6)), "anybody may be one of them"
    assert epsilons(unknown)[0] == pytest.approx(exactly((2.0, 4)), rel=0.02), "at least one of three is left"


def test_where_only_numbers_are_known_every_round_counts_for_everybody() -> None:
    rounds = tuple(LoggedRound(number, None, 3, 2.0) for number in range(1, 7))
    assert epsilons(found(log_of(rounds=rounds))["public"]) == {None: pytest.approx(exactly((2.0, 6)), rel=0.02)}


def test_rounds_with_other_noise_compose() -> None:
    rounds = (LoggedRound(1, (0, 1), 2, 2.0), LoggedRound(2, (0,), 1, 5.0), LoggedRound(3, (), 0, 0.0))
    own = epsilons(found(log_of(rounds=rounds))["public"])
    assert own[0] == pytest.approx(exactly((2.0, 1), (5.0, 1)), rel=0.02)


def test_samples_pay_for_every_step_of_every_participation() -> None:
    rounds = (
        LoggedRound(1, (0, 1), 2, 1.5, (0.1, 0.02), (10, 5)),
        LoggedRound(2, (1,), 1, 1.5, (0.02,), (5,)),
    )
    log = log_of(unit="sample", noise="distributed", rounds=rounds, secret_batches=True)
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.PoissonSampledDpEvent(0.02, dp_accounting.GaussianDpEvent(1.5)), 10)
    renyi = float(accountant.get_epsilon(DELTA))
    for observer in OBSERVERS:
        guarantee = found(log)[observer]
        assert guarantee.relation == "zero out one sample"
        own = epsilons(guarantee)
        assert own[0] == pytest.approx(by_google((1.5, 0.1, 10)), abs=0.03)
        assert by_google((1.5, 0.02, 10)) - 1e-3 < own[1] < 1.01 * renyi, "who pays less is known by RDP alone"
    known = found(log_of(unit="sample", noise="distributed", rounds=rounds))["public"]
    assert epsilons(known)[1] == pytest.approx(exactly((1.5, 10)), rel=0.1), "nothing is amplified"


def test_what_is_not_proven_has_a_reason_and_no_number() -> None:
    cases = {
        "in advance": log_of(in_advance=False),
        "training losses": log_of(bare=dict.fromkeys(OBSERVERS, "training losses")),
        "no noise in round 1": log_of(sigma=0.0),
        "not a plain sum": log_of(linear=False),
    }
    for words, log in cases.items():
        for observer in OBSERVERS:
            guarantee = found(log)[observer]
            assert (guarantee.proven, guarantee.clients) == (False, [])
            assert words in guarantee.reason or observer == "server"
            assert all(release.reason for release in guarantee.releases)
    only = found(log_of(bare={"server": "losses"}, noise="distributed"))
    assert not only["server"].proven
    assert only["public"].proven


LOGS = st.lists(st.tuples(st.sets(st.integers(0, 5), max_size=5), st.sampled_from([1.0, 2.5])), min_size=1, max_size=5)


@given(LOGS, st.sampled_from(["central", "distributed"]), st.booleans(), st.integers(0, 2))
@settings(max_examples=sized(5, 40), deadline=None)
def test_knowing_more_or_less_never_helps_the_federation(rounds: Any, noise: str, secure: bool, gang: int) -> None:
    """One round more, one more who colludes, names that are gone: no epsilon is smaller."""
    entries = tuple(LoggedRound(n, tuple(people), len(people), s) for n, (people, s) in enumerate(rounds, 1))
    log = log_of(
        rounds=entries, noise=noise, secure_sum=secure and noise == "distributed", colluding=gang, colluders=None
    )

    def most(other: LoggedFederation) -> dict[str, float]:
        return {
            observer: max((e for e in epsilons(g).values()), default=0.0)
            for observer, g in found(other).items()
            if g.proven
        }

    def changed(**more: Any) -> LoggedFederation:
        fields = {name: getattr(log, name) for name in log.__dataclass_fields__}
        return LoggedFederation(**{**fields, **more})

    before = most(log)
    nameless = tuple(LoggedRound(e.number, None, e.came, e.noise_multiplier) for e in entries)
    for worse in (
        changed(rounds=(*entries, LoggedRound(9, (0, 1), 2, 1.0))),
        changed(colluding=gang + 1),
        changed(rounds=nameless),
    ):
        after = most(worse)
        assert set(after) == set(before)
        assert all(after[observer] >= before[observer] * 0.98 - 0.02 for observer in before), "PRV's error"


CELLS: list[dict[str, Any]] = [
    {"sampling": "poisson", "privacy": {"kind": "client_level", "noise_multiplier": 2.0}},
    {"privacy": {"kind": "client_level", "noise_multiplier": 2.0}},
    {"privacy": {"kind": "client_level", "noise": "distributed", "noise_multiplier": 2.0}},
    {"privacy": {"kind": "sample_level", "noise_multiplier": 1.5}},
]  # fmt: skip


@pytest.mark.parametrize("cell", every(1, CELLS))
def test_the_log_of_a_run_here_has_the_epsilon_of_its_ledger(cell: dict[str, Any]) -> None:
    """A scenario's cohorts and noise, written down as a log. Where the log may choose between two accounts, or does not
    know which client is the worst observer, it may differ: to the side that is named."""
    made = cell_of(algorithm="fedavg", clients=40, cohort=5, rounds=20, seeds=[31], **cell)
    schedule = schedule_of(made)
    ledger = by_observer(account(schedule))
    sample, distributed = schedule.unit == "sample", cell["privacy"].get("noise") == "distributed"
    sigma = schedule.noise_multipliers[0] / (sqrt(schedule.cohort) if distributed else 1)
    rounds = []
    for number, people in enumerate(schedule.rounds, 1):
        sizes = [schedule.samples[k] for k in people]
        rates = tuple(min(1.0, schedule.batch_size / n) for n in sizes) if sample else ()
        steps = tuple(schedule.epochs * ceil(n / schedule.batch_size) for n in sizes) if sample else ()
        rounds.append(LoggedRound(number, tuple(people), len(people), sigma, rates, steps))
    delta = 0.1 / (schedule.samples[0] if sample else len(schedule.samples))
    log = log_of(
        unit=schedule.unit, clients=40, rounds=tuple(rounds), delta=delta, noise=schedule.noise,
        sampling=schedule.sampling, rate=schedule.cohort / 40, secret_batches=True,
        secret_from=frozenset({"public", "another client"}),
    )  # fmt: skip
    logged = found(log)
    for observer in OBSERVERS:
        assert logged[observer].proven == ledger[observer].proven, observer
        if not ledger[observer].proven or len(set(schedule.samples)) > 1:
            continue
        here, there = (max(e.epsilon or 0 for e in one[observer].clients) for one in (ledger, logged))
        if distributed and observer == "another client":
            assert here * 0.99 <= there <= 1.3 * here, "as if one client had been in every round"
        else:
            assert there <= here * 1.001, observer
            if logged[observer].relation == ledger[observer].relation:
                assert there == pytest.approx(here, rel=1e-3), observer
