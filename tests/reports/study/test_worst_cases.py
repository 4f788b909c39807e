"""Worst cases in a report: which attack, of whom, where; and a sweep without a suite says nothing of them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import at

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.threats import ThreatRecord
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.figures.worst_case import heat_map, worst_bars
from autoflip_secure.reports.pages.report import render, write_report
from autoflip_secure.reports.study.labels import percent
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.threat_cards import Cards
from autoflip_secure.reports.study.worst_cases import suites_of, worst_cases
from autoflip_secure.reports.wording.worst_case import all_fixed, title

Records = list[RunRecord]


@pytest.fixture(scope="module")
def records(
    sweep: Callable[..., Records], partition: dict[str, Any], attack: dict[str, Callable[..., dict[str, Any]]]
) -> Records:
    attacks = [attack["clean"](), *(attack["noise"](0.5, scope) for scope in (0.2, 0.4))]
    attacks += [attack["flip"](0.3, scope) for scope in (0.2, 0.4)]
    return sweep(
        ("fedavg", "autoflip", "autoflip_plus"), (partition["iid"], partition["two_classes"]), attacks, 4, rounds=10
    )


def mean_of(records: Records, algorithm: str, **wanted: Any) -> float:
    """The mean accuracy over seeds, straight from the records."""
    values = [
        np.mean([entry.test_accuracy for entry in r.rounds[5:] if entry.test_accuracy is not None][-5:])
        for r in records
        if r.algorithm == algorithm and all(r.config["attack"].get(k) == v for k, v in wanted.items())
        and r.config["partition"]["kind"] == "iid"
    ]  # fmt: skip
    assert len(values) == 4
    return float(np.mean(values))


def test_the_worst_is_the_lowest_mean_of_a_share(records: Records) -> None:
    groups = worst_cases(study(records))
    assert [(g.facet, g.who) for g in groups] == [
        (facet, who) for facet in ("IID", "2 classes per client") for who in ("20 % malicious", "40 % malicious")
    ]
    group = groups[1]
    assert group.attacks == ["noise σ 0.5", "30 % labels flipped"]
    for one in group.defended:
        name = {"FedAvg": "fedavg", "AutoFLIP": "autoflip", "AutoFLIP plus": "autoflip_plus"}[one.algorithm]
        means = {
            "noise σ 0.5": mean_of(records, name, kind="gaussian_noise", scope=0.4),
            "30 % labels flipped": mean_of(records, name, kind="label_flip", scope=0.4),
        }
        assert one.worst.attack == min(means, key=lambda attack: means[attack])
        assert one.worst.accuracy.mean == pytest.approx(min(means.values()))
        assert {attack: i.mean for attack, i in one.accuracies.items()} == pytest.approx(means)
        assert one.clean is not None
        assert one.clean.mean == pytest.approx(mean_of(records, name, kind="none"))
        if one.cost is not None:
            assert one.cost.difference.mean == pytest.approx(mean_of(records, "fedavg", kind="none") - one.clean.mean)
    means_of_worst = [one.worst.accuracy.mean for one in group.defended]
    assert means_of_worst == sorted(means_of_worst, reverse=True)
    assert [one.cost is None for one in group.defended] == [one.algorithm == "FedAvg" for one in group.defended]


def test_a_cell_that_is_missing_changes_the_number_of_seeds_and_is_told(
    records: Records, scenario: dict[str, Any]
) -> None:
    some = [r for r in records if not (r.algorithm == "autoflip" and r.config["attack"]["kind"] == "label_flip")]
    uneven = next(one for one in worst_cases(study(some))[0].defended if one.algorithm == "AutoFLIP")
    assert uneven.worst.attacks == 1
    gone = [{"cell": "x", "algorithm": "autoflip", "seed": 1, "axes": {}, "config": None}]
    text = render(some, scenario | {"suite": {"attacks": ["a", "b"]}}, missing=gone, figures=False)
    assert "1 cell missing: a worst case may be lower" in text
    assert "Not every algorithm was run under as many attacks (IID, 20" in text
    assert "Whoever stands highest was chosen for that" in text


def test_who_lacks_an_attack_stands_behind_and_above_none(records: Records) -> None:
    """AutoFLIP without the flips, which are everybody's worst attack, would stand above all."""
    levels = {"gaussian_noise": 0.8, "label_flip": 0.3, "none": 0.9}
    some = [
        at(r, levels[r.config["attack"]["kind"]] + 0.001 * (r.seed * len(r.algorithm) % 7))
        for r in records
        if not (r.algorithm == "autoflip" and r.config["attack"]["kind"] == "label_flip")
    ]
    looked, known = (worst_cases(study(some), alike=alike)[0] for alike in (False, True))
    assert (looked.defended[0].algorithm, looked.defended[0].rank) == ("AutoFLIP", (1, 1))
    assert (known.defended[-1].algorithm, known.defended[-1].rank) == ("AutoFLIP", (1, 3))
    assert "AutoFLIP stands" not in title([known])


@pytest.mark.parametrize(
    ("written", "words", "adaptive"),
    [
        ("standard-1", "standard-1", False),
        (["standard-1", "adaptive"], "standard-1 and adaptive", True),
        ({"name": "standard-1", "attacks": ["x"], "scope": 0.2}, "standard-1 and the scenario's 1 attack", False),
        ({"attacks": ["x", "y"]}, "the scenario's 2 attacks", False),
    ],
)
def test_what_a_scenario_names(written: Any, words: str, adaptive: bool) -> None:
    found = suites_of({"suite": written})
    assert found is not None
    assert (found.words, found.adaptive) == (words, adaptive)


