"""The tidy frame holds what the records hold."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autoflip_secure.outcome import DEFAULT
from autoflip_secure.record import RunRecord
from reports.frames import parquet, tidy


def test_one_row_per_cell_and_round(small: list[RunRecord]):
    frame = tidy(small)
    assert len(frame) == sum(len(r.rounds) for r in small)
    assert frame.groupby("cell", sort=False).size().tolist() == [len(r.rounds) for r in small]


def test_every_number_is_the_records(small: list[RunRecord]):
    frame = tidy(small).set_index(["cell", "round"])
    for run in small[::13]:
        for entry in run.rounds[::7]:
            row = frame.loc[(run.cell, entry.round)]
            bad = [s for s, b in zip(entry.scores or [], entry.bad, strict=False) if b]
            assert row["outcome_accuracy"] == DEFAULT.accuracy(run)
            assert row["outcome"] == "mean of the last 5 evaluations"
            assert row["bytes.uplink_values"] == entry.bytes.uplink_values
            assert row["flops.sparse"] == entry.flops.sparse
            assert row["bad_participants"] == sum(entry.bad)
            assert (row["test_accuracy"] == entry.test_accuracy) or (np.isnan(row["test_accuracy"]))
            assert np.isnan(row["score_of_bad"]) if not bad else row["score_of_bad"] == pytest.approx(np.mean(bad))


def test_survives_a_round_trip_through_csv(small: list[RunRecord]):
    frame = tidy(small[:8])
    text = io.StringIO(frame.to_csv(index=False))
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
