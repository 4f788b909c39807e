"""What it takes to reach the goal, counted again from the JSON of records; and the Pareto front, pair by pair."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import autoflip_secure as af
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.arrivals import to_target
from autoflip_secure.reports.figures.costs import against_bytes, against_operations
from autoflip_secure.reports.figures.style import Palette, drawing
from autoflip_secure.reports.study.pareto import front
from autoflip_secure.reports.study.study import Condition, study
from autoflip_secure.reports.study.to_target import BITMASK, COMPACTED, ROUNDS, UNITS, VALUES, arrival, arrivals, spent

Make = Callable[..., RunRecord]
IID = Condition("IID", "no attack")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Runs in which something comes before round 1 in each of the three ways, and FedAvg, as JSON."""
    document = {
        "name": "ways",
        "data": "digits",
        "model": {"kind": "mlp", "hidden": [16, 8]},
        "clients": 6,
        "cohort": 3,
        "rounds": 5,
        "training": {"epochs": 2, "lr": 0.2},
        "seeds": [20, 21],
        "sweep": {"product": {"algorithm": ["fedavg", "autoflip", "snip", "prunefl"]}},
    }
    folder = tmp_path_factory.mktemp("ways")
    af.run(document, out=folder / "runs")
    found = [json.loads(path.read_text()) for path in sorted(Path(folder / "runs" / "cells").glob("*.json"))]
    return [{key: value for key, value in one.items() if key != "checksum"} for one in found]


def test_all_that_came_before_round_1_counts_too(real: list[dict[str, Any]]) -> None:
    for written in real:
        run = RunRecord.model_validate(written)
        whole = arrival(run, 2.0)  # never reached: all of the run
        assert not whole.arrived
        assert whole.round == 5
        sent, flops = written["costs"]["bytes"], written["costs"]["flops"]
        assert whole.spent[VALUES] == pytest.approx((sent["uplink_values"] + sent["downlink_values"]) / 1e6)
        assert whole.spent[BITMASK] == pytest.approx((sent["uplink_bitmask"] + sent["downlink_bitmask"]) / 1e6)
        assert {kind: whole.spent[f"operations, {kind}"] for kind in flops} == pytest.approx(
            {kind: count / 1e9 for kind, count in flops.items()}
        )
        first = arrival(run, 0.0)
        assert (first.arrived, first.round) == (True, 1)
        rest = sum(
            entry["bytes"]["uplink_values"] + entry["bytes"]["downlink_values"] for entry in written["rounds"][1:]
        )
        assert first.spent[VALUES] == pytest.approx(whole.spent[VALUES] - rest / 1e6)
    before = {
        one["algorithm"]: [one.get(key) is not None for key in ("exploration", "preparation", "lone_training")]
        for one in real
    }
    assert before == {
        "fedavg": [False, False, False],
        "autoflip": [True, False, False],
        "snip": [False, True, False],
        "prunefl": [False, False, True],
    }


