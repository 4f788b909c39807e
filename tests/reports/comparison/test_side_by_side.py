"""Two sweeps: the right cells meet, and what is said of them is what was done to them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import moved
from scipy import stats

from autoflip_secure.errors import InputError
from autoflip_secure.records.configs import NOT_THERE
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.comparison.changes import change_table, compare_pairs, headline, sentences
from autoflip_secure.reports.comparison.matching import match
from autoflip_secure.reports.comparison.side_by_side import Side, render_comparison, write_comparison
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]


@pytest.fixture
def cells(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> Callable[..., list[RunRecord]]:
    def make(algorithms: tuple[str, ...] = ("fedavg", "autoflip"), seeds: int = 4, **options: Any) -> list[RunRecord]:
        return [
            record(name, partition["iid"], malicious, seed, **{"rounds": 3} | options)
            for malicious in (attack["clean"](), attack["noise"](0.5))
            for name in algorithms
            for seed in range(seeds)
        ]

    return make


def shifted(records: list[RunRecord], by: Callable[[RunRecord], float]) -> list[RunRecord]:
    return [moved(r, by(r)) for r in records]


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2].partition("</main>")[0]).split())


def test_identical_sweeps_changed_nothing(cells: Callable[..., list[RunRecord]]):
    one, two = cells(), cells()[::-1]
    two = [r.model_copy(update={"timing": {"seconds": 9.0}}) for r in two]
    matching = match(one, two)
    assert matching.identical
    assert len(matching.pairs) == 16
    page = words(render_comparison(Side("A", "x", "runs/x", one), Side("B", "x", "runs/y", two)))
    assert "Nothing changed: all 16 cells give exactly the same numbers" in page
    assert "Every cell of A has its counterpart." in page
    assert "Settings and versions of the cells that both sweeps have are the same." in page


def test_the_smallest_change_is_noticed(cells: Callable[..., list[RunRecord]]):
    one, two = cells(), cells()
    last = two[3].rounds[-1]
    moved = last.model_copy(update={"step_norm": float(np.nextafter(last.step_norm, 9.0))})
    two[3] = two[3].model_copy(update={"rounds": [*two[3].rounds[:-1], moved]})
    matching = match(one, two)
    assert not matching.identical
    assert [a.cell for a, _ in matching.changed] == [one[3].cell]
    assert "1 of them gives different numbers, 15 exactly the same." in sentences(matching, _rows(matching))[0]


def test_a_setting_of_the_whole_sweep_is_named_and_cells_still_meet(cells: Callable[..., list[RunRecord]]):
    one, two = cells(cohort=5), cells(cohort=10)
    matching = match(one, two)
    assert [(d.path, d.first, d.second, d.algorithms) for d in matching.settings] == [("cohort", "5", "10", ())]
    assert len(matching.pairs) == 16
    assert all(a.seed == b.seed and a.config["attack"] == b.config["attack"] for a, b in matching.pairs)
    assert "Settings differ: cohort is 5 in A and 10 in B." in sentences(matching, _rows(matching))


def test_a_setting_of_one_algorithm_is_named_with_it(cells: Callable[..., list[RunRecord]]):
    matching = match(cells(threshold=0.3), cells(threshold=0.5))
    differences = {(d.path, d.first, d.second, d.algorithms) for d in matching.settings}
    assert differences == {("algorithm.pruner.threshold", "0.3", "0.5", ("AutoFLIP",))}
    assert len(matching.pairs) == 16


def test_a_swept_setting_is_no_difference_of_the_sweeps(cells: Callable[..., list[RunRecord]]):
    only = ("autoflip",)
    one = cells(only, threshold=0.3) + cells(only, threshold=0.5)
    two = cells(only, threshold=0.5) + cells(only, threshold=0.7)
    matching = match(one, two)
    assert matching.settings == []
    assert {a.config["algorithm"]["pruner"]["threshold"] for a, _ in matching.pairs} == {0.5}
    assert (len(matching.pairs), len(matching.only_first), len(matching.only_second)) == (8, 8, 8)


def test_data_partition_attack_and_seed_are_never_a_difference(
    record: Make, partition: dict[str, Any], attack: dict[str, Any]
):
    base = record("fedavg", partition["iid"], attack["noise"](0.5), 0, rounds=2)
    for other in (
        record("fedavg", partition["two_classes"], attack["noise"](0.5), 0, rounds=2),
        record("fedavg", partition["iid"], attack["noise"](0.1), 0, rounds=2),
        record("fedavg", partition["iid"], attack["noise"](0.5), 1, rounds=2),
        record("fedavg", partition["iid"], attack["noise"](0.5), 0, rounds=2, data={"kind": "mnist"}),
    ):
        matching = match([base], [other])
        assert (matching.pairs, matching.only_first, matching.only_second) == ([], [base], [other])
        with pytest.raises(InputError, match="no cell in common"):
            render_comparison(Side("A", "x", "a", [base]), Side("B", "y", "b", [other]))


def test_a_setting_that_only_one_side_knows(cells: Callable[..., list[RunRecord]]):
    matching = match(cells(extra=1), cells())
    assert [(d.path, d.first, d.second) for d in matching.settings] == [("extra", "1", NOT_THERE)]
    assert len(matching.pairs) == 16


def _rows(matching: Any) -> list[Any]:
    return compare_pairs(study([a for a, _ in matching.pairs]), matching)


def test_changes_are_paired_by_seed(cells: Callable[..., list[RunRecord]]):
    """By hand, with scipy's paired t test as the second witness. FedAvg alone moves, one seed of it is not in B."""
    one = cells(seeds=5)
    two = shifted(cells(seeds=5), lambda r: -(0.02 + 0.002 * r.seed) if r.algorithm == "fedavg" else 0.0)
    two = [r for r in two if not (r.algorithm == "fedavg" and r.seed == 4)]
    matching = match(one, two)
    assert [(r.algorithm, r.seed) for r in matching.only_first] == [("fedavg", 4)] * 2
    for row in _rows(matching):
        expected = [0.02 + 0.002 * s for s in range(4)] if row.algorithm == "FedAvg" else [0.0] * 5
        assert row.accuracy.difference.n == len(expected)
        assert row.accuracy.difference.mean == pytest.approx(np.mean(expected))
        assert row.first.mean - row.second.mean == pytest.approx(np.mean(expected))
        if row.algorithm == "FedAvg":
            assert row.accuracy.t_p == pytest.approx(float(stats.ttest_1samp(expected, 0).pvalue), rel=1e-6)
            assert row.accuracy.verdict.name == "BETTER"
        else:
            assert row.accuracy.verdict.name == "EQUAL"
    assert headline(matching, _rows(matching)) == "A against B: accuracy better in 2 of 4 comparisons"
    told = " ".join(sentences(matching, _rows(matching)))
    assert "2 only in A, 0 only in B" in told
    assert "better in 2, equal in 2" in told


