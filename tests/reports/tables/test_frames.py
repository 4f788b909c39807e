"""The tidy frame holds what the records hold."""

import csv
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numbers_as_text import is_number

from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.cells import cells_table
from autoflip_secure.reports.tables.frame_files import as_csv, parquet
from autoflip_secure.reports.tables.frames import tidy


def test_one_row_per_cell_and_round(small: list[RunRecord]):
    frame = tidy(small)
    assert len(frame) == sum(len(r.rounds) for r in small)
    assert frame.groupby("cell", sort=False).size().tolist() == [len(r.rounds) for r in small]


def test_every_number_is_the_records(small: list[RunRecord]):
    frame = tidy(small).set_index(["cell", "round"])
    for run in small[::13]:
        for entry in run.rounds[::7]:
            row = frame.loc[(run.cell, entry.round)]
            malicious = [s for s, b in zip(entry.scores or [], entry.malicious, strict=False) if b]
            assert row["outcome_accuracy"] == DEFAULT.accuracy(run)
            assert row["outcome"] == "mean of the last 5 evaluations"
            assert row["bytes.uplink_values"] == entry.bytes.uplink_values
            assert row["flops.sparse"] == entry.flops.sparse
            assert row["malicious_participants"] == sum(entry.malicious)
            assert (row["test_accuracy"] == entry.test_accuracy) or (np.isnan(row["test_accuracy"]))
            assert (
                np.isnan(row["score_of_malicious"])
                if not malicious
                else row["score_of_malicious"] == pytest.approx(np.mean(malicious))
            )


def test_survives_a_round_trip_through_csv(small: list[RunRecord]):
    frame = tidy(small[:8])
    text = io.StringIO(as_csv(frame))
    again = pd.read_csv(text, dtype={"cell": str, "step_norm": str})
    assert again["cell"].tolist() == frame["cell"].tolist()
    np.testing.assert_array_equal([float(digits) for digits in again["step_norm"]], frame["step_norm"])  # every digit


def test_axes_become_columns(record: Callable[..., RunRecord], partition: dict[str, Any], attack: dict[str, Any]):
    run = record(
        "autoflip", partition["iid"], attack["noise"](0.5), 0, axes={"attack.sigma": 0.5, "algorithm": "autoflip"}
    )
    frame = tidy([run])
    assert frame["axis.attack.sigma"].unique().tolist() == [0.5]
    assert frame["axis.algorithm"].unique().tolist() == ["autoflip"]
    assert frame["attack.sigma"].unique().tolist() == [0.5]


def test_parquet_keeps_values_and_types(small: list[RunRecord]):
    big = 2**53 + 1  # a float would lose the last digit
    first = small[0].rounds[0]
    flops = first.flops.model_copy(update={"dense": big, "compacted": None})
    run = small[0].model_copy(update={"rounds": [first.model_copy(update={"flops": flops}), *small[0].rounds[1:]]})
    frame = tidy([run, *small[1:8]])
    again = pd.read_parquet(io.BytesIO(parquet(frame)))
    pd.testing.assert_frame_equal(frame, again)
    assert again["flops.dense"].iloc[0] == big
    assert pd.isna(again["flops.compacted"].iloc[0])
    assert again["flops.compacted"].dtype == "Int64"


def test_an_axis_of_mixed_values_is_text(record: Callable[..., RunRecord], partition: dict[str, Any]):
    axes: list[dict[str, Any]] = [{"x": 1, "y": True}, {"x": "one", "y": None}, {"x": {"kind": "z"}, "y": False}]
    runs = [record("fedavg", partition["iid"], {"kind": "none"}, i, rounds=2, axes=a) for i, a in enumerate(axes)]
    frame = pd.read_parquet(io.BytesIO(parquet(tidy(runs))))
    assert frame["axis.x"].tolist()[::2][:2] == ["1", "one"]
    assert frame["axis.x.kind"].tolist()[-1] == "z"
    assert frame["axis.y"].tolist()[0] is True


