"""Initial against final importance: of living weights only, since pruned ones keep their rank by construction."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.pruning import importance
from autoflip_secure.reports.figures.style import Palette, Picture, drawing
from autoflip_secure.reports.study.study import study

Make = Callable[..., RunRecord]


def drawn(cells: list[RunRecord]) -> Picture:
    found = study(cells)
    with drawing():
        picture = importance(found, Palette(found))
    assert picture is not None
    return picture


def sampled(run: RunRecord, sample: list[tuple[float, float, bool]]) -> RunRecord:
    assert run.guidance is not None
    return run.model_copy(update={"guidance": run.guidance.model_copy(update={"sample": sample})})


@pytest.fixture
def runs(record: Make, partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    return [record("autoflip", partition["iid"], attack["clean"](), seed, rounds=2) for seed in range(2)]


def test_pruned_weights_that_fade_together_are_no_stability(runs: list[RunRecord]):
    """Half of the weights live and shuffle; the dead halve their guidance, each of them: over all the ranks agree."""
    draws = np.random.default_rng(1)
    cells = []
    for run in runs:
        living = [(float(a), float(b), True) for a, b in 0.5 + 0.5 * draws.random((150, 2))]
        cells.append(sampled(run, [*living, *((float(a), float(a) / 2, False) for a in 0.5 * draws.random(250))]))
    expected, over_all = [], []
    for run in cells:
        assert run.guidance is not None
        table = np.array(run.guidance.sample, dtype=float)
        expected.append(stats.spearmanr(table[table[:, 2] == 1, 0], table[table[:, 2] == 1, 1]).statistic)
        over_all.append(stats.spearmanr(table[:, 0], table[:, 1]).statistic)
    assert min(over_all) > 0.7
    assert abs(np.mean(expected)) < 0.2
    picture = drawn(cells)
    assert "150 alive, 250 pruned" in picture.markup
    assert f"rank correlation {np.mean(expected):.2f}".replace("-", "−") in picture.markup
    assert {row[4]: row[3] is None for row in picture.table.rows} == {"yes": False, "no": True}
    assert sum(row[4] == "no" for row in picture.table.rows) == 250


def test_without_two_different_living_weights_there_is_no_correlation(runs: list[RunRecord]):
    for living in ([], [(0.5, 0.4, True)] * 5):
        picture = drawn([sampled(run, [*living, (0.1, 0.1, False), (0.2, 0.2, False)]) for run in runs])
        assert f"{len(living)} alive, 2 pruned" in picture.markup