@pytest.mark.parametrize("scenario", [{}, {"suite": None}])
def test_no_suite(scenario: dict[str, Any]) -> None:
    assert suites_of(scenario) is None


@pytest.mark.slow
def test_the_report(records: Records, scenario: dict[str, Any], tmp_path: Path) -> None:
    suite = {"suite": {"name": ["standard-1", "optimised-1"]}}
    path = write_report(records, scenario | suite, tmp_path / "report.html")
    page, summary = path.read_text(), path.with_suffix(".md").read_text()
    assert summary.startswith("### Fixed attacks only. ")
    assert '<h1 id="verdict-title">Fixed attacks only. ' in page
    for text in ("Worst case over standard-1 and optimised-1 (IID, 20", "Nothing was tuned", 'id="worst-case-table"'):
        assert text in page
    assert summary.count("**Worst case**: ") == 4
    for slug in ("worst-case-bars", "attack-heat-map"):
        assert f'<figure id="{slug}">' in page
    with (tmp_path / "worst_cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    first = worst_cases(study(records))[0].defended[0]
    assert rows[0]["algorithm"] == first.algorithm
    assert float(rows[0]["worst_case"]) == first.worst.accuracy.mean
    assert (tmp_path / "worst_cases.parquet").exists()


def test_the_first_line_says_whether_attacks_know_the_defence(records: Records, scenario: dict[str, Any]) -> None:
    some = [r for r in records if r.config["partition"]["kind"] == "iid" and r.algorithm != "autoflip"]
    fixed = render(some, scenario | {"suite": "standard-1"}, figures=False)
    assert '<h1 id="verdict-title">Fixed attacks only. ' in fixed
    adaptive = render(some, scenario | {"suite": ["standard-1", "adaptive"]}, figures=False)
    assert "Fixed attacks only" not in adaptive


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        ([{"kind": "label_flip", "scope": 0.2}, {"kind": "ipm", "scope": 0.2}], True),
        ([{"kind": "none"}], False),
        ([{"kind": "label_flip", "scope": 0}], False),
        ([{"kind": "label_flip", "scope": 0.2}, {"kind": "score_evasion", "scope": 0.2}], False),
        ([{"kind": "opt_ipm", "scope": 0.2}], False),  # its card says that it knows the defence
        ([{"kind": "several", "attacks": [{"kind": "ipm", "scope": 0.2}, {"kind": "rop", "scope": 0.2}]}], False),
        ([{"kind": "my_attacks:Own", "scope": 0.2}], False),  # nothing is known of it
    ],
)
def test_without_a_suite_the_first_line_says_it_where_every_attack_is_fixed(
    records: Records, attacks: list[dict[str, Any]], said: bool
) -> None:
    cells = [
        record.model_copy(update={"config": record.config | {"attack": one}})
        for one in attacks
        for record in records[:4]
    ]
    card = ThreatRecord(kind="opt_ipm", knowledge="defence", means=["update"], goal="untargeted", memory=False)
    found = study(
        [cell.model_copy(update={"threats": [card]}) if attacks[0]["kind"] == "opt_ipm" else cell for cell in cells]
    )
    assert all_fixed(found) is said


def test_figures_say_in_words_what_they_show(records: Records) -> None:
    found = study(records)
    worst, cards = worst_cases(found), Cards(found)
    with drawing():
        pictures = [worst_bars(worst, Palette(found), cards), heat_map(worst, cards)]
    for picture in pictures:
        assert picture is not None
        assert f"in 4 settings. {worst[0].where}: highest {worst[0].defended[0].algorithm} " in picture.alt
    assert pictures[1] is not None
    heat = pictures[1].table
    marked = [row for row in heat.rows if row[-1]]
    assert len(heat.rows) == 24
    assert len(marked) == 12


@pytest.mark.slow
def test_without_a_suite_no_worst_case_is_told(records: Records, scenario: dict[str, Any], tmp_path: Path) -> None:
    path = write_report(records[:40], scenario, tmp_path / "report.html")
    assert "worst-case" not in path.read_text()
    assert path.with_suffix(".md").read_text().startswith("### Fixed attacks only. ")
    assert not (tmp_path / "worst_cases.csv").exists()


def test_the_title_is_about_worst_cases_and_not_about_averages(records: Records) -> None:
    group = worst_cases(study(records))[0]
    first, second = (replace(one, rank=(1, 3), place=(1, 3)) for one in group.defended[:2])
    alone = replace(group, defended=[first])
    assert title([alone]) == (
        f"Worst case of {first.algorithm}: {percent(first.worst.accuracy.mean)} under {first.worst.attack}"
    )
    led, turned = replace(group, defended=[first, second]), replace(group, defended=[second, first])
    assert title([led]) == f"Worst case: {first.algorithm} stands highest; the seeds do not settle it"
    assert title([led, led, turned]) == (
        f"Worst case: {first.algorithm} stands highest in 2 of 3 settings, {second.algorithm} in 1; the seeds do "
        "not settle it"
    )
    sure = replace(led, defended=[replace(first, place=(1, 1)), replace(second, place=(2, 2))])
    assert title([sure]) == f"Worst case: {first.algorithm} stands highest"
    assert title([sure, turned]).endswith("; settled by the seeds in 1")