def test_what_is_of_the_whole_run_is_on_every_row(small: list[RunRecord]):
    """Exploration and detection of each cell, by hand from its record; nothing was spent where nobody explored."""
    frame = tidy(small)
    assert {kind for run in small for kind in [run.exploration is None]} == {True, False}
    for run in small[::7]:
        own = frame[frame["cell"] == run.cell]
        spent, found = run.exploration, run.detection
        assert set(own["exploration.bytes.uplink_values"]) == {spent.bytes.uplink_values if spent else 0}
        assert set(own["exploration.bytes.downlink_bitmask"]) == {spent.bytes.downlink_bitmask if spent else 0}
        assert set(own["exploration.flops"]) == {spent.flops if spent else 0}
        for name in ("auc", "true_positive_rate", "false_positive_rate", "client_auc"):
            value, column = getattr(found, name) if found else None, own[f"detection.{name}"]
            assert column.isna().all() if value is None else set(column) == {value}


def test_the_table_of_cells_is_the_records(small: list[RunRecord]):
    study_ = study(small)
    table = cells_table(study_)
    assert len(table.rows) == len(small)
    for line, run in zip(table.rows, study_.records, strict=True):
        row = dict(zip(table.columns, line, strict=True))
        assert (row["cell"], row["seed"]) == (run.cell, run.seed)
        assert row["accuracy (%)"] == 100 * DEFAULT.accuracy(run)
        assert row["bytes"] == run.costs.bytes.uplink_values + run.costs.bytes.downlink_values
        assert row["detection AUC"] == (run.detection.auc if run.detection else None)
    where = [table.columns.index(f"{what} of exploration") for what in ("bytes", "FLOPs")]
    spent = [(line[where[0]], line[where[1]]) for line in table.rows]
    assert spent == [
        (e.bytes.uplink_values + e.bytes.downlink_values, e.flops) if e else (0, 0)
        for e in (run.exploration for run in study_.records)
    ]


FORMULAS = ("=HYPERLINK(0)", "+1+1", "-2+3", "@SUM(1)", "\uff1d1", "-x")


def test_no_text_is_a_formula_in_a_spreadsheet(record: Callable[..., RunRecord], partition: dict[str, Any]):
    """Names of algorithms, kinds, axes and what they hold; numbers and the typed file stay as they are."""
    runs = [
        record(
            "fedavg",
            partition["iid"],
            {"kind": "none"},
            seed,
            rounds=2,
            label=name,
            axes={"algorithm": name, "x": -0.5},
        )
        for seed, name in enumerate(FORMULAS)
    ]
    other = {"partition": {"kind": "@split"}, "attack": {"kind": "=cmd", "scope": 0.2}}
    runs = [run.model_copy(update={"config": run.config | other}) for run in runs]
    frame = tidy(runs)
    text = as_csv(frame)
    rows = list(csv.reader(io.StringIO(text)))
    texts = [cell for row in rows for cell in row if not is_number(cell)]
    assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@", "\t", "\uff1d"))]
    column = rows[0].index("algorithm")
    assert [row[column] for row in rows[1::2]] == [f"'{name}" for name in FORMULAS]
    assert {row[rows[0].index("axis.x")] for row in rows[1:]} == {"-0.5"}
    assert pd.read_parquet(io.BytesIO(parquet(frame)))["algorithm"].tolist()[::2] == list(FORMULAS)


def test_the_share_of_malicious_clients_is_that_of_the_clients_that_are_named(small: list[RunRecord]):
    """Where an attack names its clients, its ``scope`` is an option that nothing uses."""
    run = next(one for one in small if one.config["attack"]["kind"] == "gaussian_noise")
    clients = run.config["clients"]
    named = run.model_copy(update={"config": {**run.config, "attack": {**run.config["attack"], "clients": [0, 3]}}})
    assert tidy([run])["attack.scope"].unique().tolist() == [run.config["attack"]["scope"]]
    assert tidy([named])["attack.scope"].unique().tolist() == [2 / clients]
    assert 2 / clients != run.config["attack"]["scope"]
