"""Statements of what is proven: whole, true of everybody they speak of, and silent where there is nothing to say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.records.privacy import OBSERVERS, ClientEpsilon, Guarantee, Observer, PrivacyRecord, Release
from autoflip_secure.records.proven import (
    Bound,
    above_target,
    bound,
    bounds,
    foremost,
    no_guarantee,
    secret,
    unprotected,
    weakest,
)

EPSILONS = st.one_of(st.none(), st.floats(0, 100), st.just(float("inf")))
ENTRIES = st.lists(st.tuples(EPSILONS, EPSILONS, st.floats(1e-9, 0.5)), max_size=5)


def guarantee(
    observer: Observer, entries: list[tuple[float | None, float | None, float]], *, proven: bool = True
) -> Guarantee:
    return Guarantee(
        observer=observer, relation="zero out one client", proven=proven, reason="", releases=[], over_rounds=[],
        clients=[ClientEpsilon(client=k, delta=d, rdp=r, prv=p, training=None) for k, (r, p, d) in enumerate(entries)],
    )  # fmt: skip


def record(*guarantees: Guarantee) -> PrivacyRecord:
    return PrivacyRecord(unit="client", noise_multipliers=[1.0], guarantees=list(guarantees), attempts=1, notes=[])


@given(ENTRIES, st.booleans())
def test_a_bound_is_true_of_every_client_or_there_is_none(
    entries: list[tuple[float | None, float | None, float]], proven: bool
) -> None:
    """(e, d) holds for whoever has (e', d') with e' <= e, d' <= d; one client without a bound leaves none for all."""
    found = bound(guarantee("server", entries, proven=proven))
    own = [min((e for e in (r, p) if e is not None), default=float("inf")) for r, p, _ in entries]
    if not proven or not entries or max(own) == float("inf"):
        assert found is None
    else:
        assert found is not None
        assert all(e <= found.epsilon and d <= found.delta for e, (_, _, d) in zip(own, entries, strict=True))
        assert found.epsilon in own
        assert found.delta in [d for _, _, d in entries]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1e-9, 0.5)), min_size=1, max_size=5))
def test_the_weakest_of_several_bounds_follows_from_each(pairs: list[tuple[float, float]]) -> None:
    found = weakest([Bound("server", "zero out one client", e, d) for e, d in pairs])
    assert (found.epsilon, found.delta) == (max(e for e, _ in pairs), max(d for _, d in pairs))
    with pytest.raises(AssertionError):
        weakest([found, Bound("server", "replace one client", 1.0, 1e-5)])


def test_whoever_sees_most_comes_first() -> None:
    everybody = record(*(guarantee(o, [(3.0 + i, None, 1e-5)]) for i, o in enumerate(reversed(OBSERVERS))))
    assert [b.observer for b in bounds(everybody)] == [
        o for o in ("server", "another client", "public") if o in OBSERVERS
    ]
    trusted = record(guarantee("server", [], proven=False), guarantee("public", [(2.0, None, 1e-5)]))
    found = foremost(trusted)
    assert found is not None
    assert str(found) == "ε ≤ 2.00 against the public, neighbours: zero out one client, δ = 1e-05"
    assert unprotected(trusted) == ["server"]
    assert no_guarantee([trusted]) == "no guarantee against the server"
    assert foremost(None) is None


def test_what_one_of_several_runs_lacks_they_lack() -> None:
    good = guarantee("server", [(2.0, None, 1e-5)]), guarantee("public", [(2.0, None, 1e-5)])
    bad = (
        guarantee("server", [], proven=False),
        guarantee("public", [(None, None, 1e-5)]),
    )  # the second: no finite bound
    assert no_guarantee([record(*good), None]) == ""
    assert no_guarantee([record(*good), record(*bad)]) == "no guarantee"
    assert no_guarantee([record(good[0], bad[1]), record(bad[0], good[1])]) == "no guarantee"
    assert no_guarantee([record(*good), record(bad[0], good[1])]) == "no guarantee against the server"
    assert no_guarantee([None]) == ""


@pytest.mark.parametrize(
    ("relation", "sampling", "rate", "kept"),
    [
        ("zero out one client", "none", 1.0, ""),
        ("add or remove one client", "poisson", 0.25, "cohorts"),
        ("replace one client", "fixed", 0.25, "cohorts"),
        ("add or remove one client", "poisson", 1.0, ""),
    ],
)
def test_what_an_amplified_bound_rests_on(relation: str, sampling: str, rate: float, kept: str) -> None:
    release = Release.model_validate(
        {
            "name": "updates", "observer": "public", "client": None, "first_round": 1, "last_round": 2,
            "mechanism": "gaussian", "relation": relation, "sampling": sampling, "rate": rate, "population": 20,
            "steps": 2, "noise_multiplier": 1.0, "reason": "", "post_processing": [],
        }
    )  # fmt: skip
    own = guarantee("public", [(2.0, None, 1e-5)]).model_copy(update={"releases": [release], "relation": relation})
    assert secret(own) == kept


@given(st.floats(0.1, 100), st.floats(0, 100))
def test_a_ledger_above_its_target_is_noticed(target: float, epsilon: float) -> None:
    ledger = record(guarantee("server", [(epsilon, None, 1e-5)]), guarantee("public", [], proven=False))
    assert bool(above_target(ledger, target)) == (epsilon > target)
    assert not above_target(ledger, None)
    assert not above_target(None, target)
