"""Effects of crossed factors and their interactions, beside planted ones and beside sums written out by hand."""

import re
from collections.abc import Callable
from itertools import product
from statistics import fmean
from typing import Any

import pytest
from planted import at

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.effects import pictures
from autoflip_secure.reports.figures.style import drawing
from autoflip_secure.reports.pages.first_screen import opened
from autoflip_secure.reports.statistics.paired import holm
from autoflip_secure.reports.study.contrasts import Effect, effects
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]
NOISE = {"kind": "gaussian_noise", "sigma": 0.5, "relative": False, "scope": 0.2}
CLEAN = {"kind": "none"}
PRIVATE = {"kind": "sample_level", "clip": 1.0, "target_epsilon": 8.0}
PARTIES = {"kind": "crypten", "parties": 2, "updates": True}
CROSSED = {"compare": ["algorithm", "privacy", "secure_sum"]}
PARTS = {"fedavg": (0, 0), "guidance_only": (1, 0), "agreement_only": (0, 1), "autoflip": (1, 1)}  # pruned, scored
SEEDS = range(6)


def planted(pruned: int, scored: int, noisy: int, private: int, secure: int, seed: int) -> float:
    """Scores are worth 0.3 under noise and 0.2 more with privacy there; privacy costs 0.1; pruning and sums nothing."""
    wobble = 0.0007 * (((seed + 1) * (1 + pruned * 3 + scored * 4 + secure * 2 + private * 6 + noisy * 8)) % 11 - 5)
    value = 0.7 - 0.4 * noisy + 0.3 * noisy * scored - 0.1 * private - 0.2 * noisy * private * (1 - scored)
    return value + 0.01 * seed + wobble


def runs(record: Make, partition: dict[str, Any]) -> list[RunRecord]:
    return [
        at(
            record(
                name, partition["iid"], NOISE if noisy else CLEAN, seed, rounds=2,
                privacy=PRIVATE if private else {"kind": "none"}, secure_sum=PARTIES if secure else None,
            ),
            planted(*parts, noisy, private, secure, seed),
        )
        for name, parts in PARTS.items()
        for noisy, private, secure in product((0, 1), repeat=3)
        for seed in SEEDS
    ]  # fmt: skip


def one(found: list[Effect], name: str, attack: str, privacy: str) -> Effect:
    return next(e for e in found if (e.name, e.attack, e.privacy) == (name, attack, privacy))


def test_against_sums_by_hand(record: Make, partition: dict[str, Any]) -> None:
    found = effects(study(runs(record, partition)), CROSSED["compare"])
    assert found is not None
    assert found.factors["pruning"] == ["no pruning", "threshold"]
    assert found.factors["scores"] == ["mean", "agreement"]

    scores = one(found.mains, "scores", "noise σ 0.5 on 20 %", "single samples, target ε 8")
    wanted = [
        fmean(planted(p, 1, 1, 1, q, s) - planted(p, 0, 1, 1, q, s) for p in (0, 1) for q in (0, 1)) for s in SEEDS
    ]
    assert scores.pairs == 4
    assert scores.against.differences == pytest.approx(wanted)

    more = one(found.interactions, "scores × privacy", "noise σ 0.5 on 20 %", "")
    wanted = [
        fmean(
            (planted(p, 1, 1, 1, q, s) - planted(p, 0, 1, 1, q, s))
            - (planted(p, 1, 1, 0, q, s) - planted(p, 0, 1, 0, q, s))
            for p in (0, 1)
            for q in (0, 1)
        )
        for s in SEEDS
    ]
    assert more.against.differences == pytest.approx(wanted)
    assert more.against.difference.mean == pytest.approx(0.2, abs=0.01)


def test_words_are_corrected_in_two_families(record: Make, partition: dict[str, Any]) -> None:
    found = effects(study(runs(record, partition)), CROSSED["compare"])
    assert found is not None
    for family in (found.mains, found.interactions):
        assert [e.against.t_holm for e in family] == pytest.approx(holm([e.against.p for e in family]))
        assert {e.against.family for e in family} == {len(family)}
    worse = {e.name for e in found.mains if e.against.verdict.value == "worse"}
    better = {(e.name, e.attack) for e in found.mains if e.against.verdict.value == "better"}
    assert worse == {"privacy", "attack"}
    assert better == {("scores", "noise σ 0.5 on 20 %")}


