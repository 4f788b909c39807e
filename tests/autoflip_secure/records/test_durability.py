"""How long a backdoor lasts, and which evaluations make its success: by hand on small records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from synthetic_records import IID, make_record

from autoflip_secure.records.backdoor import BackdoorRecord
from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.robustness import Durability, durability
from autoflip_secure.records.run import RunRecord

BACKDOOR = {"kind": "backdoor", "scope": 0.2, "share": 0.3}


def run(window: dict[str, Any], success: Sequence[float | None], *others: dict[str, Any]) -> RunRecord:
    """Success round by round; ``others`` are composed with it."""
    own = BACKDOOR | {"window": window}
    attack = {"kind": "several", "attacks": [own, *others]} if others else own
    found = make_record("fedavg", IID, BACKDOOR, 0, rounds=len(success))
    rounds = [e.model_copy(update={"attack_success": s}) for e, s in zip(found.rounds, success, strict=True)]
    update = {"rounds": rounds, "config": found.config | {"attack": attack}, "malicious_clients": [1]}
    return found.model_copy(update={**update, "backdoor": BackdoorRecord(target=0, samples=9)})


UP = [0.1, 0.6, 0.9]


@pytest.mark.parametrize(
    ("window", "success", "found"),
    [
        ({"first": 1, "last": 3}, [*UP, 0.8, 0.6, 0.49, 0.9, 0.2], Durability(3, 5)),  # the first below one half
        ({"first": 1, "last": 3}, [*UP, 0.8, 0.6, 0.5, 0.9, 0.7], Durability(None, 5)),  # 0.5 is not below
        ({"first": 1, "last": 3}, [0.1, 0.6, 0.4, 0.8, 0.8], Durability(0, 2)),  # was not there at its end
        ({"first": 1, "last": 3}, [0.1, 0.6, None, None, 0.8, None, 0.3], Durability(4, 4)),  # as last evaluated
        ({"first": 2, "last": 2}, [None, None, None, 0.7, 0.3], Durability(3, 3)),  # not evaluated while it acted
        ({"first": 1, "last": 6, "period": 4}, [*UP, 0.9, 0.9, 0.4, 0.4], Durability(1, 2)),  # acts in 1 and 5
        ({"first": 0, "last": 0}, [0.9, 0.9, 0.2], Durability(3, 3)),  # in the exploration alone
        ({"first": 1, "last": 5}, [*UP, 0.9, 0.1], None),  # ends with the run
        ({"first": 1, "last": None}, [*UP, 0.1], None),
        ({"first": 1, "last": 3}, [*UP, None, None], None),  # not evaluated afterwards
    ],
)
def test_durability(window: dict[str, Any], success: list[float | None], found: Durability | None) -> None:
    assert durability(run(window, success)) == found


def test_of_several_attacks_the_backdoor_s_own_window_counts() -> None:
    later = {"kind": "model_replacement", "scope": 0.2, "window": {"first": 4, "last": 5}}
    assert durability(run({"first": 1, "last": 3}, [*UP, 0.9, 0.2, 0.1], later)) == Durability(2, 3)
    one = run({"first": 1, "last": 3}, [*UP, 0.9, 0.2, 0.1])
    assert durability(one.model_copy(update={"malicious_clients": []})) is None
    assert durability(one.model_copy(update={"backdoor": None})) is None


def evaluated(one: RunRecord, *rounds: int) -> RunRecord:
    entries = [e.model_copy(update={"test_accuracy": 0.5 if e.round in rounds else None}) for e in one.rounds]
    return one.model_copy(update={"rounds": entries})


def test_success_is_of_the_evaluations_that_make_the_accuracy() -> None:
    one = evaluated(run({}, [0.9, 0.9, 0.9, None, 0.5, 0.1]), 1, 2, 3, 5, 6)
    assert OutcomeRule(1).attack_success(one) == 0.1
    assert OutcomeRule(3).attack_success(one) == pytest.approx(0.3), "the first half does not count"
    gap = evaluated(run({}, [0.9, 0.9, 0.9, 0.9, None, 0.1]), 4, 5, 6)
    assert OutcomeRule(3).attack_success(gap) is None, "one is not known"
    assert OutcomeRule().attack_success(make_record("fedavg", IID, BACKDOOR, 0)) is None
