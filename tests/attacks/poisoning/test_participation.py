"""Malicious clients that push into cohorts: who is drawn, by hand, and what follows from it."""

from __future__ import annotations

import pytest
import torch
from attacked_cohort import cell
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.attacks.poisoning.over_participation import OverParticipation
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cohorts import public_cohort
from autoflip_secure.interfaces import NoAttack, SeveralAttacks, Window
from autoflip_secure.records.threats import threats
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import LoadedScenario, resolve
from autoflip_secure.seeds import Purpose, generator

LIARS = (2, 7)


def by_hand(seed: int, round_: int, clients: int, cohort: int, factor: float) -> list[int]:
    """The queue of the round, its liars moved to a ``factor``-th of their place; the first ``cohort`` of it, ties by
    number."""
    order = torch.randperm(clients, generator=generator(seed, Purpose.COHORT, round_)).tolist()
    places = {client: place / clients for place, client in enumerate(order)}
    placed = [(place / factor if client in LIARS else place, client) for client, place in places.items()]
    return sorted(client for _, client in sorted(placed)[:cohort])


@given(st.integers(1, 500), st.sampled_from([1.0, 1.5, 4.0, 1000.0]), st.integers(1, 9))
def test_who_is_drawn(round_: int, factor: float, cohort: int) -> None:
    found = cell(OverParticipation(clients=LIARS, factor=factor), cohort=cohort).cohort(round_).tolist()
    assert found == by_hand(0, round_, 10, cohort, factor)
    even = public_cohort(0, round_, 10, cohort, "fixed").tolist()
    assert {*even} & {*LIARS} <= {*found} & {*LIARS}, "who was drawn evenly still is"
    assert factor > 1 or found == even


@given(st.integers(1, 500), st.sampled_from([1.0, 2.0, 5.0]))
def test_under_poisson_sampling_the_others_are_untouched(round_: int, factor: float) -> None:
    found = cell(OverParticipation(clients=LIARS, factor=factor), cohort=2, sampling="poisson").cohort(round_).tolist()
    even = public_cohort(0, round_, 10, 2, "poisson").tolist()
    assert {*found} - {*LIARS} == {*even} - {*LIARS}
    assert {*even} <= {*found}
    assert factor < 5 or {*LIARS} <= {*found}, "at 5 times 2 of 10 they always come"


def test_cohorts_agree_with_cohort_and_window() -> None:
    attack = OverParticipation(clients=LIARS, factor=1e6, window=Window(first=3, last=4))
    found = cell(attack, cohort=3, rounds=6)
    assert found.cohorts == tuple(tuple(found.cohort(number).tolist()) for number in range(1, 7))
    plain = cell(NoAttack(), cohort=3, rounds=6).cohorts
    assert [mine == theirs for mine, theirs in zip(found.cohorts, plain, strict=True)][:2] == [True, True]
    assert found.cohorts[4:] == plain[4:]
    assert all({*LIARS} <= {*cohort} for cohort in found.cohorts[2:4])


def test_the_card_is_in_the_record_though_nobody_knows_more() -> None:
    (card,) = threats([OverParticipation()]) or []
    assert (card.knowledge, card.means) == ("own", ["participation"])


SCENARIO = """
name: pushed
clients: 12
cohort: 4
rounds: 3
seeds: [3]
algorithm: fedavg
attack: [{kind: over_participation}, sign_flip]
"""


def resolved(text: str) -> LoadedScenario:
    return resolve(Document.parse(text, "s.yaml"))


def test_beside_another_attack() -> None:
    (planned,) = resolved(SCENARIO).cells
    assert [part["kind"] for part in planned.config["attack"]["attacks"]] == ["over_participation", "sign_flip"]
    both = SeveralAttacks(attacks=(OverParticipation(clients=LIARS, factor=1e6), SignFlip(clients=LIARS)))
    assert {*LIARS} <= {*cell(both, cohort=3).cohort(1).tolist()}


def test_client_level_privacy_rests_on_an_even_draw() -> None:
    private = "privacy: {kind: client_level, clip: 1.0, target_epsilon: 8}\n"
    with pytest.raises(InputError, match=r"over_participation: at client level .* even draw; set privacy: none"):
        resolved(SCENARIO + private)
