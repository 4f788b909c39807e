"""Runs beside their clean twins, and over seeds: planted, and by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from planted import along
from scipy import stats

from autoflip_secure.federation.global_test import final_mask
from autoflip_secure.records.final_model import ClassAccuracies
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.statistics.cohort_majority import majority_probability
from autoflip_secure.reports.study.clean_twins import Recovery, clean_twins, mask_overlap, recovery
from autoflip_secure.reports.study.run_robustness import majorities, majority, rows, run_robustness
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.run_robustness import exact_table, page_table

Make = Callable[..., RunRecord]
NEW = ClassAccuracies(samples=[4, 4], accuracy=[0.5, 1.0])


@pytest.fixture
def pair(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> Callable[..., tuple[RunRecord, RunRecord]]:
    """A run whose attack ends after a round, with these accuracies, and its clean twin, with those."""

    def make(
        window: dict[str, Any], attacked: Sequence[float | None], clean: Sequence[float | None]
    ) -> tuple[RunRecord, RunRecord]:
        setting = {**attack["noise"](0.5), "window": window}
        run, twin = (
            along(record("fedavg", partition["iid"], one, 0, rounds=len(attacked)), course)
            for one, course in ((setting, attacked), (attack["clean"](), clean))
        )
        lies = [e.model_copy(update={"malicious": [True, *e.malicious[1:]]}) for e in run.rounds]
        return run.model_copy(update={"rounds": lies}), twin

    return make


CLEAN = [0.2, 0.5, 0.8, 0.8, 0.9, 0.9, 0.9, 0.9]


@pytest.mark.parametrize(
    ("window", "attacked", "found"),
    [
        ({"first": 1, "last": 3}, [0.2, 0.3, 0.4, 0.6, 0.8, 0.86, 0.9, 0.7], Recovery(3, 5)),  # 0.86 is within 5 points
        ({"first": 1, "last": 3}, [0.2, 0.3, 0.4, 0.6, 0.8, 0.8, 0.84, 0.8], Recovery(None, 5)),
        ({"first": 1, "last": 3}, [0.2, 0.3, 0.76, 0.1, 0.1, 0.1, 0.1, 0.1], Recovery(0, 5)),  # was not away at its end
        ({"first": 1, "last": 3}, [0.2, 0.8, None, None, 0.7, None, 0.9, 0.9], Recovery(0, 5)),  # as last evaluated
        ({"first": 3, "last": 4}, [None, None, None, None, 0.7, None, 0.9, 0.9], Recovery(3, 4)),
        ({"first": 1, "last": 7}, [0.1] * 8, Recovery(None, 1)),
        ({"first": 1, "last": 8}, [0.1] * 8, None),  # ends with the run
        ({"first": 1, "last": 99}, [0.1] * 8, None),
        ({"first": 1, "last": None}, [0.1] * 8, None),
        ({}, [0.1] * 8, None),
    ],
)
def test_recovery(
    pair: Callable[..., tuple[RunRecord, RunRecord]],
    window: dict[str, Any],
    attacked: list[float | None],
    found: Recovery | None,
):
    run, twin = pair(window, attacked, CLEAN)
    assert recovery(run, twin) == found
    assert clean_twins([twin, run]) == clean_twins([run, twin]) == {run.cell: twin}
    assert run_robustness([run, twin])[run.cell].recovery == found
    assert run_robustness([run])[run.cell].recovery is None, "no clean twin"
    nobody = run.model_copy(update={"rounds": [e.model_copy(update={"malicious": [False] * 5}) for e in run.rounds]})
    assert recovery(nobody, twin) is None


def test_of_several_windows_the_last_counts(pair: Callable[..., tuple[RunRecord, RunRecord]]):
    run, twin = pair({"last": 2}, [0.1, 0.1, 0.1, 0.1, 0.88, 0.9, 0.9, 0.9], CLEAN)
    for second, found in (({"last": 4}, Recovery(1, 4)), ({}, None)):
        parts = [run.config["attack"], {"kind": "label_flip", "scope": 0.2, "window": second}]
        both = run.model_copy(update={"config": run.config | {"attack": {"kind": "several", "attacks": parts}}})
        assert recovery(both, twin) == found


def test_a_twin_has_the_same_seed_and_everything_else(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    runs = [
        record(name, place, one, seed, rounds=1)
        for name in ("fedavg", "autoflip")
        for place in (partition["iid"], partition["two_classes"])
        for one in (attack["clean"](), attack["noise"](0.5), attack["flip"](0.3))
        for seed in (0, 1)
    ]
    twins = clean_twins(runs)
    assert len(twins) == 16
    for run in runs:
        if run.cell in twins:
            twin = twins[run.cell]
            assert (twin.algorithm, twin.seed, twin.config["partition"]) == (
                run.algorithm,
                run.seed,
                run.config["partition"],
            )
            assert twin.config["attack"] == attack["clean"]()
        else:
            assert run.config["attack"] == attack["clean"]()


def masked(run: RunRecord, alive: str | None) -> RunRecord:
    """As this version would record it; ``"#.#"``: the second of three weights is pruned."""
    import torch

    mask = None if alive is None else final_mask(torch.tensor([one == "#" for one in alive]))
    return run.model_copy(update={"classes": NEW, "mask": mask})


@pytest.mark.parametrize(
    ("mine", "clean", "overlap"),
    [
        ("##..#", "#.#.#", 2 / 4),
        ("##...", "##...", 1.0),
        ("##...", "..###", 0.0),
        ("#####", "#....", 1 / 5),  # nothing is pruned under attack
        (None, "##...", 2 / 5),
        ("##...", None, 2 / 5),
        (None, None, None),
        (".....", ".....", None),
    ],
)
def test_overlap_is_the_jaccard_index(
    record: Make, partition: dict[str, Any], mine: str | None, clean: str | None, overlap: float | None
):
    run = record("autoflip", partition["iid"], {"kind": "none"}, 0, rounds=1)
    assert mask_overlap(masked(run, mine), masked(run, clean)) == overlap


def test_overlap_of_earlier_versions_is_read_from_the_sample(record: Make, partition: dict[str, Any]):
    run, twin = (record("autoflip", partition["iid"], {"kind": "none"}, seed, rounds=1) for seed in (0, 1))
    assert run.guidance is not None
    assert twin.guidance is not None
    mine, other = ([alive for _, _, alive in one.guidance.sample] for one in (run, twin))  # type: ignore[union-attr]
    both = sum(a and b for a, b in zip(mine, other, strict=True))
    either = sum(a or b for a, b in zip(mine, other, strict=True))
    assert mask_overlap(run, twin) == both / either
    assert 0.05 < both / either < 0.9
    assert mask_overlap(masked(run, "##..."), twin) == both / either, "one of this version, one of an earlier one"


def test_overlap_without_a_sample_is_known_of_equal_masks_alone(record: Make, partition: dict[str, Any]):
    run = record("autoflip", partition["iid"], {"kind": "none"}, 0, rounds=1).model_copy(update={"guidance": None})
    one, same, other = (run.model_copy(update={"digests": {"mask": name}}) for name in ("a", "a", "b"))
    assert mask_overlap(one, same) == 1.0
    assert mask_overlap(one, other) is mask_overlap(run, run) is None
    whole = one.model_copy(update={"rounds": [one.rounds[0].model_copy(update={"density": 1.0})]})
    assert mask_overlap(whole, same) is None, "nothing is pruned"


def trusting(run: RunRecord, share: float) -> RunRecord:
    """The run with one malicious participant of five in every round, who holds this share of the trust."""
    change = {"malicious": [True, *[False] * 4], "trust": [share, *[(1 - share) / 4] * 4]}
    return run.model_copy(update={"rounds": [entry.model_copy(update=change) for entry in run.rounds]})


@pytest.mark.parametrize(
    ("shares", "above", "alarm"),
    [
        ([0.4, 0.45, 0.5, 0.42], True, True),
        ([1.0, 1.0], True, True),  # all the trust, in all seeds
        ([0.4], True, False),  # one seed has no interval
        ([0.1, 0.9, 0.1, 0.3], True, False),
        ([0.204, 0.205, 0.206, 0.205], False, False),  # 1.025 times: so much follows from numbers of samples
        ([0.0, 0.01, 0.02, 0.0], False, False),
    ],
)
def test_alarms(
    record: Make, partition: dict[str, Any], attack: dict[str, Any], shares: list[float], above: bool, alarm: bool
):
    runs = [
        trusting(record("autoflip", partition["iid"], attack["noise"](0.5), seed, rounds=3), share)
        for seed, share in enumerate(shares)
    ]
    (row,) = rows(study(runs))
    assert row.amplification is not None
    assert row.amplification.mean == pytest.approx(5 * fmean(shares))
    assert (row.above, row.alarm) == (above, alarm)
    if len(shares) > 1 and stdev(shares) > 0:
        half = stats.t.ppf(0.975, len(shares) - 1) * 5 * stdev(shares) / len(shares) ** 0.5
        assert row.amplification.high == pytest.approx(5 * fmean(shares) + half)
        assert row.amplification.low == pytest.approx(max(0.0, 5 * fmean(shares) - half))


def test_rows_are_means_over_seeds(small: list[RunRecord]):
    found = study(small)
    known = run_robustness(small)
    table = rows(found)
    assert len(table) == 2 * 4 * 4
    for row in table:
        runs = found.runs(row.condition, row.algorithm)
        assert row.final.mean == pytest.approx(np.mean([run.final_accuracy for run in runs]))
        assert row.late is not None
        assert row.late.mean == pytest.approx(np.mean([known[run.cell].late.mean for run in runs]))  # type: ignore[union-attr]
        assert row.worst_class is None
        rates = [run.detection.false_positive_rate for run in runs if run.detection]
        assert (row.false_positives is None) == (not rates)
        if row.false_positives is not None:
            assert row.false_positives.mean == pytest.approx(np.mean(rates))
        if row.condition.attack == "no attack":
            assert row.amplification is row.overlap is None
            assert not row.alarm


def test_the_attacked_class_stands_beside_the_clean_run_s(
    record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    """Of two seeds; runs under other attacks have none, and a page without a targeted attack no column."""
    dirty = {"kind": "dirty_label", "of": 1, "to": None, "share": 1.0, "scope": 0.2, "clients": None}
    runs = []
    for seed in (0, 1):
        nobody = dirty | {"scope": 0}
        for setting, share in ((nobody, 0.75), (dirty, 0.25), (attack["noise"](0.5), 0.5)):
            one = record("fedavg", partition["iid"], attack["noise"](0.5), seed)
            classes = ClassAccuracies(samples=[4, 4], accuracy=[0.5, share + 0.25 * seed])
            changed = {"classes": classes, "config": one.config | {"attack": setting}, "cell": f"{seed}-{share}"}
            runs.append(one.model_copy(update=changed))
    table = rows(study(runs))
    found = {row.condition.attack: row for row in table}
    row = found.pop("class 1 labelled at random on 20 %")
    assert row.attacked_class is not None
    assert row.attacked_class_clean is not None
    assert (row.attacked_class.mean, row.attacked_class_clean.mean) == (0.375, 0.875)
    assert all(one.attacked_class is one.attacked_class_clean is None for one in found.values())
    headings = {"attacked class (%)", "the same, no attack (%)"}
    assert headings <= {*page_table(table).columns}
    assert not headings & {*page_table([*found.values()]).columns}
    measures = [line[3] for line in exact_table(table).rows]
    assert measures.count("accuracy of the attacked class") == 1


def test_majorities_expected_and_seen(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    setting = {**attack["noise"](0.5, 0.4), "window": {"first": 2, "last": 9}}
    runs = [record(name, partition["iid"], setting, seed) for name in ("fedavg", "autoflip") for seed in range(3)]
    clean = record("fedavg", partition["iid"], attack["clean"](), 0)
    assert majority(clean) is None
    (group,) = majorities(study([*runs, clean]))
    one = group.example
    assert (one.clients, one.malicious, one.cohort, one.poisson, one.acting) == (20, 8, 5, False, 8)
    assert one.probability == majority_probability(20, 8, 5)
    assert one.expected == pytest.approx(8 * one.probability)
    assert sorted(group.seen) == sorted(sum(sum(e.malicious) >= 3 for e in run.rounds) for run in runs)
    poisson = runs[0].model_copy(update={"config": runs[0].config | {"sampling": "poisson"}})
    drawn = majority(poisson)
    assert drawn is not None
    assert drawn.probability == majority_probability(20, 8, 5, poisson=True)


def test_the_number_of_malicious_clients_may_change(record: Make, partition: dict[str, Any], attack: dict[str, Any]):
    parts = [{**attack["noise"](0.5, 0.2), "window": {"last": 3}}, {**attack["flip"](0.5, 0.4), "window": {"first": 3}}]
    run = record("fedavg", partition["iid"], attack["noise"](0.5, 0.4), 0, rounds=5)
    several = run.model_copy(update={"config": run.config | {"attack": {"kind": "several", "attacks": parts}}})
    found = majority(several)
    assert found is not None
    few, many = (majority_probability(20, number, 5) for number in (4, 8))
    assert (found.malicious, found.acting, found.probability) == (8, 5, many)
    assert found.expected == pytest.approx(2 * few + 3 * many)
