"""The gate on secure sums: an error that grows is named, one that is too small to matter is not."""

from collections.abc import Callable, Sequence

import pytest

from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord, SecretPhase, SecureSumRecord
from autoflip_secure.reports.gate.baseline import effective_margins, make_baseline
from autoflip_secure.reports.gate.decision import Decision
from autoflip_secure.reports.gate.gate import GateResult, run_gate
from autoflip_secure.reports.gate.metrics import METRICS
from autoflip_secure.reports.gate.output import evidence, lines

Make = Callable[..., RunRecord]
MARGINS = effective_margins({}, [])
METRIC = METRICS["secure_sum_error"]


def phase(error: float | None, name: str = "updates") -> SecretPhase:
    return SecretPhase(
        phase="exploration" if name == "exploration" else "updates", batches=1, rows=5, sums=1, numbers_per_client=0,
        client_bytes=9, server_bytes=9, revealed_bytes=9, party_bytes=9, largest_error=error,
    )  # fmt: skip


def runs(record: Make, errors: Sequence[float | None]) -> list[RunRecord]:
    """One seed for each error of the updates; the exploration is always exact."""
    found = []
    for seed, error in enumerate(errors):
        parties = SecureSumRecord(parties=3, phases=[phase(3e-15, "exploration"), phase(error)], server_sees=["sums"])
        plain = record("autoflip", {"kind": "iid"}, {"kind": "none"}, seed, rounds=2)
        found.append(plain.model_copy(update={"secure_sum": parties}))
    return found


def gate(old: list[RunRecord], new: list[RunRecord]) -> GateResult:
    return run_gate(new, make_baseline(old, "test", "2024-01-01", MARGINS), MARGINS)


def decision(result: GateResult) -> Decision:
    (line,) = [line for line in result.lines if line.metric is METRIC]
    return line.judgement.decision


def test_the_largest_of_all_phases_counts_and_less_than_a_billionth_is_a_billionth(record: Make) -> None:
    assert METRIC.read is not None
    read = [METRIC.read(run, DEFAULT) for run in runs(record, [2e-7, 1e-12, 0.0, None])]
    assert read == [2e-7, 1e-9, 1e-9, 1e-9]
    open_run = record("autoflip", {"kind": "iid"}, {"kind": "none"}, 0, rounds=2)
    assert METRIC.read(open_run, DEFAULT) is None
    hidden = SecureSumRecord(parties=3, phases=[phase(None)], server_sees=[])
    assert METRIC.read(open_run.model_copy(update={"secure_sum": hidden}), DEFAULT) is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([1e-15, 0.0, 3e-14], [4e-11, 1e-12, 0.0], Decision.PASS),  # noise of the arithmetic
        ([1e-15, 2e-15, 3e-15], [1e-5, 1e-5, 1e-5], Decision.REGRESSION),  # 16 bits instead of 52
        ([8e-7, 9e-7, 7e-7], [8.4e-7, 9e-7, 7.1e-7], Decision.PASS),
        ([8e-7, 9e-7, 7e-7], [3.2e-6, 3.7e-6, 2.9e-6], Decision.REGRESSION),  # two bits lost
        ([8e-7, 9e-7, 7e-7], [4e-8, 5e-8, 4e-8], Decision.PASS),
    ],
)
def test_what_grows_is_named(record: Make, old: list[float], new: list[float], expected: Decision) -> None:
    assert decision(gate(runs(record, old), runs(record, new))) is expected


def test_tiny_numbers_can_be_read(record: Make) -> None:
    result = gate(runs(record, [8e-7, 9e-7, 7e-7]), runs(record, [3.2e-6, 3.7e-6, 2.9e-6]))
    (line,) = [line for line in result.lines if line.metric is METRIC]
    assert "8.0e-07 -> 3.3e-06" in evidence(line)
    assert any("secure_sum_error 50 %" in text for text in lines(result))
