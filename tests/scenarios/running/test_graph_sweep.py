"""Sweeps of models that are no chain: pruners cut whole channels, and records say what is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.figures.architecture import parts
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check_cells

MODELS = Path(__file__).parents[2] / "autoflip_secure"  # whose graph_models.py is used as a user's own module
SCENARIO = """
name: graphs
data: {{kind: digits, train_samples: 96, test_samples: 40}}
model: {model}
clients: 3
cohort: 2
rounds: 1
training: {{epochs: 1, batch_size: 16}}
exploration: {{epochs: 1}}
seeds: [10]
sweep:
  product:
    algorithm: [{algorithms}]
"""


def blocks(folder: Path, model: str, *algorithms: str) -> Sequence[Block]:
    path = folder / "scenario.yaml"
    path.write_text(SCENARIO.format(model=model, algorithms=", ".join(algorithms)))
    return plan(load(path)).blocks


def sweep(folder: Path, model: str, *algorithms: str) -> dict[str, RunRecord]:
    return {record.algorithm: record for block in blocks(folder, model, *algorithms) for record in run_block(block)}


@pytest.mark.parametrize(
    "model",
    [
        "{kind: custom, factory: 'graph_models:resnet20', arguments: {width: 4, blocks: 1}}",
        pytest.param("{kind: custom, factory: 'graph_models:resnet20', arguments: {width: 4}}", marks=pytest.mark.slow),
    ],
)
def test_residual_networks_are_pruned_by_channels(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(MODELS))
    random = "{name: random_units, pruner: {kind: random_units, threshold: 0.4}, aggregator: mean}"
    records = sweep(tmp_path, model, "fedavg", "autoflip", "autoflip_plus", random)
    dense = records["fedavg"].costs.model_flops
    assert dense.compacted == dense.dense
    assert dense.dense is not None
    for record in records.values():
        assert record.costs.compaction == "ok"
        assert record.events == []  # no unit had to stay
        for layer in record.layers:
            assert layer.units == layer.shape[0]
            assert layer.live_units is not None
            assert layer.live_inputs is not None
            assert layer.live_weights <= layer.live_units * layer.live_inputs * (
                layer.weights // layer.shape[0] // layer.shape[1]
            )
    for name, threshold in (("autoflip_plus", 0.3), ("random_units", 0.4)):
        record = records[name]
        flops = record.costs.model_flops
        assert flops.compacted is not None
        assert flops.compacted <= (1 - threshold) ** 2.1 * dense.dense  # counted on the smaller network itself
        live = {layer.name: layer for layer in record.layers}
        stream = [live[f"{layer}.weight"] for layer in ("stem.0", "stages.0.conv2")]
        assert stream[0].live_units == stream[1].live_units == live["stages.0.conv1.weight"].live_inputs  # one sum
        assert stream[0].live_units < 4
        assert live["fc.weight"].live_units == 10
        assert record.rounds[-1].bytes.uplink_values < records["fedavg"].rounds[-1].bytes.uplink_values
    assert records["autoflip"].rounds[-1].density < 0.95
    shown = {part.name: part for part in parts([records["autoflip_plus"]])}
    assert 0 < shown["stages.0.conv1"].live < 4
    assert shown["stages.0.conv1"].inner == 1.0  # filters stay whole: between live units nothing is pruned


def test_what_is_not_compacted_says_why_and_unit_pruners_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(MODELS))
    record = sweep(tmp_path, "graph_models:RowReader", "autoflip")["autoflip"]
    assert "lstm stay: LSTM is neither a fully connected layer nor a convolution" in record.costs.compaction
    assert record.costs.model_flops.compacted is None
    assert record.costs.model_flops.dense
    with pytest.raises(InputError) as refused:
        check_cells(blocks(tmp_path, "graph_models:RowReader", "fedavg", "autoflip_plus"), CellBuilder())
    assert "algorithm.pruner.kind = 'budget' removes whole units, and those of this model are not known" in str(
        refused.value
    )
    assert "use pruner kind 'threshold'" in str(refused.value)