def test_the_opening_is_about_them(record: Make, partition: dict[str, Any]) -> None:
    opening = opened(study(runs(record, partition)), CROSSED, 0).opening
    assert opening.headline.startswith(
        "Fixed attacks only. Scores better in 2 of 4 cases; privacy worse in all 2 cases"
    )
    assert "no effect of pruning" in opening.headline or "pruning equal" in opening.headline
    assert opening.pictures[0] == "effects"
    assert len(opening.numbers) == 3
    told = " ".join(opening.answer).replace("\u00a0", " ")
    assert (
        "Scores (agreement against mean): noise σ 0.5 on 20 %, single samples, target ε 8: better by 50.0 points"
        in told
    )
    assert "Pruning (threshold against no pruning): equal in all 4 cases" in told
    assert "scores × attack (noise σ 0.5 on 20 %, single samples, target ε 8): better by 50" in told


def test_missing_runs_leave_common_ones(record: Make, partition: dict[str, Any]) -> None:
    """Without the secure runs of one algorithm, its effect is of the open ones alone, and says so."""
    kept = [
        r for r in runs(record, partition)
        if not (r.algorithm == "autoflip" and r.config["secure_sum"] is not None)
    ]  # fmt: skip
    found = effects(study(kept), CROSSED["compare"])
    assert found is not None
    scores = one(found.mains, "scores", "no attack", "no privacy")
    assert scores.pairs == 3
    wanted = [
        fmean(planted(p, 1, 0, 0, q, s) - planted(p, 0, 0, 0, q, s) for p, q in ((0, 0), (0, 1), (1, 0))) for s in SEEDS
    ]
    assert scores.against.differences == pytest.approx(wanted)


def test_algorithms_that_are_no_crossing_are_one_factor(record: Make, partition: dict[str, Any]) -> None:
    kept = [r for r in runs(record, partition) if r.algorithm != "guidance_only"]
    found = effects(study(kept), CROSSED["compare"])
    assert found is not None
    assert next(iter(found.factors)) == "algorithm"
    assert {e.reference for e in found.mains if e.factor == "algorithm"} == {"FedAvg"}


def test_one_factor_has_no_contrasts(record: Make, partition: dict[str, Any]) -> None:
    kept = [r for r in runs(record, partition) if r.algorithm == "fedavg" and r.config["secure_sum"] is None]
    assert effects(study(kept), ["secure_sum", "algorithm"]) is None


def test_rows_of_the_figures_say_what_tells_them_apart_and_nothing_is_cut_off(
    record: Make, partition: dict[str, Any]
) -> None:
    found = effects(study(runs(record, partition)), CROSSED["compare"])
    with drawing():
        drawn = [picture.markup for picture in pictures(found)]
    rows = [
        text
        for markup in drawn
        for text in re.findall(r"<text[^>]*>([^<]*(?:pruning|scores|sums)[^<]*)</text>", markup)
    ]
    assert "scores × privacy: noise σ 0.5 on 20 %" in rows
    assert len(set(rows)) == len(rows) >= 10
    assert not [row for row in rows if "…" in row]


@pytest.mark.parametrize("compare", [["exploration.explorers", "privacy"], ["algorithm", "exploration.explorers"]])
def test_an_effect_is_over_every_algorithm_and_setting_that_is_no_factor(
    record: Make, partition: dict[str, Any], compare: list[str]
) -> None:
    """More explorers are worth 0.1 to one algorithm, cost the other 0.1, and 0.06 more after five epochs."""
    worth = {"autoflip": 0.1, "guidance_only": -0.1}
    cells = [
        at(
            record(
                name, partition["iid"], CLEAN, seed, rounds=2, privacy=PRIVATE if private else CLEAN,
                exploration={"explorers": explorers, "epochs": 5},
                training={"optimizer": "sgd", "lr": 0.1, "batch_size": 16, "epochs": epochs},
            ),
            0.5 + (own - 0.06 * (epochs == 5)) * (explorers == 20) - 0.05 * private + 0.001 * seed,
        )
        for (name, own), explorers, epochs, private, seed in product(worth.items(), (5, 20), (1, 5), (0, 1), SEEDS)
    ]  # fmt: skip
    found = effects(study(cells), compare)
    assert found is not None
    own = [e for e in found.mains if e.factor == "explorers"]
    assert [(e.pairs, e.against.difference.mean) for e in own] == 2 * [(4, pytest.approx(-0.03))]
    if "algorithm" in compare:
        assert found.factors["algorithm"] == ["AutoFLIP", "guidance only"]
        assert [e.level for e in found.mains if e.factor == "algorithm"] == 2 * ["guidance only"]
