"""A verdict that lacks seeds: how many, where they come from, and that two looks keep the promises of one."""

import numpy as np
import pytest
from gated import baseline, gate, take
from planted import moved
from scipy import stats
from sizes import sized

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.comparison import LEVEL, compare
from autoflip_secure.reports.gate.decision import TWO_LOOKS, Decision, judge
from autoflip_secure.reports.gate.metrics import METRICS
from autoflip_secure.reports.gate.output import as_data, lines
from autoflip_secure.reports.gate.power import power_of

ACCURACY = METRICS["clean_accuracy"]
MARGIN = 0.02


def wobbly(records: list[RunRecord]) -> list[RunRecord]:
    return [moved(r, 0.1 * (-1) ** r.seed) for r in records]


def test_what_is_lacking_and_where_it_comes_from(pool: dict[int, list[RunRecord]]) -> None:
    held = baseline(take(pool, range(12)))
    result = gate(wobbly(take(pool, range(4))), held)
    power = power_of(result)
    assert result.exit_code == 2
    assert power is not None
    assert power.unused == tuple(range(4, 12))
    most = max(x.judgement.more_seeds or 0 for x in result.of(Decision.CANNOT_TELL))
    assert power.needed == most
    assert f"about {most} more seeds would settle it ({4 + most} in all). 8 seeds of the baseline" in power.words
    assert lines(result)[-1] == power.words
    assert as_data(result)["power"]["unused_seeds_of_the_baseline"] == list(range(4, 12))
    spent = power_of(gate(wobbly(take(pool, range(12))), held))
    assert spent is not None
    assert "All seeds of the baseline were run" in spent.words
    few = power_of(gate(wobbly(take(pool, range(12))), baseline(take(pool, range(4)))))
    assert few is not None
    assert few.needed is not None
    assert f"({4 + few.needed} in all)" in few.words, "of the sweep's 12 seeds four have a partner"


def test_seeds_that_settle_nothing_are_not_asked_for(pool: dict[int, list[RunRecord]]) -> None:
    records = take(pool, range(4))
    held = baseline(take(pool, range(8)))
    assert power_of(gate(records, held)) is None
    blind = [r.model_copy(update={"detection": None}) for r in records]
    result = gate(blind, held)
    assert result.exit_code == 2
    assert power_of(result) is None
    lost = [moved(r, -0.3) for r in records]
    assert power_of(gate(lost, held)) is None


def two_looks(n: int, losses: list[float], spread: float, draws: np.random.Generator, level: float) -> Decision:
    """Half of the seeds first; where they cannot tell, all of them."""
    sides = []
    for loss in losses:
        old = np.round(draws.normal(0.85, 5 * spread, n) * 360) / 360
        sides.append((old, np.round((old + draws.normal(-loss, spread, n)) * 360) / 360))
    word = Decision.CANNOT_TELL
    for count in (n // 2, n):
        pairs = [compare(ACCURACY, dict(enumerate(a[:count])), dict(enumerate(b[:count]))) for a, b in sides]
        words = {j.decision for j in judge(pairs, [ACCURACY] * len(pairs), [MARGIN] * len(pairs), level)}
        if Decision.REGRESSION in words:
            return Decision.REGRESSION
        word = Decision.PASS if words == {Decision.PASS} else Decision.CANNOT_TELL
        if word is Decision.PASS:
            return word
    return word


@pytest.mark.parametrize("spread", [0.01, pytest.param(0.03, marks=pytest.mark.slow)])
def test_two_looks_keep_both_promises(spread: float) -> None:
    """Unchanged: exit 1 in at most 5 %; one metric that has lost its margin: exit 0 in at most 5 %."""
    draws, runs = np.random.default_rng(7), sized(100, 600)
    bound = stats.binom.ppf(0.999, runs, LEVEL)
    unchanged = [two_looks(20, [0.0] * 8, spread, draws, TWO_LOOKS) for _ in range(runs)]
    assert unchanged.count(Decision.REGRESSION) <= bound
    lost = [two_looks(20, [MARGIN] + [0.0] * 7, spread, draws, TWO_LOOKS) for _ in range(runs)]
    assert lost.count(Decision.PASS) <= bound
    single = [two_looks(20, [MARGIN], spread, draws, TWO_LOOKS) for _ in range(runs)]
    assert single.count(Decision.PASS) <= bound


@pytest.mark.slow
def test_two_looks_at_the_full_level_would_not() -> None:
    draws, runs = np.random.default_rng(9), 3000
    single = [two_looks(20, [MARGIN], 0.03, draws, LEVEL) for _ in range(runs)]
    assert single.count(Decision.PASS) > stats.binom.ppf(0.999, runs, LEVEL)
