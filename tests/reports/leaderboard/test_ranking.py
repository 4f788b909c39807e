"""Who stands where, by hand."""

import numpy as np
import pytest
from invented_board import SEEDS, TERMS, around, entry
from scipy import stats

from autoflip_secure.records.board import BoardEntry, MetAttack
from autoflip_secure.reports.leaderboard.ranking import OVERALL, leaderboard
from autoflip_secure.reports.leaderboard.wording import caveats, headline

STEADY = entry("steady", [{None: 0.9, "ipm": 0.8, "mimic": 0.85}, {None: 0.8, "ipm": 0.7, "mimic": 0.6}])
BRITTLE = entry("brittle", [{None: 0.95, "ipm": 0.9, "mimic": 0.2}, {None: 0.9, "ipm": 0.85, "mimic": 0.86}])
EQUAL = entry("equal", [{None: 0.9, "ipm": 0.8, "mimic": 0.85}, {None: 0.8, "ipm": 0.7, "mimic": 0.6}])


def board(*entries: BoardEntry):
    return leaderboard(TERMS, "which?", entries)


def test_the_worst_of_all_settings_decides() -> None:
    """Brittle is better on average, and in three of four cases; its one bad case makes it last."""
    found = board(BRITTLE, STEADY).overall
    first, last = found.standings
    assert (first.name, first.worst.attack, first.where) == ("steady", "mimic", "Dirichlet 0.3")
    assert (last.name, last.worst.attack, last.where) == ("brittle", "mimic", "IID")
    assert (first.rank, last.rank) == ((1, 1), (2, 2))
    assert first.worst.attacks == 4
    assert found.title == OVERALL


def test_the_interval_holds_for_the_worst_of_all_together() -> None:
    data = [around(mean) for mean in (0.8, 0.85, 0.7, 0.6)]
    low = min(np.mean(own) - stats.t.ppf(0.975, 9) * stats.sem(own) for own in data)
    high = min(np.mean(own) + stats.t.ppf(1 - 0.025 / 4, 9) * stats.sem(own) for own in data)
    worst = board(STEADY).overall.standings[0].worst.accuracy
    assert (worst.low, worst.high, worst.n) == (pytest.approx(low), pytest.approx(high), len(SEEDS))


def test_each_setting_has_its_own_order() -> None:
    iid, dirichlet = board(BRITTLE, STEADY).settings
    assert [one.name for one in iid.standings] == ["steady", "brittle"]
    assert [one.name for one in dirichlet.standings] == ["brittle", "steady"]
    assert dirichlet.standings[0].worst.attack == "IPM"


def test_equal_defences_tie() -> None:
    found = board(STEADY, EQUAL, BRITTLE).overall
    assert {one.name: one.tie for one in found.standings} == {"steady": "1–2", "equal": "1–2", "brittle": "3"}


def test_without_attack_is_the_mean_over_settings() -> None:
    clean = board(STEADY).overall.standings[0].clean
    assert clean.mean == pytest.approx(0.85)
    assert board(STEADY).settings[1].standings[0].clean.mean == pytest.approx(0.8)


def test_two_of_one_name_are_told_apart() -> None:
    other = STEADY.model_copy(update={"algorithm": {**STEADY.algorithm, "aggregator": {"kind": "krum"}}})
    names = [one.name for one in board(STEADY, other).overall.standings]
    assert len(set(names)) == 2
    assert all(name.startswith("steady · ") for name in names)


def test_an_attack_has_one_name_whoever_met_it() -> None:
    """Two of one kind are told apart for everybody, also for a defence that met only one of them."""
    milder = MetAttack(config={**TERMS.attacks[0], "epsilon": 0.1}, threat=STEADY.attacks[0].threat)
    settings = [
        one.model_copy(update={"runs": [*one.runs, one.runs[1].model_copy(update={"attack": 2})]})
        for one in STEADY.settings
    ]
    more = STEADY.model_copy(
        update={"attacks": [*STEADY.attacks, milder], "settings": settings, "sources": {"code": "1"}, "defence": "more"}
    )
    first, second = (
        [*one.attacks] for one in sorted(board(more, BRITTLE).settings[0].standings, key=lambda one: one.name)
    )
    assert first == ["IPM · epsilon 0.5", "mimic"]
    assert second == ["IPM · epsilon 0.5", "mimic", "IPM · epsilon 0.1"]


