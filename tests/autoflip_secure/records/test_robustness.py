"""Robustness of one run beside its outcome, by hand on small records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from digits_cells import CLIENTS, cell
from synthetic_records import IID, make_record

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.interfaces.attack import SeveralAttacks, Window
from autoflip_secure.records.final_model import ClassAccuracies
from autoflip_secure.records.robustness import (
    acting_clients,
    attacked_class,
    class_accuracy,
    has_majority,
    in_window,
    late_accuracy,
    trust_amplification,
    worst_class,
)
from autoflip_secure.records.run import RunRecord

NOISE = {"kind": "gaussian_noise", "sigma": 0.5, "scope": 0.2}


def record(*rounds: dict[str, Any], aggregator: str = "mean") -> RunRecord:
    """A run with these changes in its rounds."""
    found = make_record("fedavg", IID, NOISE, 0, rounds=len(rounds))
    config = found.config | {"algorithm": {"name": "x", "pruner": {"kind": "none"}, "aggregator": {"kind": aggregator}}}
    entries = [entry.model_copy(update=change) for entry, change in zip(found.rounds, rounds, strict=True)]
    return found.model_copy(update={"rounds": entries, "config": config})


def along(accuracies: Sequence[float | None]) -> RunRecord:
    return record(*({"test_accuracy": one} for one in accuracies))


def who(malicious: str, trust: Sequence[float]) -> dict[str, Any]:
    """``"m.."``: one malicious participant of three."""
    return {
        "participants": list(range(len(malicious))),
        "malicious": [one == "m" for one in malicious],
        "trust": list(trust),
    }


def test_the_last_ten_rounds_by_hand() -> None:
    run = along([0.1, 0.9, None, 0.4, None, 0.5, None, 0.6, None, 0.7, None, 0.9])  # rounds 3 to 12 count
    found = late_accuracy(run)
    assert found is not None
    assert found.mean == pytest.approx((0.4 + 0.5 + 0.6 + 0.7 + 0.9) / 5)
    squares = [(x - 0.62) ** 2 for x in (0.4, 0.5, 0.6, 0.7, 0.9)]
    assert found.spread == pytest.approx(math.sqrt(sum(squares) / 4))


def test_a_run_of_fewer_rounds_and_one_of_a_single_evaluation() -> None:
    short = late_accuracy(along([0.2, 0.4]))
    assert short is not None
    assert short.mean == pytest.approx(0.3)
    assert late_accuracy(along([None, 0.4])) == (0.4, None)
    assert late_accuracy(along([0.4]).model_copy(update={"rounds": []})) is None


def test_the_worst_class_is_zero_where_it_is_never_recognised() -> None:
    run = along([0.5])
    assert worst_class(run) is None, "an earlier version's record does not say"
    classes = ClassAccuracies(samples=[3, 0, 4], accuracy=[1.0, None, 0.0])
    assert worst_class(run.model_copy(update={"classes": classes})) == 0.0


def test_the_attacked_class_is_the_one_of_the_first_targeted_attack() -> None:
    dirty = {"kind": "dirty_label", "of": 2, "to": None, "share": 1.0}
    assert (
        attacked_class(dirty) == attacked_class({"kind": "several", "attacks": [NOISE, dirty, dirty | {"of": 1}]}) == 2
    )
    assert attacked_class(NOISE) is attacked_class(None) is attacked_class(dirty | {"share": 0}) is None
    run = along([0.5])
    assert class_accuracy(run, 2) is None
    run = run.model_copy(update={"classes": ClassAccuracies(samples=[3, 0, 4], accuracy=[1.0, None, 0.25])})
    assert [class_accuracy(run, number) for number in (0, 1, 2, 3, None)] == [1.0, None, 0.25, None, None]


def test_amplification_by_hand() -> None:
    run = record(
        who("m...", [0.4, 0.2, 0.2, 0.2]),
        who("..", [0.5, 0.5]),
        who("mm..", [0.0, 0.3, 0.3, 0.0]),  # what is left of the trust counts as all of it
        who("m..", [0.0, 0.0, 0.0]),  # nobody is trusted: no step, so nothing to share
    )
    assert trust_amplification(run) == pytest.approx((0.4 + 0.0 + 0.5) / (1 / 4 + 0.0 + 2 / 4))


def test_malicious_clients_that_hold_all_the_trust() -> None:
    assert trust_amplification(record(*[who("m....", [1, 0, 0, 0, 0])] * 3)) == pytest.approx(5.0)
    assert trust_amplification(record(*[who("m....", [0, 0.5, 0, 0.5, 0])] * 3)) == 0.0
    assert trust_amplification(record(who("mm", [0.5, 0.5]))) == 1.0


def test_without_malicious_rows_or_trust_there_is_no_amplification() -> None:
    assert trust_amplification(record(who("...", [0.2, 0.4, 0.4]))) is None
    assert trust_amplification(record(who("m..", [0, 0, 0]))) is None
    assert trust_amplification(record(who("", []))) is None
    assert trust_amplification(record(who("m..", [1 / 3] * 3), aggregator="median")) is None


def test_equal_trust_is_one_whatever_the_cohorts() -> None:
    run = record(*(who("m" * m + "." * h, [1 / (m + h)] * (m + h)) for m, h in [(1, 4), (3, 1), (0, 6), (2, 2)]))
    assert trust_amplification(run) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("malicious", "majority"), [("mm..", True), ("mm...", False), ("mmm..", True), ("", False)])
def test_half_of_a_cohort_is_a_majority(malicious: str, majority: bool) -> None:
    (entry,) = record(who(malicious, [1.0] * len(malicious))).rounds
    assert has_majority(entry) == majority


def test_windows_of_configurations_are_those_of_attacks() -> None:
    windows = [
        Window(first=first, last=last, **cycle)
        for first in (0, 1, 3)
        for last in (None, 4, 7, *((0,) if first == 0 else ()))
        for cycle in ({}, {"period": 2}, {"period": 4, "acting": 3})
    ]
    for window in windows:
        for form in (window.model_dump(mode="json"), window.model_dump(mode="json", exclude_defaults=True)):
            assert [in_window(form, n) for n in range(1, 12)] == [window.holds(n) for n in range(1, 12)], window


def test_how_many_act_is_what_a_cell_says() -> None:
    late = GaussianNoise(clients=(1, 2), window=Window(first=2))
    attacks: list[Any] = [
        GaussianNoise(scope=0.25, window=Window(first=2, last=3)),
        LabelFlip(clients=(1, 4, 7)),
        SeveralAttacks(attacks=(GaussianNoise(scope=0.2), LabelFlip(scope=0.4, window=Window(first=3)))),
        SeveralAttacks(attacks=(LabelFlip(clients=(0, 1), window=Window(last=2)), late)),
    ]
    for attack in attacks:
        run = cell(attack=attack)
        for number in range(1, 6):
            told = acting_clients(attack.model_dump(mode="json"), number, CLIENTS)
            assert told == int(run.malicious_in(number).sum()), (attack, number)
    mixed = SeveralAttacks(attacks=(LabelFlip(clients=(0,)), GaussianNoise(scope=0.2)))
    assert acting_clients(mixed.model_dump(mode="json"), 1, CLIENTS) is None
    assert acting_clients({"kind": "none"}, 1, CLIENTS) == acting_clients(None, 1, CLIENTS) == 0
