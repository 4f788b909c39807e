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
algorithm: {name: mine, pruner: %s, aggregator: %s}
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


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def ran(pruner: str, aggregator: str) -> RunRecord:
    (block,) = plan(resolve(Document.parse(TEXT % (pruner, aggregator), "s.yaml"), ())).blocks
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
