"""Words of a family: by hand, by simulation of nothing but chance, and what becomes of a word that is lost."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planted import at
from scipy import stats
from sizes import sized

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.markdown import summary
from autoflip_secure.reports.statistics.correction import corrected
from autoflip_secure.reports.statistics.intervals import MARGIN
from autoflip_secure.reports.statistics.paired import Paired, Verdict, holm, paired
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.scoreboard import standings
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.phrases import judgement
from autoflip_secure.reports.wording.verdict import opening

ZERO = dict.fromkeys(range(5), 0.0)


def pair(*differences: float, margin: float = MARGIN) -> Paired:
    levels = [0.5 + 0.01 * seed for seed in range(len(differences))]
    own = {seed: level + difference for seed, (level, difference) in enumerate(zip(levels, differences, strict=True))}
    found = paired(own, dict(enumerate(levels)), margin=margin)
    assert found is not None
    return found


def told(pairs: list[Paired | None]) -> list[Verdict]:
    return [p.verdict for p in corrected(pairs) if p is not None]


FAINT = pair(0.012, 0.02, 0.028, 0.012, 0.008)  # p .011
CLEAR = pair(0.10, 0.11, 0.12, 0.10, 0.11)
OPEN = pair(0.10, -0.11, 0.12, -0.10, 0.01)
CLOSE = pair(0.001, -0.001, 0.0, 0.001, -0.001)
SAME = pair(0.0, 0.0, 0.0, 0.0, 0.0)


def test_one_comparison_alone_keeps_the_word_of_its_interval():
    for one in (FAINT, CLEAR, OPEN, CLOSE, SAME, pair(0.01), pair(*[0.01] * 5), pair(*[0.01] * 6)):
        (kept,) = corrected([one])
        assert kept is not None
        assert (kept.verdict, kept.seeds_needed) == (one.verdict, one.seeds_needed)


def test_a_family_keeps_what_holm_leaves_of_it():
    assert FAINT.verdict is Verdict.BETTER
    assert told([FAINT, OPEN, CLEAR]) == [Verdict.BETTER, Verdict.CANNOT_TELL, Verdict.BETTER]  # 2 x .011 <= .05
    assert told([FAINT, *[OPEN] * 4, CLEAR]) == [Verdict.CANNOT_TELL] * 5 + [Verdict.BETTER]  # 5 x .011
    members = [FAINT, None, OPEN, CLEAR, CLOSE, pair(-0.02, -0.01, -0.03, -0.02, -0.01)]
    found = corrected(members)
    assert found[1] is None
    assert [p.t_holm for p in found if p] == holm([p.t_p for p in members if p])
    assert [p.wilcoxon_holm for p in found if p] == holm([p.wilcoxon_p for p in members if p])
    assert {p.family for p in found if p} == {5}


def test_equal_is_corrected_too_and_what_is_the_same_bit_for_bit_stays_equal():
    edge = pair(0.0045, 0.0, 0.003, 0.001, 0.0015)
    assert edge.verdict is Verdict.EQUAL
    assert edge.equal_p == pytest.approx(
        max(
            stats.ttest_1samp(edge.differences, -MARGIN, alternative="greater").pvalue,
            stats.ttest_1samp(edge.differences, MARGIN, alternative="less").pvalue,
        )
    )
    assert told([edge, *[OPEN] * 6])[0] is Verdict.CANNOT_TELL
    assert told([SAME, *[OPEN] * 50])[0] is Verdict.EQUAL
    assert told([CLOSE, OPEN, OPEN])[0] is Verdict.EQUAL


def test_seeds_that_all_differ_by_the_same_have_the_sign_test_s_p():
    six, five = pair(*[0.01] * 6), pair(*[0.01] * 5)
    assert (six.t_p, six.p, five.p) == (None, 2 / 2**6, 2 / 2**5)
    assert told([six]) == [Verdict.BETTER]
    assert told([six, OPEN]) == [Verdict.CANNOT_TELL, Verdict.CANNOT_TELL]
    assert told([five]) == [Verdict.CANNOT_TELL]
    assert SAME.p is None


def test_a_lost_word_says_among_how_many_and_how_many_seeds_it_would_take():
    lost = corrected([FAINT, *[OPEN] * 11])[0]
    assert lost is not None
    assert lost.lost
    assert lost.seeds_needed is not None
    assert lost.seeds_needed > 5
    said = judgement(lost)
    assert said.startswith("cannot tell once corrected for 12 comparisons, difference +1.6 [+")
    assert f"about {lost.seeds_needed} seeds would settle it" in said
    assert "corrected" not in judgement(OPEN)


def test_chance_alone_is_called_better_or_worse_in_one_family_of_twenty(monkeypatch: pytest.MonkeyPatch):
    """Twenty comparisons of nothing, correlated as rows against one baseline are."""
    for module in (
        "autoflip_secure.reports.statistics.paired",
        "autoflip_secure.reports.statistics.correction",
    ):  # how many seeds would settle it is not asked here
        monkeypatch.setattr(f"{module}.seeds_to_settle", lambda *_: None)
    draws, families = np.random.default_rng(3), sized(40, 2000)
    wrong = alone = 0
    for _ in range(families):
        base = draws.normal(0, 0.02, 5)
        pairs = [pair(*(draws.normal(0, 0.02, 5) - base)) for _ in range(20)]
        alone += any(p.verdict in (Verdict.BETTER, Verdict.WORSE) for p in pairs)
        wrong += any(v in (Verdict.BETTER, Verdict.WORSE) for v in told(list(pairs)))
    assert wrong / families < 0.05 + 3 * (0.05 * 0.95 / families) ** 0.5
    assert alone / families > 0.2  # what no correction would come to


Make = Callable[..., RunRecord]


def test_no_word_of_the_first_screen_is_left_that_the_correction_takes(
    record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    """One faint gain among many open conditions: the tally, the weakest point and the scoreboard say "cannot tell"."""
    open_ = [0.04, -0.05, 0.05, -0.04, 0.0]
    sigmas = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
    cells = []
    for sigma in sigmas:
        for name, own in (("fedavg", [0.0] * 5), ("autoflip", list(FAINT.differences) if sigma == 0.1 else open_)):
            made = (record(name, partition["iid"], attack["noise"](sigma), seed, rounds=2) for seed in range(5))
            cells += [at(one, 0.6 + 0.01 * s + own[s]) for s, one in enumerate(made)]
    found = study(cells)
    rows = compare(found)
    text = opening(found, rows, {}, 0)
    said = " ".join([text.headline, *text.answer, *text.caveats, summary(found, text, [], name="x")])
    assert "better" not in said
    assert "worse" not in said
    assert "cannot tell in 6" in said
    (head,) = (s for s in standings(found, rows) if s.algorithm == "AutoFLIP")
    assert head.tally[Verdict.CANNOT_TELL] == 6
    alone = compare(study([c for c in cells if c.config["attack"]["sigma"] == 0.1]))
    assert [r.against.verdict for r in alone if r.against] == [Verdict.BETTER]  # by itself it is one


def test_the_scoreboard_is_one_family(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    names = {
        "fedavg": [0.0] * 5,
        "autoflip": list(FAINT.differences),
        "autoflip_plus": [0.05, -0.05, 0.04, -0.04, 0.01],
    }
    names |= {"agreement_only": [0.04, -0.05, 0.05, -0.04, 0.0], "random_weights": [0.04, -0.04, 0.05, -0.05, 0.01]}
    names |= {"guidance_only": [0.03, -0.05, 0.05, -0.04, 0.0]}

    def words(algorithms: list[str]) -> list[Verdict]:
        made = [
            at(record(name, partition["iid"], attack["clean"](), seed, rounds=2), 0.6 + names[name][seed])
            for name in algorithms
            for seed in range(5)
        ]
        found = study(made)
        table = standings(found, compare(found))
        return [s.clean.against.verdict for s in table if s.clean is not None and s.clean.against is not None]

    assert words(["fedavg", "autoflip"]) == [Verdict.BETTER]
    assert words(list(names)) == [Verdict.CANNOT_TELL] * 5
