"""Threat cards beside numbers are those of the classes, and every attack of a study has one."""

from collections.abc import Callable
from typing import Any

import pytest

from autoflip_secure.interfaces import Attack, Threat
from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.threats import ThreatRecord, threats
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.threat_cards import _OWN, LETTERS, Card, Cards, cards_of
from autoflip_secure.reports.tables.cells_frame import cells_frame
from autoflip_secure.reports.tables.text import Table
from autoflip_secure.reports.tables.threat_cards import beside, named
from autoflip_secure.scenarios.config.tables import ATTACKS

Make = Callable[..., RunRecord]
NEEDED: dict[str, dict[str, Any]] = {"backdoor": {"target": 0}, "dirty_label": {"of": 1}}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind, cls in ATTACKS.items() if issubclass(cls, Attack)),
    ("fault", {"sends": "free_rider"}),
    ("fault", {"sends": "duplicate"}),
    ("model_replacement", {"factor": 3.0}),
    ("norm_bound", {"unit": "absolute"}),
    ("sign_flip", {"of": "mean"}),
]


def attacked(record: Make, attack: dict[str, Any], cards: list[ThreatRecord] | None = None) -> RunRecord:
    run = record("fedavg", {"kind": "iid"}, {"kind": "none"}, 0, rounds=1)
    return run.model_copy(update={"config": run.config | {"attack": attack}, "threats": cards})


@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
def test_the_card_of_a_record_is_that_of_its_attack(record: Make, kind: str, options: dict[str, Any]) -> None:
    attack = ATTACKS[kind].model_validate({"kind": kind, "scope": 0.2, **NEEDED.get(kind, {}), **options})
    assert isinstance(attack, Attack)
    run = attacked(record, attack.model_dump(mode="json"), threats([attack]))
    (card,) = cards_of(run)
    assert card.threat is not None
    assert (card.threat.knowledge, {*card.threat.means}) == (attack.threat_card.knowledge, {*attack.threat_card.means})
    assert (card.threat.goal, card.threat.memory) == (attack.threat_card.goal, attack.threat_card.memory)


def test_no_card_is_kept_for_an_attack_that_is_gone() -> None:
    assert set(_OWN) <= set(ATTACKS)


def test_letters_tell_all_cards_apart() -> None:
    cards = [Card(kind, cls.threat) for kind, cls in ATTACKS.items() if issubclass(cls, Attack)]
    different = {
        (c.threat.knowledge, frozenset(c.threat.means), c.threat.goal, c.threat.memory) for c in cards if c.threat
    }
    assert len({card.badge for card in cards}) == len(different)
    for card in cards:
        for part, (_, letters) in zip(card.badge.split("·"), LETTERS, strict=True):
            assert set(part) <= {letter for letter, _ in letters}


def test_tables_get_the_card_of_the_attack_they_name(record: Make) -> None:
    noise = {"kind": "gaussian_noise", "sigma": 0.5, "scope": 0.2}
    both = {"kind": "several", "attacks": [noise, {"kind": "lie_samples", "scope": 0.2}]}
    outside = {"kind": "my.module:Trick", "scope": 0.2}
    runs = [attacked(record, attack) for attack in ({"kind": "none"}, noise, both, outside)]
    cards = Cards(study(runs))
    table = beside(cards, Table(["attack", "x"], [[row.attack, 1] for row, _ in study(runs).rows]))
    own = "own; update, exploration; untargeted; stateless"
    assert [line[-1] for line in table.rows] == [
        "",
        own,
        f"{own} + own; samples; untargeted; stateless",
        "own; not declared",
    ]
    assert [card.name for card in named(cards, table)] == ["gaussian noise", "lie samples", "Trick"]
    assert cards.named_by("noise σ 0.5") == cards.named_by("IID, noise σ 0.5 on 20 %") == "noise σ 0.5 on 20 %"
    assert [*cells_frame(runs)["threat_card"]] == [line[-1] for line in table.rows]
    plain = Table(["algorithm"], [["FedAvg"]])
    assert beside(cards, plain) is plain


def test_what_a_record_says_goes_before_what_is_known_here(record: Make) -> None:
    said = ThreatRecord(kind="gaussian_noise", knowledge="defence", means=["buffers"], goal="denial", memory=True)
    (card,) = cards_of(attacked(record, {"kind": "gaussian_noise", "sigma": 0.5, "scope": 0.2}, [said]))
    assert card.threat == Threat("defence", ("buffers",), "denial", memory=True)
    assert card.badge == "D·B·D·M"
