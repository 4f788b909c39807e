"""Five explorers: what the budgeted mask saves of 60 rounds (docs/rivals.md), from the exploration and one round run.

The mask is static, so 60 rounds cost the exploration and 60 times the first; 60 themselves would take a minute.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import autoflip_secure as af

ROUNDS, COHORT, EXPLORERS = 60, 5, 5
SCENARIO = {
    "name": "lean",
    "data": "digits",
    "model": {"kind": "mlp", "hidden": [128, 64]},
    "clients": 20,
    "cohort": COHORT,
    "rounds": 1,
    "training": {"lr": 0.2, "batch_size": 16, "epochs": 5},
    "exploration": {"explorers": EXPLORERS},
    "seeds": [20],
    "sweep": {"product": {"algorithm": ["fedavg", "budget_only"]}},
}


def operations(first: int, second: int) -> int:
    """Multiply-adds of a step: forward, backward to the weights and, but in the first layer, to the inputs."""
    return 2 * 64 * first + 3 * (first * second + second * 10)


def test_five_explorers_save_what_the_paper_claims(tmp_path: Path) -> None:
    results = af.run(SCENARIO, out=tmp_path, workers=1)
    dense, lean = sorted(results.records, key=lambda record: record.exploration is not None)
    before, first, whole = lean.exploration, lean.rounds[0], dense.rounds[0]
    assert before is not None
    assert before.flops is not None
    assert first.flops.compacted is not None
    assert whole.flops.compacted is not None
    upload = (before.bytes.uplink_values + ROUNDS * first.bytes.uplink_values) / (ROUNDS * whole.bytes.uplink_values)
    computed = (before.flops + ROUNDS * first.flops.compacted) / (ROUNDS * whole.flops.compacted)
    assert upload <= 0.35
    assert computed <= 0.48
    one, two = (layer.live_units for layer in lean.layers if layer.hidden)
    assert one is not None
    assert two is not None
    live = sum(layer.live_weights for layer in lean.layers) + one + two + 10
    explored = EXPLORERS / (ROUNDS * COHORT)  # each trains and sends what a participant does in a round
    assert upload == pytest.approx(explored + (14 + 4 * live) / (14 + 4 * 17_226), rel=1e-9)
    assert computed == pytest.approx(explored + operations(one, two) / operations(128, 64), rel=0.02)
