"""A sweep by the levels of what it compares: differences by hand, and no mean over what not all levels have."""

from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
from planted import at

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.first_screen import opened
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.levels import by_level, level_title, outside
from autoflip_secure.reports.study.scoreboard import scoreboard
from autoflip_secure.reports.study.study import Study, study

Make = Callable[..., RunRecord]
NOISE = {"kind": "gaussian_noise", "sigma": 0.5, "relative": False, "scope": 0.2}
PRIVATE = {"kind": "sample_level", "clip": 1.0, "target_epsilon": 8.0}
STRICT = {**PRIVATE, "target_epsilon": 1.0}
ASKS = {"sweep": {"product": {"algorithm": ["fedavg", "autoflip"], "privacy": ["none", PRIVATE, STRICT]}}}


def runs(record: Make, partition: dict[str, Any], seeds: range = range(4)) -> list[RunRecord]:
    """Accuracy 0.9, less by the attack, by privacy and by the algorithm; every seed a little different."""
    cells = []
    for seed in seeds:
        for name in ("fedavg", "autoflip"):
            for attack in ({"kind": "none"}, NOISE):
                for privacy, cost in ((None, 0.0), (PRIVATE, 0.1), (STRICT, 0.3)):
                    own = record(name, partition["iid"], attack, seed, rounds=2, privacy=privacy or {"kind": "none"})
                    value = 0.9 - cost - 0.2 * (attack is NOISE) + 0.001 * seed * (1 + (privacy is not None))
                    cells.append(at(own, value - 0.05 * (name == "autoflip") * (privacy is STRICT)))
    return cells


@pytest.fixture
def private(record: Make, partition: dict[str, Any]) -> Study:
    found = by_level(study(runs(record, partition)), "privacy")
    assert found is not None
    return found


def test_levels_are_compared_with_everything_else_the_same(private: Study) -> None:
    assert private.algorithms == ["no privacy", "single samples, target ε 8", "single samples, target ε 1"]
    assert private.baseline == "no privacy"
    by_hand = {}
    for record in private.records:
        privacy = record.config["privacy"]
        key = (record.algorithm, record.config["attack"]["kind"], privacy.get("target_epsilon"), record.seed)
        by_hand[key] = private.accuracy(record)
    rows = [row for row in compare(private) if row.against is not None]
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        name = "autoflip" if row.condition.facet == "AutoFLIP" else "fedavg"
        kind = "none" if row.condition.attack == "no attack" else "gaussian_noise"
        epsilon = float(row.algorithm.split()[-1])
        wanted = [by_hand[name, kind, epsilon, s] - by_hand[name, kind, None, s] for s in range(4)]
        assert row.against is not None
        assert row.against.differences == pytest.approx(wanted)


def test_no_mean_is_over_algorithms_or_epsilons(private: Study) -> None:
    blocks = scoreboard(private, compare(private))
    assert [block.stratum for block in blocks] == ["FedAvg", "AutoFLIP"]
    for block in blocks:
        for one in block.standings:
            assert one.clean is not None
            assert one.attacked is not None
            assert one.clean.conditions == one.attacked.conditions == 1


def test_a_sweep_over_privacy_that_compares_algorithms_is_split_by_privacy(
    record: Make, partition: dict[str, Any]
) -> None:
    cells = runs(record, partition)
    ledger = opened(study(cells), {**ASKS, "compare": "algorithm"}, 0)
    assert ledger.study.compared == "algorithm"
    assert len(ledger.opening.blocks) == 3
    for block in ledger.opening.blocks:
        assert {s.conditions for one in block.standings for s in (one.clean, one.attacked) if s} == {1}


def test_the_opening_answers_the_question_of_the_sweep(record: Make, partition: dict[str, Any]) -> None:
    screen = opened(study(runs(record, partition)), ASKS, 0)
    opening = screen.opening
    assert opening.headline == (
        "Fixed attacks only. Privacy against none, AutoFLIP: worse at both levels with and without attack"
    )
    assert "no privacy reaches" in opening.answer[0]
    assert "worse by 35.0" in opening.answer[0].replace("\u00a0", " ").replace("34.9", "35.0").replace("34.8", "35.0")
    assert opening.numbers[0].label == (
        "AutoFLIP, single samples, target ε 1 against runs without privacy, without attack"
    )
    assert all(n.pair is not None and n.pair.verdict.value == "worse" for n in opening.numbers)
    assert opening.pictures[0] == "privacy-utility"


