"""Epsilon in the gate: held seed by seed without a test, and a guarantee that is gone is a regression."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from older_baselines import older

from autoflip_secure.records.privacy import ClientEpsilon, Guarantee, Observer, PrivacyRecord, Relation
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline import Baseline, effective_margins, make_baseline, read_baseline
from autoflip_secure.reports.gate.decision import Decision, GateDecision
from autoflip_secure.reports.gate.entries import entries
from autoflip_secure.reports.gate.exact import NOISE, Proven, judge_exact
from autoflip_secure.reports.gate.files import junit_xml, summary
from autoflip_secure.reports.gate.gate import run_gate
from autoflip_secure.reports.gate.metrics import METRICS, Terms
from autoflip_secure.reports.gate.output import as_data, lines

Make = Callable[..., RunRecord]
EPSILON = METRICS["epsilon"]
ABOUT = Terms(relation="zero out one client", delta=1e-5)
OTHERS = (
    Terms(relation="replace one client", delta=1e-5),
    Terms(relation="zero out one client", delta=1.1e-5),
    Terms(relation="zero out one sample", delta=1e-5),
)
values = st.dictionaries(st.integers(0, 5), st.one_of(st.none(), st.floats(0, 50)), max_size=5)


def judged(old: dict[int, float | None], new: dict[int, float | None], margin: float = 0.0) -> GateDecision:
    return judge_exact(EPSILON, side(old), side(new), margin)


def side(values: dict[int, float | None], terms: Terms | None = ABOUT) -> Proven:
    return Proven(values, {s: terms for s, v in values.items() if v is not None and terms is not None})


@pytest.mark.parametrize(
    ("old", "new", "margin", "decision", "words"),
    [
        ({1: 3.0, 2: 4.0}, {1: 3.0, 2: 4.0}, 0.0, Decision.PASS, "the same on every seed"),
        ({1: 3.0, 2: 4.0}, {1: 2.0, 2: 4.0}, 0.0, Decision.PASS, "higher on no seed"),
        ({1: 3.0, 2: 4.0}, {1: 2.0, 2: 4.1}, 0.0, Decision.REGRESSION, "1 of 2 seeds, most on seed 2: 4.0000 -> 4.1"),
        ({1: 3.0, 2: 4.0}, {1: 3.2, 2: 4.1}, 0.25, Decision.PASS, "on seed 1: 3.0000 -> 3.2000, within the margin"),
        ({1: 3.0, 2: 4.0}, {1: 3.2, 2: 4.3}, 0.25, Decision.REGRESSION, "most on seed 2: 4.0000 -> 4.3000"),
        ({1: 3.0, 2: 4.0}, {1: 3.0, 2: None}, 0.9, Decision.REGRESSION, "most on seed 2: 4.0000 -> no guarantee"),
        ({1: None, 2: 4.0}, {1: 9.0, 2: 4.0}, 0.0, Decision.PASS, "higher on no seed"),
        ({1: 3.0}, {1: 3.0 + 1e-9, 7: 9.0}, 0.0, Decision.PASS, "the same on every seed"),
        ({1: 3.0, 2: 3.0}, {3: 3.0}, 0.0, Decision.PASS, "the same on every seed"),
        ({1: 3.0, 2: 3.0}, {3: 3.5}, 0.0, Decision.REGRESSION, "most on all: 3.0000 -> 3.5000"),
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


@pytest.mark.parametrize("other", OTHERS)
@given(st.dictionaries(st.integers(0, 3), st.floats(0, 50), min_size=1), st.floats(-9, 9), st.floats(0, 0.9))
def test_other_neighbours_or_another_delta_are_never_compared(
    other: Terms, old: dict[int, float], rise: float, margin: float
) -> None:
    """Neither passed nor called worse, however the numbers stand, with or without common seeds."""
    for shift in (0, 100):
        new = {s + shift: max(0.0, v + rise) for s, v in old.items()}
        found = judge_exact(EPSILON, side(dict(old)), side(dict(new), other), margin)
        assert found.decision is Decision.CANNOT_TELL
        assert (found.change, found.comparison.baseline, found.comparison.new) == (None, None, None)
        if not shift or len(set(old.values())) == 1:
            assert found.reason.startswith("not comparable")
            assert ABOUT.relation in found.reason
            assert other.relation in found.reason


def test_one_seed_of_other_neighbours_keeps_the_rest_from_passing_but_hides_no_regression() -> None:
    old, new = side({1: 3.0, 2: 4.0}), Proven({1: 3.0, 2: 4.0}, {1: ABOUT, 2: OTHERS[0]})
    found = judge_exact(EPSILON, old, new, 0.0)
    assert found.decision is Decision.CANNOT_TELL
    assert found.reason == (
        "not comparable on 1 of 2 seeds, first on seed 2: zero out one client at δ = 1e-05 in the baseline, "
        "replace one client at δ = 1e-05 now"
    )
    worse = judge_exact(EPSILON, old, Proven({1: 3.5, 2: 4.0}, new.terms), 0.0)
    assert worse.decision is Decision.REGRESSION
    gone = judge_exact(EPSILON, old, Proven({1: 3.0, 2: None}, new.terms), 0.0)
    assert gone.decision is Decision.REGRESSION  # no guarantee is worse than any, for whatever neighbours


def test_a_baseline_that_does_not_say_for_what_is_not_compared() -> None:
    found = judge_exact(EPSILON, side({1: 3.0}, None), side({1: 2.0}), 0.0)
    assert found.decision is Decision.CANNOT_TELL
    assert found.reason == (
        "not comparable on 1 of 1 seeds, first on seed 1: it does not say for what in the baseline, zero out one "
        "client at δ = 1e-05 now; make the baseline again with --update --reason"
    )


@given(st.floats(0, 1000), st.floats(1e-9, 10))
def test_what_is_printed_is_rounded_up(value: float, rise: float) -> None:
    said = judged({1: value}, {1: value + rise}).reason
    if "->" in said:
        before, after = said.split(": ")[-1].split(";")[0].split(", within")[0].split(" -> ")
        assert float(before) >= value
        assert float(after) >= value + rise


# ------------------------------------------------------------------------------------------------ whole sweeps


def ledger(
    epsilon: dict[Observer, float | None], relation: Relation = "zero out one client", delta: float = 1e-5
) -> PrivacyRecord:
    return PrivacyRecord(
        unit="client",
        noise_multipliers=[1.0],
        guarantees=[
            Guarantee(
                observer=observer,
                relation=relation,
                proven=value is not None,
                reason="",
                releases=[],
                clients=[ClientEpsilon(client=None, delta=delta, rdp=value, prv=None, training=None)],
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
    return made.model_copy(deep=True)


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
    assert [name for name in result.new_metrics if "proven epsilon against the server" in name]


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
    ending = "5.0010" if epsilon else "no guarantee"
    assert f"most on seed 2: 5.0000 -> {ending}; zero out one client at δ = 1e-05" in row["reason"]
    for text in ("\n".join(lines(result)), junit_xml(result), summary(result)):
        assert "proven epsilon against the public" in text
        assert ending in text


def test_a_margin_can_be_given(cells: list[RunRecord], held: Baseline) -> None:
    worse = [private(r, 3.1 + r.seed, None) if r.privacy else r for r in cells]
    assert run_gate(worse, held, held.margins).exit_code == 1
    assert run_gate(worse, held, effective_margins(held.margins, ["epsilon=0.2"])).exit_code == 0


@pytest.mark.parametrize(
    ("relation", "delta", "said"),
    [
        ("replace one client", 1e-5, "replace one client at δ = 1e-05 now"),
        ("zero out one client", 2e-5, "at δ = 2e-05 now"),
    ],
)
def test_a_sweep_under_other_neighbours_is_not_comparable(
    relation: Relation, delta: float, said: str, cells: list[RunRecord], held: Baseline
) -> None:
    """Half the epsilon is no better, and the same one no worse, when it is about something else."""
    for factor in (0.5, 1.0, 2.0):
        other = [
            r.model_copy(
                update={"privacy": ledger({"public": factor * (3.0 + r.seed), "server": None}, relation, delta)}
            )
            if r.privacy
            else r
            for r in cells
        ]
        result = run_gate(other, held, held.margins)
        assert result.exit_code == 2
        (line,) = result.of(Decision.CANNOT_TELL)
        assert line.metric is EPSILON
        for text in ("\n".join(lines(result)), junit_xml(result), summary(result), json.dumps(as_data(result))):
            assert "not comparable on 3 of 3 seeds" in text
        assert said in "\n".join(lines(result))


def test_a_baseline_of_the_format_before_is_read_and_its_epsilons_are_not_comparable(
    cells: list[RunRecord], held: Baseline, tmp_path: Path
) -> None:
    """Identical records stay identical: what they are about is known from the new side."""
    path = tmp_path / "b.json"
    path.write_text(json.dumps(older(held, 1)))
    old = read_baseline(path)
    assert run_gate(cells, old, old.margins).exit_code == 0
    moved = [private(r, 2.0, None) if r.privacy else r for r in cells]
    result = run_gate(moved, old, old.margins)
    assert result.exit_code == 2
    assert "make the baseline again" in result.of(Decision.CANNOT_TELL)[0].judgement.reason


def test_what_has_no_guarantee_says_so_in_its_name(cells: list[RunRecord]) -> None:
    """Of central noise nothing holds against the server, with allow_unproven nothing at all; a target is no proof."""
    setting = {"kind": "client_level", "noise": "central", "target_epsilon": 4.0}
    words = {}
    for against, (public, server) in {"both": (3.0, 3.5), "central": (3.0, None), "none": (None, None)}.items():
        named = [
            private(r, public, server).model_copy(update={"config": r.config | {"privacy": setting}})
            for r in cells
            if r.algorithm == "fedavg"
        ]
        words[against] = next(iter(entries(named).values())).condition
    assert words["both"].endswith("whole clients, server adds noise, target ε 4")
    assert words["central"].endswith("whole clients, server adds noise, no guarantee against the server, target ε 4")
    assert words["none"].endswith("whole clients, server adds noise, no guarantee, target ε 4")
