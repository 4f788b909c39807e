"""What other test samples would change: against exact counts and simulation, and what the report says of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planted import along, at
from scipy import stats

from autoflip_secure.records.outcome import OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.intervals import Interval, mean_interval
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.test_set import NORMAL, counted, error, error_of_difference, widened
from autoflip_secure.reports.tables.statistics import statistics_table
from autoflip_secure.reports.wording.verdict import opening

Make = Callable[..., RunRecord]
IID, CLEAN = {"kind": "iid"}, {"kind": "none"}


def run(record: Make, right: list[int], samples: int, name: str = "fedavg", seed: int = 0, **config: Any) -> RunRecord:
    return along(record(name, IID, CLEAN, seed, rounds=len(right), **config), [k / samples for k in right])


@pytest.mark.parametrize(
    ("right", "samples"),
    [([100, 359, 0, 301], 359), ([7123, 9001, 9102, 9500], 10_000), ([3, 5], 8), ([33_333, 71_111], 100_003)],
)
def test_the_size_of_a_test_set_is_read_off_its_accuracies(record: Make, right: list[int], samples: int):
    assert counted([run(record, right, samples)]) == samples


def test_what_is_no_share_of_one_test_set_has_no_size(record: Make, small: list[RunRecord]):
    assert counted(small) is None  # invented accuracies
    assert counted([run(record, [999_979, 3], 999_983), run(record, [5, 7], 999_979)]) is None
    assert counted([run(record, [1, 1], 1)]) is None  # all right: says nothing
    assert counted([]) is None


def test_the_error_of_an_accuracy_is_at_least_that_of_any_samples_alike():
    """Models that agree on every sample reach the binomial; models that err now and then everywhere stay below."""
    draws, size = np.random.default_rng(1), 359
    for difficulty in (lambda n: draws.random(n) < 0.8, lambda n: np.full(n, 0.8), lambda n: draws.beta(4, 1, n)):
        accuracies = [float(np.mean(difficulty(size))) for _ in range(2000)]
        assert float(np.std(accuracies)) < 1.06 * error(0.8, size)
    sure = [float(np.mean(draws.random(size) < 0.8)) for _ in range(2000)]
    assert float(np.std(sure)) == pytest.approx(error(0.8, size), rel=0.06)
    assert error(1.0, size) > 0.003  # 359 of 359 is no proof of 100 %


def test_the_error_of_a_difference_is_at_most_that_of_models_that_never_fail_together():
    draws, size = np.random.default_rng(2), 500
    luck = draws.random((2000, size))
    apart = ((luck > 0.2).astype(float) - (luck < 0.7)).mean(1)  # .8 and .7 right, errors in different samples
    together = ((luck > 0.2).astype(float) - (luck > 0.3)).mean(1)
    bound = error_of_difference(0.8, 0.7, size)
    assert float(np.std(apart)) == pytest.approx(bound, rel=0.06)
    assert float(np.std(together)) < 0.5 * bound
    assert error_of_difference(0.8, 0.8, size) > 0
    assert error_of_difference(1.0, 0.0, size) == 0


def test_variances_of_seeds_and_samples_add_up_and_the_interval_covers():
    """Five seeds on one drawn test set, many times: with other samples in it, the interval keeps its promise."""
    draws, size, hits, alone = np.random.default_rng(3), 300, 0, 0
    for _ in range(1500):
        easy = draws.random(size) < 0.8  # samples that all seeds get right; seeds differ by luck on top
        values = [float(np.mean(easy)) + draws.normal(0, 0.01) for _ in range(5)]
        seeds = mean_interval(values)
        both = widened(seeds, size)
        assert seeds.low is not None
        assert seeds.high is not None
        assert both.low is not None
        assert both.high is not None
        hits += both.low <= 0.8 <= both.high
        alone += seeds.low <= 0.8 <= seeds.high
    assert hits / 1500 > 0.94
    assert alone / 1500 < 0.75
    half = float(stats.norm.ppf(0.975)) * error(0.6, 359)
    by_hand = widened(Interval(0.6, 0.57, 0.63, 5), 359)
    assert (by_hand.low, by_hand.high) == pytest.approx((0.6 - np.hypot(0.03, half), 0.6 + np.hypot(0.03, half)))
    assert widened(Interval(0.6, None, None, 1, "why"), 359).low is None
    assert widened(Interval(0.99, 0.98, 1.0, 5), 359).high == 1.0


def test_the_report_says_what_its_intervals_leave_out(record: Make, small: list[RunRecord]):
    right = np.random.default_rng(5).integers(250, 300, (2, 5, 6))
    cells = [
        run(record, right[i, seed].tolist(), 359, name, seed)
        for i, name in enumerate(("fedavg", "autoflip"))
        for seed in range(5)
    ]
    found = study(cells)
    rows = compare(found)
    (said,) = (c for c in opening(found, rows, {}, 0).caveats if "test set" in c)
    assert "All seeds share one test set of 359 samples" in said
    most = max(100 * NORMAL * error(row.accuracy.mean, 359) for row in rows)
    assert f"up to ± {most:.1f}\u00a0points (95\u00a0%, binomial)" in said
    assert "no word accounts for it" in said
    table = statistics_table(rows, found.baseline)
    line = dict(zip(table.columns, table.rows[1], strict=True))
    assert line["test samples"] == 359
    assert line["low, other samples (%)"] < line["low (%)"] < line["high (%)"] < line["high, other samples (%)"]
    invented = study(small)
    assert not any("test set" in c for c in opening(invented, compare(invented), {}, 0).caveats)


def test_facets_of_other_data_have_test_sets_of_their_own(record: Make):
    cells = [run(record, [200 + s, 251 + s], 359, seed=s) for s in range(3)]
    cells += [run(record, [7000 + s, 9001 + s], 10_000, seed=s, data={"kind": "mnist"}) for s in range(3)]
    rows = compare(study(cells))
    assert sorted(row.samples or 0 for row in rows) == [359, 10_000]


def test_an_attack_that_begins_among_the_averaged_evaluations_is_told(record: Make, attack: dict[str, Any]):
    def caveats(first: int, rule: OutcomeRule) -> list[str]:
        harm = attack["noise"](0.5) | {"window": {"first": first, "last": None}}
        cells = [at(record(name, IID, harm, s, rounds=12), 0.5) for name in ("fedavg", "autoflip") for s in range(2)]
        found = study(cells, rule)
        return [c for c in opening(found, compare(found), {}, 0).caveats if "begins or ends" in c]

    assert caveats(1, OutcomeRule()) == []
    (said,) = caveats(11, OutcomeRule())
    assert said.startswith("In 4 runs the attack begins or ends among the evaluations that are averaged")
    assert caveats(11, OutcomeRule(1)) == []
