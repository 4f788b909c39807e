"""The worst case over a suite: by hand, its coverage by simulation, and ranks that the seeds support."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from autoflip_secure.reports.statistics.worst_case import Rank, Tried, above_p, ranks_of_all, worst_case

SUITE = {
    "a": {1: 0.80, 2: 0.84, 3: 0.79, 4: 0.86},
    "b": {1: 0.50, 2: 0.70, 3: 0.62, 4: 0.58},
    "c": {1: 0.61, 2: 0.62, 3: 0.60, 4: 0.65},
}


def ranks(defences: dict[str, Tried]) -> dict[str, Rank]:
    return ranks_of_all([defences])[0].alone


def draw(means: np.ndarray, spread: float, seeds: int, generator: np.random.Generator) -> Tried:
    """Accuracies that share half of their variance between attacks, as those of one seed do."""
    shared = generator.normal(size=seeds)
    own = generator.normal(size=(len(means), seeds))
    values = means[:, None] + spread * (shared + own) / np.sqrt(2)
    return {f"attack {j}": dict(enumerate(row)) for j, row in enumerate(values.tolist())}


def test_by_hand() -> None:
    """The lowest mean, not the mean of the lowest; ends written out from the formula."""
    found = worst_case(SUITE)
    ends = {"low": [], "high": []}
    for values in SUITE.values():
        data = np.array([*values.values()])
        error = data.std(ddof=1) / np.sqrt(4)
        ends["low"].append(data.mean() - stats.t.ppf(0.975, 3) * error)
        ends["high"].append(data.mean() + stats.t.ppf(1 - 0.025 / 3, 3) * error)
    assert found.attack == "b"
    assert found.accuracy.mean == pytest.approx(0.60)
    assert found.accuracy.mean != np.mean([min(values[s] for values in SUITE.values()) for s in range(1, 5)])
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((min(ends["low"]), min(ends["high"])))
    assert (found.attacks, found.accuracy.n) == (3, 4)


def test_one_attack_has_the_t_interval() -> None:
    only = worst_case({"a": SUITE["a"]}).accuracy
    data = [*SUITE["a"].values()]
    expected = stats.t.interval(0.95, 3, np.mean(data), stats.sem(data))
    assert (only.low, only.high) == pytest.approx(expected)


def test_one_seed_gives_no_interval_and_no_rank() -> None:
    single = {name: {1: values[1]} for name, values in SUITE.items()}
    assert worst_case(single).accuracy.low is None
    assert ranks({"x": single, "y": {"a": {1: 0.1}}}) == {"x": (1, 2), "y": (1, 2)}


@pytest.mark.parametrize("tried", [{}, {"a": {}}])
def test_nothing_tried(tried: Tried) -> None:
    with pytest.raises(ValueError, match="at least one"):
        worst_case(tried)


def test_above_by_hand() -> None:
    """The best of b's attacks to prove it with, times their number; the worst of a's."""
    other = {"x": {1: 0.3, 2: 0.41, 3: 0.36, 4: 0.30}, "y": {1: 0.2, 2: 0.35, 3: 0.31, 4: 0.24}}
    by_hand = []
    for low in other.values():
        tests = [
            stats.ttest_rel([*high.values()], [*low.values()], alternative="greater").pvalue for high in SUITE.values()
        ]
        by_hand.append(max(tests))
    assert above_p(SUITE, other) == pytest.approx(2 * min(by_hand))
    assert above_p(other, SUITE) > 0.9


def test_ranks_follow_from_pairs() -> None:
    steady = {seed: 0.8 + seed / 1000 for seed in range(10)}

    def less(points: float) -> Tried:
        return {"x": {seed: value - points + 1e-4 * (seed % 3) for seed, value in steady.items()}}

    assert ranks({"low": less(0.5), "high": less(0.0), "middle": less(0.2)}) == {
        "high": (1, 1), "middle": (2, 2), "low": (3, 3),
    }  # fmt: skip
    assert ranks({"one": less(0.1), "same": less(0.1)}) == {"one": (1, 2), "same": (1, 2)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "means",
    [
        np.full(8, 0.5),  # all attacks alike: the estimate is biased most
        np.array([0.5, 0.52, 0.52, 0.55, 0.6, 0.7, 0.8, 0.9]),
        np.array([0.3, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]),
    ],
)
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage(means: np.ndarray, seeds: int) -> None:
    """At least 95 %, less what 1500 simulations leave open."""
    generator = np.random.default_rng(15)
    covered = 0
    for _ in range(1500):
        found = worst_case(draw(means, 0.04, seeds, generator)).accuracy
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= means.min() <= found.high
    assert covered / 1500 >= 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 1500)


@pytest.mark.slow
def test_an_uncorrected_interval_would_not_cover() -> None:
    """The doubt: the t interval of the attack that looks worst covers too little, where attacks are alike."""
    generator = np.random.default_rng(16)
    covered = 0
    for _ in range(2000):
        tried = draw(np.full(8, 0.5), 0.04, 10, generator)
        data = [*tried[worst_case(tried).attack].values()]
        low, high = stats.t.interval(0.95, 9, np.mean(data), stats.sem(data))
        covered += low <= 0.5 <= high
    assert covered / 2000 < 0.91


@pytest.mark.slow
def test_ranks_hold_for_all_at_once() -> None:
    """Among six equal defences any rank that is claimed is false: at most one study in twenty claims one."""
    generator = np.random.default_rng(17)
    false = 0
    for _ in range(300):
        found = ranks({name: draw(np.array([0.5, 0.5, 0.6]), 0.04, 5, generator) for name in "uvwxyz"})
        false += any(rank != (1, 6) for rank in found.values())
    assert false / 300 <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 300)


def test_more_seeds_tell_ranks_apart() -> None:
    generator = np.random.default_rng(18)
    apart = {
        name: draw(np.array([top, top + 0.1]), 0.03, 10, generator)
        for name, top in zip("abc", (0.8, 0.5, 0.2), strict=True)
    }
    found = ranks(apart)
    assert found == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}
    for one, other in itertools.permutations(found, 2):
        assert above_p(apart[one], apart[other]) < 0.05 or found[one][0] > found[other][0]


def test_ranks_of_several_settings_are_corrected_for_the_pairs_of_all() -> None:
    """By Bonferroni's first step, which is Holm's: two pairs of p = 0.02 are a finding alone, and none among ten."""
    steady = {seed: 0.8 + 0.001 * seed for seed in range(6)}
    close = {seed: value - 0.01 + 0.0085 * (-1) ** seed for seed, value in steady.items()}
    p = above_p({"": steady}, {"": close})
    assert 0.05 / 10 < p < 0.05 / 2
    alike = {"x": {"": steady}, "y": {"": steady}}
    found = ranks_of_all([{"x": {"": steady}, "y": {"": close}}, *4 * [alike]])
    assert found[0].alone == {"x": (1, 1), "y": (2, 2)}
    assert found[0].together == {"x": (1, 2), "y": (1, 2)}
    assert all(one.alone == one.together == {"x": (1, 2), "y": (1, 2)} for one in found[1:])


def test_all_of_them_are_right_in_nineteen_of_twenty_sweeps() -> None:
    """Six settings in which nobody differs: by themselves some setting names a false order far more often."""
    generator, wrong = np.random.default_rng(5), np.zeros(2)
    for _ in range(300):
        settings = [
            {name: {"": dict(enumerate(row))} for name, row in zip("uvw", generator.normal(size=(3, 6)), strict=True)}
            for _ in range(6)
        ]
        found = ranks_of_all(settings)
        wrong += [any(r != (1, 3) for own in way for r in own.values()) for way in zip(*found, strict=True)]
    assert wrong[1] / 300 <= 0.088  # 5 %, and three standard errors of 300 draws
    assert wrong[0] / 300 > 0.1
