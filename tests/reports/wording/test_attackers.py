"""What a report says of attackers: what they know, and whether they adapt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from synthetic_records import IID, flip

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.threats import ThreatRecord
from autoflip_secure.reports.study import labels
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.caveats import caveats_of

Make = Callable[..., RunRecord]


def attacked(record: Make, attack: dict[str, Any], *knowledge: str) -> RunRecord:
    made = record(partition=IID, attack=flip(0.3), algorithm="fedavg", seed=1)
    cards: Any = [
        ThreatRecord(kind=kind, knowledge=one, means=["update"], goal="untargeted", memory=False)  # type: ignore[arg-type]
        for kind, one in zip(labels.kinds_of(attack), knowledge, strict=True)
    ] if knowledge else None  # fmt: skip
    return made.model_copy(update={"threats": cards, "config": {**made.config, "attack": attack}})


def said(*records: RunRecord) -> str:
    return " ".join(caveats_of(study(records), [], [], 0))


SEVERAL = {
    "kind": "several",
    "attacks": [{"kind": "label_flip", "share": 0.5, "scope": 0.2}, {"kind": "alie", "z": 1.5, "scope": 0.2}],
}


def test_adaptive_attacks_are_told_from_fixed_ones(record: Make) -> None:
    fixed = attacked(record, {"kind": "sign_flip", "scope": 0.2})
    assert "none of them adapts to the defence it meets" in said(fixed)
    greedy = attacked(record, {"kind": "greedy_oracle", "scope": 0.2}, "defence")
    assert "know the defence and try what it would do: greedy oracle. The others are fixed" in said(fixed, greedy)
    both = attacked(record, SEVERAL, "own", "rows")
    assert "Attacks that know every update of the round: ALIE." in said(fixed, both)
    outside = attacked(record, {"kind": "mine:Attack", "scope": 0.2})
    assert "Attack: not of this package, so that nothing is known" in said(outside)
    declared = attacked(record, {"kind": "mine:Attack", "scope": 0.2}, "defence")
    assert "try what it would do: Attack." in said(declared)


def test_where_nobody_attacks_nothing_is_said_of_attacks(record: Make) -> None:
    assert "attacks are fixed" not in said(attacked(record, {"kind": "none"}))


def test_a_list_of_attacks_has_all_their_names_and_is_clean_when_all_are() -> None:
    assert labels.attack_label(SEVERAL) == "50 % labels flipped on 20 % + ALIE on 20 %"
    idle = {"kind": "several", "attacks": [one | {"scope": 0} for one in SEVERAL["attacks"]]}  # type: ignore[operator]
    assert labels.is_clean(idle)
    assert not labels.is_clean(SEVERAL)