def test_a_level_that_misses_conditions_has_a_block_of_its_own(record: Make, partition: dict[str, Any]) -> None:
    def cells(explorers: int, splits: list[str]) -> list[RunRecord]:
        settings = {"explorers": explorers, "epochs": 5}
        return [
            at(
                record("autoflip", partition[split], {"kind": "none"}, seed, rounds=2, exploration=settings),
                0.5 + 0.01 * explorers + 0.2 * (split == "iid") + 0.001 * seed,
            )
            for split in splits
            for seed in range(3)
        ]

    both = ["iid", "two_classes"]
    every = [*cells(1, both), *cells(5, both), *cells(20, ["iid"])]
    every += [record("fedavg", partition["iid"], {"kind": "none"}, seed, rounds=2) for seed in range(3)]
    whole = study(every)
    found = by_level(whole, "exploration.explorers")
    assert found is not None
    assert found.algorithms == ["explorers 1", "explorers 5", "explorers 20"]
    assert outside(whole, found) == ["FedAvg"]
    main, rest = scoreboard(found, compare(found))
    assert ([s.algorithm for s in main.standings], main.partial) == (["explorers 1", "explorers 5"], False)
    assert ([s.algorithm for s in rest.standings], rest.partial) == (["explorers 1", "explorers 20"], True)
    assert rest.title == "over 1 of 2 conditions, those that all of these have"
    first, last = rest.standings
    assert first.clean is not None
    assert last.clean is not None
    assert first.clean.accuracy.mean == pytest.approx(fmean([0.71, 0.711, 0.712]))  # of IID alone, as the other's
    assert last.clean.against is not None
    assert last.clean.against.difference.mean == pytest.approx(0.19)


def test_attacks_and_secure_sums_have_their_reference(record: Make, partition: dict[str, Any]) -> None:
    parties = {"kind": "crypten", "parties": 3, "updates": True}
    cells = [
        record("fedavg", partition["iid"], attack, seed, rounds=2, secure_sum=secure)
        for seed in range(2)
        for attack in ({"kind": "none"}, NOISE)
        for secure in (None, parties)
    ]
    whole = study(cells)
    by_attack, by_sums = by_level(whole, "attack"), by_level(whole, "secure_sum")
    assert by_attack is not None
    assert by_sums is not None
    assert by_attack.algorithms == ["no attack", "noise σ 0.5 on 20 %"]
    assert {str(c) for c in by_attack.conditions} == {"FedAvg · in the open", "FedAvg · everything through 3 parties"}
    assert by_sums.algorithms == ["in the open", "everything through 3 parties"]
    assert by_level(whole, "privacy") is None


def test_words_are_compared_with_the_default_and_costs_with_those_of_the_same_kind(
    record: Make, partition: dict[str, Any]
) -> None:
    cells = [
        record(name, partition["iid"], {"kind": "none"}, seed, rounds=2, training={"precision": precision})
        for seed in range(3)
        for name in ("fedavg", "autoflip")
        for precision in ("bfloat16", "float32")
    ]
    pruned = [one.costs.flops for one in cells if one.algorithm == "autoflip"]
    assert all(0 < one.sparse < one.dense for one in pruned)  # type: ignore[operator]
    found = by_level(study(cells), "training.precision")
    assert found is not None
    assert found.algorithms == ["precision float32", "precision bfloat16"]
    for block in scoreboard(found, compare(found)):
        for one in block.standings:
            assert one.flops == pytest.approx(
                {"sparse": 1.0, "compacted": 1.0}
            )  # of the pruned reference, not of dense
    told = opened(study(cells), {"compare": "training.precision"}, 0).opening
    assert "precision float32 reaches" in told.answer[0]
    assert "of the operations on live weights" not in " ".join(told.answer)


def test_what_was_not_run_without_privacy_is_not_compared(record: Make, partition: dict[str, Any]) -> None:
    cells = [
        record(name, partition["iid"], {"kind": "none"}, seed, rounds=2, privacy=privacy)
        for seed in range(2)
        for name, privacy in (("fedavg", {"kind": "none"}), ("fedavg", PRIVATE), ("autoflip", PRIVATE))
    ]
    screen = opened(study(cells), ASKS, 0)
    lonely = next(b for b in screen.opening.blocks if b.stratum == "AutoFLIP")
    assert "was not run here" in lonely.title
    assert all(s.against is None for one in lonely.standings for s in (one.clean, one.attacked) if s)
    assert any("accuracies stand there without a difference" in text for text in screen.opening.caveats)


def test_an_attack_of_no_strength_is_a_level_that_others_are_compared_with(
    record: Make, partition: dict[str, Any]
) -> None:
    cells = [
        at(record("fedavg", partition["iid"], {**NOISE, "sigma": sigma}, seed, rounds=2, axes={"attack.sigma": sigma}),
           0.9 - 0.3 * sigma + 0.001 * (seed * (sigma > 0.2) + seed))
        for sigma in (0, 0.1, 0.5)
        for seed in range(4)
    ]  # fmt: skip
    screen = opened(study(cells), {"compare": "attack.sigma"}, 0)
    assert screen.study.algorithms == ["σ 0", "σ 0.1", "σ 0.5"]
    assert [round(row.against.difference.mean, 4) for row in screen.rows if row.against] == [-0.03, -0.1485]
    assert screen.opening.headline.startswith("Fixed attacks only. σ against 0: ")
    assert level_title("attack.sigma") == "σ"
