"""The headline of an audit says the worst first, and its table rounds a ceiling away from what is proven."""

from __future__ import annotations

from typing import Any

import pytest

from autoflip_secure.records.audit import AuditRecord, EmpiricalEpsilon, Estimate, LabelInference
from autoflip_secure.records.privacy import ClientEpsilon, Guarantee, Observer, PrivacyRecord, Release
from autoflip_secure.reports.pages.audit import render_audit
from autoflip_secure.reports.wording.audit import headline, said, verdict_lines


def guarantee(observer: Observer, proven: bool = True) -> Guarantee:
    reason = "" if proven else "the server is trusted"
    release = Release(
        name="updates", observer=observer, client=None, first_round=1, last_round=3, mechanism="gaussian",
        relation="zero out one client", sampling="none", rate=1.0, population=9, steps=3, noise_multiplier=2.0,
        reason=reason, post_processing=[],
    )  # fmt: skip
    clients = [ClientEpsilon(client=None, delta=0.01, rdp=4.07, prv=None, training=None)] if proven else []
    return Guarantee(
        observer=observer, relation="zero out one client", proven=proven, reason=reason, releases=[release],
        clients=clients, over_rounds=[],
    )  # fmt: skip


def bound(observer: Observer, lower: float, ceiling: float, proven: float | None = 4.07) -> EmpiricalEpsilon:
    return EmpiricalEpsilon(
        unit="client", observer=observer, what="canaries", part="everything", noise="as run", factor=1.0,
        relation="zero out one client", runs=128, canaries=128, guesses=128, right=99, delta=0.01, confidence=0.975,
        lower=lower, ceiling=ceiling, proven=proven, violated=proven is not None and lower >= proven,
    )  # fmt: skip


def record(*bounds: EmpiricalEpsilon, private: bool = True, server: bool = True, classes: float = 0.2) -> AuditRecord:
    guarantees = [guarantee("server", server), guarantee("public")]
    privacy = PrivacyRecord(unit="client", noise_multipliers=[2.0], guarantees=guarantees, attempts=1, notes=[])
    look = LabelInference(
        view="as sent", clients=9, accuracy=Estimate(value=classes, low=classes - 0.05, high=1.0), chance=0.2, auc=None
    )
    base: dict[str, Any] = {
        "scenario": "s", "cell": "c", "axes": {}, "algorithm": "fedavg", "seed": 21, "versions": {}, "effort": {},
        "attack": {"kind": "none"}, "protection": {"kind": "client_level"} if private else {"kind": "none"},
        "final_accuracy": 0.5, "privacy": privacy if private else None, "membership": [], "empirical": list(bounds),
        "labels": [look], "notes": [],
    }  # fmt: skip
    return AuditRecord(**base)


HOLDS = record(bound("server", 1.0, 9.0), bound("public", 1.0, 9.0))
BARE = record(bound("server", 3.0, 4.0, proven=None), private=False, classes=0.9)
BLIND = record(bound("server", 1.0, 4.066), bound("public", 1.0, 4.066))
CENTRAL = record(bound("public", 1.0, 9.0), server=False)
BROKEN = record(bound("server", 5.0, 9.0))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([HOLDS], "No attacker showed more than is proven"),
        (
            [HOLDS, BARE],
            "No guarantee for 1 of 2 settings; up to 90 % of a client's classes guessed (chance 20 %); no attacker "
            "showed more than is proven for 1 of 2 settings",
        ),
        ([CENTRAL], "No guarantee against the server; no attacker showed more than is proven"),
        ([BLIND], "Cannot tell: no attack could have shown as much as is proven"),
        ([BLIND, HOLDS], "Cannot tell for 1 of 2 settings: no attack could have shown as much as is proven; no "
                         "attacker showed more than is proven for 1 of 2 settings"),
        ([BARE], "Nothing is proven for these settings, so there is no guarantee; up to 90 % of a client's classes "
                 "guessed (chance 20 %)"),
    ],
)  # fmt: skip
def test_what_is_worst_comes_first(records: list[AuditRecord], words: str) -> None:
    assert headline(records) == words


def test_a_violation_is_all_that_the_headline_says() -> None:
    assert headline([BROKEN, BARE]).startswith(
        "Violated: an attacker showed epsilon of at least 5.00 where at most 4.07"
    )


def test_a_ceiling_is_rounded_away_from_what_is_proven() -> None:
    """4.066 can show no 4.07; 4.0701 can, and is not printed as what could not."""
    lines = verdict_lines([BLIND, record(bound("server", 1.0, 4.0701))])
    assert [line.ceiling for line in lines if line.observer == "the server"] == ["at most 4.06", "at most 4.08"]
    assert lines[0].proven == "≤ 4.07"
    assert lines[0].verdict.startswith("cannot fail")


def test_what_may_be_said_follows_the_audit() -> None:
    told = {(entry.observer, entry.words.rsplit(". ", 1)[-1]) for one in (HOLDS, CENTRAL) for entry in said([one])}
    assert ("the public", "Attackers who could have shown more did not.") in told
    assert any(who == "the server" and "no guarantee" in words for who, words in told)
    assert all("do not call it audited" in entry.words for entry in said([BLIND]))
    assert said([BROKEN])[0].words == "Nothing may be promised: the audit refutes what is claimed."
    assert said([BROKEN])[0].epsilon == ""
    page = render_audit([HOLDS, BARE, CENTRAL], {"name": "x"})
    assert page.count('<div class="line">Signature</div>') == 3
    assert 'id="verdict-title">No guarantee for 1 of 3 settings; no guarantee against the server for 1 of 3' in page
