"""Tuned sweeps in a report: algorithms are compared whatever each was given, and what was chosen is shown."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sizes import every

from autoflip_secure.records.run import RunRecord
from autoflip_secure.records.tuning import choose
from autoflip_secure.reports.comparison.matching import match
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.figures.tuning import tuning_curves
from autoflip_secure.reports.gate.entries import entries
from autoflip_secure.reports.pages.report import render, write_report
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.study.tuned import choices
from autoflip_secure.reports.study.worst_cases import worst_cases
from autoflip_secure.reports.wording.tuning import NOT_TUNED, caveats

Records = list[RunRecord]
RATES = [0.05, 0.1, 0.2, 0.4]
CURVES = {  # algorithm and split -> mean accuracy with each rate
    ("fedavg", "iid"): [0.6, 0.7, 0.8, 0.9],
    ("autoflip", "iid"): [0.9, 0.95, 0.9, 0.9],
    ("fedavg", "pathological"): [0.5, 0.6, 0.7, 0.7],
    ("autoflip", "pathological"): [0.8, 0.7, 0.6, 0.5],
}
CHOSEN = {
    ("FedAvg", "IID"): "lr 0.4",
    ("AutoFLIP", "IID"): "lr 0.1",
    ("FedAvg", "2 classes per client"): "lr 0.2",
    ("AutoFLIP", "2 classes per client"): "lr 0.05",
}


@pytest.fixture(scope="module")
def plain(
    sweep: Callable[..., Records], partition: dict[str, Any], attack: dict[str, Callable[..., dict[str, Any]]]
) -> Records:
    attacks = [attack["clean"](), attack["noise"](0.5), attack["flip"](0.3)]
    return sweep(("fedavg", "autoflip"), (partition["iid"], partition["two_classes"]), attacks, 3, rounds=8)


def tuned(record: RunRecord) -> RunRecord:
    """The run as it would be after a choice from :data:`CURVES`."""
    means = CURVES[record.algorithm, record.config["partition"]["kind"]]
    cells = [[f"{rate} {seed}" for seed in (0, 1)] for rate in RATES]
    accuracies = {key: mean + spread for mean, own in zip(means, cells, strict=True)
                  for key, spread in zip(own, (-0.01, 0.01), strict=True)}  # fmt: skip
    made = choose(
        [{"training.lr": rate} for rate in RATES], cells, accuracies, seeds=(100, 101), outcome="last", combinations=4
    )
    training = {**record.config["training"], "lr": made.chosen["training.lr"]}
    return record.model_copy(update={"tuning": made, "config": {**record.config, "training": training}})


@pytest.fixture(scope="module")
def records(plain: Records) -> Records:
    return [tuned(record) for record in plain]


def test_algorithms_are_compared_in_their_setting_whatever_each_was_given(plain: Records, records: Records) -> None:
    before, found = study(plain), study(records)
    assert [*found.facets] == [*before.facets] == ["IID", "2 classes per client"]
    assert found.algorithms == before.algorithms == ["FedAvg", "AutoFLIP"]
    assert found.conditions == before.conditions
    assert len(found.records) == len(records)
    assert all("lr" not in facet["training"] for facet in found.facets.values())
    assert [one.worst for group in worst_cases(found) for one in group.defended] == [
        one.worst for group in worst_cases(before) for one in group.defended
    ]


def test_without_tuning_a_rate_still_tells_settings_apart(plain: Records, records: Records) -> None:
    untuned = [record.model_copy(update={"tuning": None}) for record in records]
    assert len(study(untuned).facets) == 4


def test_one_choice_for_every_algorithm_in_every_setting(records: Records) -> None:
    found = choices(study(records))
    assert {(one.algorithm, one.facet): one.chosen for one in found} == CHOSEN
    edges = {(one.algorithm, one.facet): one.edges for one in found if one.edges}
    assert edges == {
        ("FedAvg", "IID"): "lr 0.4 is the largest tried",
        ("AutoFLIP", "2 classes per client"): "lr 0.05 is the smallest tried",
    }
    assert [one.next_best.values["training.lr"] for one in found] == [0.2, 0.05, 0.4, 0.1]


def test_what_is_said(plain: Records, records: Records) -> None:
    how, edges = caveats(study(records))
    assert how == (
        "Tuned: training.lr of every algorithm is the best of the same 4 values, by mean accuracy without attack on "
        "seeds 100 and 101, which are not reported. It was chosen once in every setting, and kept under every attack. "
        "Only the seeds are new to the reported runs: test samples that all seeds share were chosen on too."
    )
    assert edges == (
        "At an end of what was tried, so the best value may lie beyond: FedAvg in IID (lr 0.4 is the largest tried); "
        "AutoFLIP in 2 classes per client (lr 0.05 is the smallest tried)."
    )
    assert caveats(study(plain)) == [NOT_TUNED]
    assert caveats(study([record for record in plain if record.algorithm == "fedavg"])) == []
    mixed = [a if a.algorithm == "fedavg" else b for a, b in zip(records, plain, strict=True)]
    assert "Not tuned in every run: AutoFLIP; those ran with the settings of the scenario." in caveats(study(mixed))


@pytest.mark.parametrize("suite", every(2, ["standard-1", None]))
def test_every_report_says_whether_anything_was_tuned(
    suite: str | None, plain: Records, records: Records, scenario: dict[str, Any]
) -> None:
    without = render(plain, scenario | {"suite": suite}, figures=False)
    assert without.count(NOT_TUNED) == 1
    assert "Tuned: " not in without
    page = render(records, scenario | {"suite": suite}, figures=False)
    assert page.count("Tuned: training.lr of every algorithm is the best of the same 4 values") == 1
    assert NOT_TUNED not in page


@pytest.mark.slow
def test_the_report(records: Records, scenario: dict[str, Any], tmp_path: Path) -> None:
    path = write_report(records, scenario, tmp_path / "report.html")
    page, summary = path.read_text(), path.with_suffix(".md").read_text()
    for text in (
        '<figure id="tuning-table" class="long">',
        '<figure id="tuning-curves">',
        "lr 0.05 is the smallest tried",
    ):
        assert text in page
    assert "| 2 classes per client | FedAvg | lr 0.2 | 70.0 % | – |" in summary
    with (tmp_path / "tuning.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4 * 2
    assert {row["seed"] for row in rows} == {"100", "101"}
    first = rows[0]
    assert (first["facet"], first["algorithm"], first["values"]) == ("IID", "FedAvg", '{"training.lr": 0.05}')
    assert float(first["accuracy"]) == pytest.approx(0.59)
    assert sum(row["chosen"] == "True" for row in rows) == 8
    assert (tmp_path / "tuning.parquet").exists()


def test_without_tuning_there_is_no_section(plain: Records, scenario: dict[str, Any]) -> None:
    assert "tuning-table" not in render(plain, scenario, figures=False)
    found = study(plain)
    assert tuning_curves(choices(found), Palette(found)) is None


def test_the_figure_says_in_words_what_it_shows(records: Records) -> None:
    found = study(records)
    with drawing():
        picture = tuning_curves(choices(found), Palette(found))
    assert picture is not None
    assert "in 2 settings. Chosen: FedAvg in IID: lr 0.4; AutoFLIP in IID: lr 0.1; " in picture.alt
    assert picture.table.columns == [
        "setting", "algorithm", "training.lr", "mean (%)", "seed 100 (%)", "seed 101 (%)", "chosen",
    ]  # fmt: skip
    rows = [row for row in picture.table.rows if row[:2] == ["IID", "FedAvg"]]
    assert [row[2] for row in rows] == RATES
    assert [row[-1] for row in rows] == [False, False, False, True]


def test_a_tuned_sweep_is_compared_with_one_that_was_not(plain: Records, records: Records) -> None:
    """Pair by pair, and what each was given is a difference of the two."""
    found = match(plain, records)
    assert (len(found.pairs), found.only_first, found.only_second) == (len(records), [], [])
    [line] = found.settings
    assert (line.path, line.first, line.second) == ("training.lr", "0.1", "tuned: 0.05, 0.1, 0.2, 0.4")
    for one, other in found.pairs:
        assert (one.algorithm, one.seed) == (other.algorithm, other.seed)
    assert match(records, records).settings == []


def test_how_a_value_was_chosen_is_not_a_number_that_a_run_measured(plain: Records, records: Records) -> None:
    """A gate and a comparison see the same run, tuned or written out."""
    written = [record.model_copy(update={"tuning": None}) for record in records]
    assert match(records, written).identical
    one, other = entries(records), entries(written)
    assert {key: entry.digests for key, entry in one.items()} == {key: entry.digests for key, entry in other.items()}