def test_long_names_that_differ_at_their_end_are_two() -> None:
    """Of attacks (else the better one alone would count), and of defences (else both would have the numbers of one)."""
    name = "a_module:" + "n" * 130
    renamed = [
        attack.model_copy(update={"config": {**attack.config, "kind": name + end}})
        for attack, end in zip(BRITTLE.attacks, "AB", strict=True)
    ]
    first = board(BRITTLE.model_copy(update={"attacks": renamed})).settings[0].standings[0]
    assert (first.worst.accuracy.mean, len(first.attacks)) == (pytest.approx(0.2), 2)
    assert first.worst.attack.endswith("B")
    pair = [
        one.model_copy(update={"algorithm": {**one.algorithm, "name": "same", "aggregator": {"kind": name + end}},
                               "defence": "same"})
        for one, end in ((STEADY, "A"), (BRITTLE, "B"))
    ]  # fmt: skip
    found = {one.name[-1]: one.worst.accuracy.mean for one in board(*pair).overall.standings}
    assert found == {"A": pytest.approx(0.6), "B": pytest.approx(0.2)}


def test_ranks_are_corrected_for_all_tables() -> None:
    """Two defences whose p-value in one setting stands among the two of a table, and not among the six of three."""
    other = np.random.default_rng(5).normal(0, 1, len(SEEDS))
    other = (other - other.mean()) / other.std(ddof=1)
    p = 0.05 / 6  # one-sided; times two attacks: below .05 / 2, above .05 / 6
    gain = stats.t.isf(p, 9) / np.sqrt(10) * 0.01
    flat = {None: 0.9, "ipm": 0.5, "mimic": 0.5}
    base = entry("base", [flat, flat])
    runs = base.settings[0].runs
    # The base is equally bad under both attacks in both settings, and the better one gains the same everywhere.
    better = entry("better", [flat, flat])
    gained = [
        one.model_copy(
            update={
                "runs": [
                    run.model_copy(
                        update={"accuracies": [v + gain + 0.01 * o for v, o in zip(run.accuracies, other, strict=True)]}
                    )
                    for run in one.runs
                ]
            }
        )
        for one in better.settings
    ]
    better = better.model_copy(update={"settings": gained})
    assert len(runs) == 3
    found = board(base, better)
    assert {one.name: one.tie for one in found.settings[0].standings} == {"base": "1–2", "better": "1–2"}


def test_the_headline_counts_whom_the_first_does_not_stand_above() -> None:
    """Not those who may be first: of three in a chain the last is below the second, and not told from the first."""
    spread = np.tile([0.25, -0.25], 5)
    first, second, third = (entry(name, [{None: 0.9, "ipm": 0.5, "mimic": 0.5}] * 2) for name in "abc")

    def with_runs(one: BoardEntry, values: np.ndarray) -> BoardEntry:
        settings = [
            setting.model_copy(
                update={"runs": [run.model_copy(update={"accuracies": values.tolist()}) for run in setting.runs]}
            )
            for setting in one.settings
        ]
        return one.model_copy(update={"settings": settings})

    wide = with_runs(first, 0.52 + spread)
    steady, below = with_runs(second, 0.5 + spread / 1000), with_runs(third, np.full(10, 0.48) - spread / 1000)
    made = board(wide, steady, below)
    assert {one.name: one.tie for one in made.overall.standings} == {"a": "1–3", "b": "1–2", "c": "2–3"}
    assert headline(made).endswith("; the seeds do not tell 2 other defences from it")


def test_what_is_said_of_one_network_is_true() -> None:
    settings = [{"model": {"kind": kind}, "partition": {"kind": "iid"}} for kind in ("mlp", "cnn")]
    varied = TERMS.model_copy(update={"settings": settings})
    assert caveats(board(STEADY))[0].startswith("One network on one data set in 2 settings, with one share")
    assert caveats(leaderboard(varied, "which?", [STEADY]))[0].startswith("2 networks on one data set in 2 settings, ")
