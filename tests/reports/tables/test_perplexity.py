"""Perplexity of runs on tokens: in the tables of cells and statistics, of nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from scipy import stats
from synthetic_records import CLEAN, TWO_CLASSES

from autoflip_secure.records.outcome import DEFAULT
from autoflip_secure.records.run import DataRecord, FeatureScale, RunRecord
from autoflip_secure.reports.study.comparisons import compare
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.tables.cells import cells_table
from autoflip_secure.reports.tables.cells_frame import cells_frame
from autoflip_secure.reports.tables.statistics import statistics_table

TEXT = DataRecord(classes=80, largest_class=0.15)


@pytest.fixture(scope="module")
def runs(record: Callable[..., RunRecord]) -> list[RunRecord]:
    found = [record(a, TWO_CLASSES, CLEAN, s, rounds=6) for a in ("fedavg", "autoflip") for s in range(4)]
    return [with_losses(run, 1.9 + 0.1 * run.seed**2 + 0.3 * (run.algorithm == "autoflip")) for run in found]


def with_losses(run: RunRecord, loss: float | None) -> RunRecord:
    rounds = [
        entry.model_copy(update={"test_loss": None if loss is None else loss + 1 / entry.round}) for entry in run.rounds
    ]
    return run.model_copy(update={"data": TEXT, "rounds": rounds, "final_loss": rounds[-1].test_loss})


def test_it_is_e_to_the_loss_and_over_seeds_the_geometric_mean(runs: list[RunRecord]) -> None:
    losses = {run.cell: DEFAULT.loss(run) for run in runs}
    frame = cells_frame(runs)
    for cell, value in zip(frame["cell"], frame["perplexity"], strict=True):
        assert value == pytest.approx(math.exp(losses[cell] or 0.0))
    found = study(runs)
    table = cells_table(found)
    assert [row[table.columns.index("perplexity")] for row in table.rows] == pytest.approx(frame["perplexity"].tolist())
    table = statistics_table(compare(found), found.baseline)
    for line, name in zip(table.rows, ("fedavg", "autoflip"), strict=True):
        own = [losses[run.cell] or 0.0 for run in runs if run.algorithm == name]
        low, high = stats.t.interval(0.95, 3, sum(own) / 4, stats.sem(own))
        place = table.columns.index("perplexity")
        assert line[place : place + 3] == pytest.approx([math.exp(sum(own) / 4), math.exp(low), math.exp(high)])


def test_a_run_that_has_no_loss_leaves_its_algorithm_without_and_other_data_have_no_column(
    runs: list[RunRecord],
) -> None:
    rows = compare(study([with_losses(runs[0], None), *runs[1:]]))
    assert [row.perplexity is None for row in rows] == [True, False]
    scale = FeatureScale(columns=64, typical=0.4, largest=1.0, where=3)
    pictures = [run.model_copy(update={"data": TEXT.model_copy(update={"features": scale})}) for run in runs]
    found = study(pictures)
    columns = [*statistics_table(compare(found), found.baseline).columns, *cells_table(found).columns]
    assert "perplexity" not in [*columns, *cells_frame(pictures).columns]
