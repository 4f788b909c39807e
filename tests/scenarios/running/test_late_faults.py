"""Plug-ins from outside that break their contract in the middle of a run: it ends, and they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check

TEXT = """
clients: 4
cohort: 2
rounds: 4
training: {epochs: 1, batch_size: 16}
data: {kind: digits, train_samples: 100, test_samples: 50}
model: {kind: mlp, hidden: [4]}
seeds: [3]
algorithm: {name: mine, pruner: %s, aggregator: %s, local_rule: %s}
attack: %s
"""
AGGREGATORS = {
    "nothing": r"in round 3 aggregate gives a NoneType, expected an Aggregate",
    "twice": r"in round 3 aggregate: trust is \[1\.0, 1\.0\], expected numbers from 0 that sum to 1",
    "nan": r"in round 3 aggregate: trust is \[nan, nan\]",
    "short": r"in round 3 aggregate: delta is \(309,\), torch\.float32, expected \(310,\)",
    "double": r"in round 3 aggregate: delta is \(310,\), torch\.float64, expected \(310,\), torch\.float32",
    "scores": r"in round 3 aggregate gives some scores, unlike what its scores_clients says",
    "fails": r"aggregate failed in round 3 with KeyError: 'weights' \(line \d+ of late_plugins\.py\); mend it",
}
PRUNERS = {
    "floats": r"in round 3 mask gives shape \(310,\) and torch\.float32, expected a tensor of shape \(310,\)",
    "short": r"in round 3 mask gives shape \(3,\) and torch\.bool, expected a tensor of shape \(310,\)",
    "fails": r"mask failed in round 3 with ValueError: no mask \(line \d+ of late_plugins\.py\)",
}


ATTACKS = {
    "LateRows, then: rows alone": r"in round 3 act gives a Tensor, expected \(rows, memory\)",
    "LateRows, then: short": r"in round 3 act gives \(2, 309\), torch\.float32, expected \(2, 310\), torch\.float32",
    "LateRows, then: double": r"in round 3 act gives \(2, 310\), torch\.float64, expected \(2, 310\)",
    "LateRows, then: fails": r"act failed in round 3 with KeyError: 'rows' \(line \d+ of late_plugins\.py\); mend it",
    "LateLabels, then: fails": r"labels failed in round 1 with ValueError: no labels \(line \d+ of late_plugins\.py\)",
    "LateLabels, then: classes": r"in round 1 labels gives classes from 1\d to 19; the data has 0 to 9",
    "LateLabels, then: floats": r"in round 1 labels gives \(25,\), torch\.float32, expected \(25,\), torch\.int64",
    "LateInputs": r"in round 1 inputs gives \(24, 1, 8, 8\), torch\.float32, expected \(25, 1, 8, 8\), torch\.float32",
    "LateSamples": r"in round 1 samples states \[0\.5.*\] for \[25.*\]; state whole numbers from 1 to 2\^31",
    "LatePlaces": r"in round 1 places gives \[-1.*\] for \[0.*\]; give numbers from 0",
}
BEFORE = {
    "LateMixture, then: rows": r"in round \d mix gives a Tensor, expected a Mixture",
    "LateMixture, then: sums": r"in round \d mix: mixing is \[2\.0, .*\], expected numbers from 0, each row of a sum",
    "LateMixture, then: short": r"in round \d mix: rows gives \(2, 309\), torch\.float32, expected \(2, 310\)",
    "LateMixture, then: fails": r"mix failed in round \d with ValueError: no mixture \(line \d+ of late_plugins\.py\)",
    "LateMemory": r"in round \d recall: does not begin with the clients of the round, which are \[\d\.0, \d\.0\]",
}
RULES = {
    "LateRule, then: fails": r"training by it failed in round 3 with ValueError: no gradient \(line \d+ of",
    "LateRule, then: shapes": r"in round 3 gradient gives \[\(2, 1, 64\), .*\], expected a list of tensors",
    "LateBroadcast, then: short": r"in round 3 broadcast gives \(309,\), torch\.float32, expected \(310,\)",
    "LateBroadcast, then: fails": r"broadcast failed in round 3 with ValueError: nothing to send \(line \d+",
}


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def ran(pruner: str = "none", aggregator: str = "mean", rule: str = "none", attack: str = "none") -> RunRecord:
    (block,) = plan(resolve(Document.parse(TEXT % (pruner, aggregator, rule, attack), "s.yaml"), ())).blocks
    check([block])  # the trial is of rounds 1, 0 and the last
    (record,) = run_block(block)
    return record


@pytest.mark.parametrize(("then", "message"), AGGREGATORS.items(), ids=AGGREGATORS)
def test_an_aggregator_that_breaks_its_contract_later_ends_the_run(then: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"aggregator\.kind = 'late_plugins:Late': {message}") as refused:
        ran("none", f"{{kind: 'late_plugins:Late', then: {then}}}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("then", "message"), PRUNERS.items(), ids=PRUNERS)
def test_so_does_a_pruner(then: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"pruner\.kind = 'late_plugins:LateMask': {message}") as refused:
        ran(f"{{kind: 'late_plugins:LateMask', then: {then}}}", "mean")
    assert "\n" not in str(refused.value)


def test_a_step_that_cannot_be_used_is_no_step_and_the_run_goes_on() -> None:
    record = ran("none", "{kind: 'late_plugins:Late', then: unusable}")
    assert [round_.step_norm > 0 for round_ in record.rounds] == [True, True, False, False]
    assert record.rounds[2].trust == [0.0, 0.0]
    assert "round 3: no step: the aggregate would have made the global model not finite" in record.events[0]


def outside(said: str) -> str:
    name, *rest = said.split(", ")
    return f"{{kind: 'late_plugins:{name}'{''.join(f', {one}' for one in rest)}"


@pytest.mark.parametrize(("attack", "message"), ATTACKS.items(), ids=ATTACKS)
def test_so_does_an_attack(attack: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"attack\.kind = 'late_plugins:\w+': {message}") as refused:
        ran(attack=outside(attack) + ", clients: [0, 1, 2, 3]}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("before", "message"), BEFORE.items(), ids=BEFORE)
def test_so_does_a_pre_aggregator(before: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"aggregator\.before\.kind = 'late_plugins:\w+': {message}") as refused:
        ran(aggregator=f"{{kind: mean, before: [{outside(before)}}}]}}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("rule", "message"), RULES.items(), ids=RULES)
def test_so_does_a_local_rule(rule: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"local_rule\.kind = 'late_plugins:\w+': {message}") as refused:
        ran(rule=outside(rule) + "}")
    assert "\n" not in str(refused.value)


def test_what_cannot_be_used_may_be_sent_and_an_attack_changes_nobody_elses_row() -> None:
    sent = ran(attack="{kind: 'late_plugins:LateRows', then: nan, clients: [0, 1, 2, 3]}")
    assert [round_.step_norm > 0 for round_ in sent.rounds] == [False, False, False, False]  # zeros, then none
    assert any("round 3" in event for event in sent.events)
    inside = ran(attack="{kind: 'late_plugins:LateRows', then: in place, clients: [0, 1]}")
    mixed = [
        r for r in inside.rounds[2:] if not {0, 1}.isdisjoint(r.participants) and not {0, 1}.issuperset(r.participants)
    ]
    assert mixed
    assert all(r.step_norm > 0 for r in mixed)  # what was overwritten stayed with the attack