def test_costs_and_detection_are_those_of_the_records(cells: Callable[..., list[RunRecord]]):
    one, two = cells(threshold=0.3), cells(threshold=0.5)
    matching = match(one, two)
    rows = change_table(_rows(matching))
    for line in rows.rows:
        told = dict(zip(rows.columns, line, strict=True))
        own = [
            p for p in matching.pairs
            if p[0].algorithm == {"FedAvg": "fedavg", "AutoFLIP": "autoflip"}[told["algorithm"]]
            and (p[0].config["attack"]["kind"] == "none") == (told["attack"] == "no attack")
        ]  # fmt: skip
        for i, letter in enumerate("AB"):
            costs = [p[i].costs for p in own]
            sent = [c.bytes.uplink_values + c.bytes.downlink_values for c in costs]
            assert told[f"MB {letter}"] == pytest.approx(np.mean(sent) / 1e6)
            assert told[f"10⁹ FLOPs {letter}"] == pytest.approx(np.mean([c.flops.sparse for c in costs]) / 1e9)
            areas = [p[i].detection.auc for p in own if p[i].detection and p[i].detection.auc is not None]
            assert told[f"AUC {letter}"] == (pytest.approx(np.mean(areas)) if areas else None)
        if told["algorithm"] == "AutoFLIP":
            assert told["MB B"] < told["MB A"]


def test_one_seed_supports_no_word(cells: Callable[..., list[RunRecord]]):
    one = cells(seeds=1)
    matching = match(one, shifted(one, lambda _: -0.2))
    assert {r.accuracy.verdict.name for r in _rows(matching)} == {"CANNOT_TELL"}
    assert "no change in accuracy that these seeds can show" in headline(matching, _rows(matching))


def test_versions_are_told(cells: Callable[..., list[RunRecord]]):
    two = [r.model_copy(update={"versions": {**r.versions, "torch": "9.9"}}) for r in cells()]
    matching = match(cells(), shifted(two, lambda r: 0.01))
    assert [(d.path, d.first, d.second) for d in matching.versions] == [("torch", "2.13.0", "9.9")]
    assert "Versions differ: torch is 2.13.0 in A and 9.9 in B." in sentences(matching, _rows(matching))


def test_the_files(cells: Callable[..., list[RunRecord]], tmp_path: Path):
    one = cells()
    first = Side("A", "new", "runs/new", one, notes=["A file is damaged."])
    second = Side("B", "old|pipe", "runs/old", shifted(one, lambda r: -0.05 - 0.001 * r.seed))
    path = write_comparison(first, second, tmp_path / "comparison.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["comparison.html", "comparison.md"]
    page = words(path.read_text())
    assert "A file is damaged." in page
    text = (tmp_path / "comparison.md").read_text()
    assert "### A against B: accuracy better in 4 of 4 comparisons" in text
    assert "old\\|pipe" in text
    assert "A file is damaged." in text
    assert text.count("\n| ") == 5