@pytest.fixture
def cells(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    names = ("fedavg", "autoflip", "random_weights")
    return [record(name, partition["iid"], attack["clean"](), seed, rounds=30) for name in names for seed in range(4)]


def by_hand(cells: list[RunRecord], algorithm: str) -> dict[int, tuple[int, float]]:
    """Seed -> round and megabytes (live values), from the text of the records."""
    texts = [json.loads(cell.model_dump_json()) for cell in cells]
    found = {}
    for seed in range(4):
        base, own = (next(t for t in texts if t["algorithm"] == a and t["seed"] == seed) for a in ("fedavg", algorithm))
        evaluated = [entry["test_accuracy"] for entry in base["rounds"] if entry["test_accuracy"] is not None]
        goal = 0.9 * float(np.mean(evaluated[-5:]))
        total = (own["exploration"] or {"bytes": {}})["bytes"]
        megabytes = (total.get("uplink_values", 0) + total.get("downlink_values", 0)) / 1e6
        for entry in own["rounds"]:
            megabytes += (entry["bytes"]["uplink_values"] + entry["bytes"]["downlink_values"]) / 1e6
            if entry["test_accuracy"] is not None and entry["test_accuracy"] >= goal:
                break
        found[seed] = entry["round"], megabytes
    return found


def test_means_ratios_and_intervals_are_those_of_the_runs(cells: list[RunRecord]) -> None:
    own = arrivals(study(cells), IID)
    base = by_hand(cells, "fedavg")
    for label, name in (("FedAvg", "fedavg"), ("AutoFLIP", "autoflip"), ("random weights", "random_weights")):
        expected = by_hand(cells, name)
        for amount, place in ((ROUNDS, 0), (VALUES, 1)):
            values = [expected[seed][place] for seed in range(4)]
            found = spent(own[label], own["FedAvg"], amount)
            assert found is not None
            assert (found.arrived, found.runs) == (4, 4)
            half = stats.t.ppf(0.975, 3) * stats.sem(values)
            ends = np.mean(values), max(0, np.mean(values) - half), np.mean(values) + half
            assert (found.mean.mean, found.mean.low, found.mean.high) == pytest.approx(ends)
            logs = np.log([expected[seed][place] / base[seed][place] for seed in range(4)])
            assert found.ratio is not None
            assert found.ratio.mean == pytest.approx(np.exp(logs.mean()))
            half = stats.t.ppf(0.975, 3) * stats.sem(logs)
            assert (found.ratio.low, found.ratio.high) == pytest.approx(
                (np.exp(logs.mean() - half), np.exp(logs.mean() + half))
            )


def never(cell: RunRecord) -> RunRecord:
    rounds = [e.model_copy(update={"test_accuracy": e.test_accuracy and 0.1}) for e in cell.rounds]
    return cell.model_copy(update={"rounds": rounds})


def test_a_run_that_never_gets_there_leaves_a_lower_bound(cells: list[RunRecord]) -> None:
    cells = [never(c) if (c.algorithm, c.seed) == ("autoflip", 2) else c for c in cells]
    own = arrivals(study(cells), IID)
    found = spent(own["AutoFLIP"], own["FedAvg"], ROUNDS)
    assert found is not None
    assert (found.arrived, found.runs, found.ratio) == (3, 4, None)
    assert found.mean.low is found.mean.high is None
    assert found.mean.mean == pytest.approx(
        np.mean([30 if seed == 2 else by_hand(cells, "autoflip")[seed][0] for seed in range(4)])
    )
    with drawing():
        picture = to_target(study(cells), Palette(study(cells)))
    assert picture is not None
    assert "AutoFLIP at least" in picture.alt
    assert "1 of 4 runs never got there" in picture.markup
    assert {row[2] for row in picture.table.rows} == set(UNITS)


def test_without_anything_to_hold_them_against_there_is_no_picture(cells: list[RunRecord]) -> None:
    for some in ([c for c in cells if c.algorithm != "fedavg"], [c for c in cells if c.algorithm == "fedavg"]):
        assert to_target(study(some), Palette(study(some))) is None


def test_operations_that_are_not_known_are_left_out(cells: list[RunRecord]) -> None:
    unknown = [
        cell.model_copy(
            update={
                "rounds": [
                    e.model_copy(update={"flops": e.flops.model_copy(update={"compacted": None})}) for e in cell.rounds
                ]
            }
        )
        for cell in cells
    ]
    found = study(unknown)
    assert spent(arrivals(found, IID)["AutoFLIP"], None, COMPACTED) is None
    with drawing():
        picture = to_target(found, Palette(found))
    assert picture is not None
    assert {row[2] for row in picture.table.rows} == set(UNITS) - {COMPACTED}


def test_the_front_is_what_nothing_dominates() -> None:
    draws = np.random.default_rng(0)
    for _ in range(200):
        points = {str(i): (float(a), float(b)) for i, (a, b) in enumerate(draws.integers(0, 6, size=(7, 2)))}
        beaten = {
            a
            for a, b in itertools.permutations(points, 2)
            if points[b] != points[a] and points[b][0] <= points[a][0] and points[b][1] >= points[a][1]
        }
        found = front(points)
        assert set(found) == set(points) - beaten
        assert [points[name] for name in found] == sorted(points[name] for name in found)


def test_figures_of_costs_draw_the_front_of_all_algorithms(
    record: Make, partition: dict[str, Any], attack: dict[str, Any]
) -> None:
    """Also where more algorithms were run than are drawn: what is on the front is."""
    names = ["fedavg", "autoflip", "autoflip_plus", "agreement_only", "guidance_only", "random_weights"]
    cells = [record(name, partition["iid"], attack["clean"](), seed, rounds=2) for name in names for seed in range(3)]
    cells += [
        record("random_weights", partition["iid"], attack["clean"](), seed, rounds=2, label=f"other_{i}")
        for i in range(5)
        for seed in range(3)
    ]
    cheap = [
        c.model_copy(
            update={
                "costs": c.costs.model_copy(
                    update={"bytes": type(c.costs.bytes)(**dict.fromkeys(type(c.costs.bytes).model_fields, 1))}
                )
            }
        )
        if c.algorithm == "other_4"
        else c
        for c in cells
    ]
    found = study(cheap)
    with drawing():
        picture = against_bytes(found, Palette(found))
        assert against_operations(found, Palette(found)) is not None
    assert picture is not None
    on = {str(row[1]): row[10] for row in picture.table.rows if row[2] == "with bitmask"}
    assert set(on) == set(found.algorithms)
    points = {str(r[1]): (float(str(r[4])), float(str(r[6]))) for r in picture.table.rows if r[2] == "with bitmask"}
    assert {name for name, is_on in on.items() if is_on == "yes"} == set(front(points))
    assert on["other 4"] == "yes"
    assert 'data-series="other 4"' in picture.markup
    assert 'data-series="other 3"' not in picture.markup or on["other 3"] == "yes"
    drawn = [name for name in found.algorithms if f'data-series="{name}"' in picture.markup]
    assert len(drawn) == 8
    assert {"FedAvg", "AutoFLIP", "AutoFLIP plus", *(name for name, is_on in on.items() if is_on == "yes")} <= {*drawn}
    assert "all of the front among them" in " ".join(picture.notes)
