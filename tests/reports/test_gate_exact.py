"""Epsilon in the gate: held seed by seed without a test, and a guarantee that is gone is a regression."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflip_secure.privacy_record import ClientEpsilon, Guarantee, Observer, PrivacyRecord
from autoflip_secure.record import RunRecord
from reports.gate import run_gate
from reports.gate_baseline import Baseline, effective_margins, make_baseline
from reports.gate_decision import Decision, Judgement
from reports.gate_exact import NOISE, judge_exact
from reports.gate_files import junit_xml, summary
from reports.gate_metrics import METRICS
from reports.gate_output import as_data, lines

Make = Callable[..., RunRecord]
EPSILON = METRICS["epsilon"]
values = st.dictionaries(st.integers(0, 5), st.one_of(st.none(), st.floats(0, 50)), max_size=5)


def judged(old: dict[int, float | None], new: dict[int, float | None], margin: float = 0.0) -> Judgement:
    return judge_exact(EPSILON, old, new, margin)


@pytest.mark.parametrize(
    ("old", "new", "margin", "decision", "words"),
    [
        ({1: 3.0, 2: 4.0}, {1: 3.0, 2: 4.0}, 0.0, Decision.PASS, "the same on every seed"),
        ({1: 3.0, 2: 4.0}, {1: 2.0, 2: 4.0}, 0.0, Decision.PASS, "higher on no seed"),
        ({1: 3.0, 2: 4.0}, {1: 2.0, 2: 4.1}, 0.0, Decision.REGRESSION, "on 1 of 2 seeds, most on seed 2: 4 -> 4.1"),
        ({1: 3.0, 2: 4.0}, {1: 3.2, 2: 4.1}, 0.25, Decision.PASS, "most on seed 1: 3 -> 3.2, within the margin"),
        ({1: 3.0, 2: 4.0}, {1: 3.2, 2: 4.3}, 0.25, Decision.REGRESSION, "most on seed 2: 4 -> 4.3"),
        ({1: 3.0, 2: 4.0}, {1: 3.0, 2: None}, 0.9, Decision.REGRESSION, "most on seed 2: 4 -> nothing proven"),
        ({1: None, 2: 4.0}, {1: 9.0, 2: 4.0}, 0.0, Decision.PASS, "higher on no seed"),
        ({1: 3.0}, {1: 3.0 + 1e-9, 7: 9.0}, 0.0, Decision.PASS, "the same on every seed"),
        ({1: 3.0, 2: 3.0}, {3: 3.0}, 0.0, Decision.PASS, "the same on every seed"),
        ({1: 3.0, 2: 3.0}, {3: 3.5}, 0.0, Decision.REGRESSION, "most on all: 3 -> 3.5"),
        ({1: 3.0, 2: 3.1}, {3: 3.0}, 0.0, Decision.CANNOT_TELL, "run the baseline's seeds"),
    ],
)  # fmt: skip
def test_by_hand(
    old: dict[int, float | None], new: dict[int, float | None], margin: float, decision: Decision, words: str
) -> None:
    found = judged(old, new, margin)
    assert found.decision is decision
    assert words in found.reason


@given(values, values, st.floats(0, 0.9))
def test_no_common_seed_may_rise_beyond_the_margin(
    old: dict[int, float | None], new: dict[int, float | None], margin: float
) -> None:
    found = judged(old, new, margin)
    a, b = ({s: math.inf if v is None else v for s, v in side.items()} for side in (old, new))
    shared = set(a) & set(b)
    if not shared:
        return
    slack = {s: margin + NOISE * max(1.0, a[s] if a[s] < math.inf else 1.0) for s in shared}
    risen = [s for s in shared if a[s] < math.inf and b[s] - a[s] > slack[s] * (1 + 1e-9)]
    if risen:
        assert found.decision is Decision.REGRESSION
    elif not any(a[s] < math.inf and b[s] - a[s] > slack[s] * (1 - 1e-9) for s in shared):
        assert found.decision is Decision.PASS


# ------------------------------------------------------------------------------------------------ whole sweeps


def ledger(epsilon: dict[Observer, float | None]) -> PrivacyRecord:
    return PrivacyRecord(
        unit="client",
        noise_multipliers=[1.0],
        guarantees=[
            Guarantee(
                observer=observer,
                relation="zero out one client",
                proven=value is not None,
                reason="",
                releases=[],
                clients=[ClientEpsilon(client=None, delta=1e-5, rdp=value, prv=None, training=None)],
                over_rounds=[],
            )
            for observer, value in epsilon.items()
        ],
        attempts=1,
        notes=[],
    )


@pytest.fixture(scope="module")
def cells(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    runs = [
        record(name, partition["iid"], attack["clean"](), seed, rounds=2)
        for name in ("fedavg", "autoflip")
        for seed in range(3)
    ]
    return [private(r, 3.0 + r.seed, None) if r.algorithm == "fedavg" else r for r in runs]


def private(record: RunRecord, public: float | None, server: float | None) -> RunRecord:
    return record.model_copy(update={"privacy": ledger({"public": public, "server": server})})


@pytest.fixture(scope="module")
def held(cells: list[RunRecord]) -> Baseline:
    made = make_baseline(cells, "test", "then", effective_margins({}, []))
    return Baseline.model_validate_json(made.text())


def test_only_what_is_proven_is_held(cells: list[RunRecord], held: Baseline) -> None:
    result = run_gate(cells, held, held.margins)
    (line,) = [line for line in result.lines if line.metric.computed]
    assert (line.algorithm, line.metric.name, line.judgement.decision) == ("FedAvg", "epsilon", Decision.PASS)
    assert result.decision is Decision.PASS
    assert held.entries[line.key].metrics["epsilon"] == {0: 3.0, 1: 4.0, 2: 5.0}


def test_a_new_guarantee_has_no_baseline(cells: list[RunRecord], held: Baseline) -> None:
    more = [private(r, 3.0 + r.seed, 9.0) if r.privacy else r for r in cells]
    result = run_gate(more, held, held.margins)
    assert result.decision is Decision.PASS
    assert [name for name in result.new_metrics if "epsilon, the server" in name]


@pytest.mark.parametrize("epsilon", [5.001, None])
def test_one_seed_with_less_privacy_is_a_regression(
    epsilon: float | None, cells: list[RunRecord], held: Baseline
) -> None:
    worse = [private(r, epsilon, None) if r.privacy and r.seed == 2 else r for r in cells]
    result = run_gate(worse, held, held.margins)
    assert result.exit_code == 1
    (line,) = result.of(Decision.REGRESSION)
    assert line.metric is EPSILON
    said = json.loads(json.dumps(as_data(result), allow_nan=False))
    (row,) = [row for row in said["metrics"] if row["decision"] == "regression"]
    assert (row["metric"], row["method"], row["baseline"]) == ("epsilon", "computed", 5.0)
    ending = "5.001" if epsilon else "nothing proven"
    assert f"most on seed 2: 5 -> {ending}" in row["reason"]
    for text in ("\n".join(lines(result)), junit_xml(result), summary(result)):
        assert "epsilon, models seen by all" in text
        assert ending in text


def test_a_margin_can_be_given(cells: list[RunRecord], held: Baseline) -> None:
    worse = [private(r, 3.1 + r.seed, None) if r.privacy else r for r in cells]
    assert run_gate(worse, held, held.margins).exit_code == 1
    assert run_gate(worse, held, effective_margins(held.margins, ["epsilon=0.2"])).exit_code == 0
