"""What a right implementation shows on digits (60 rounds, seeds 0-4): bands wide enough for seeds, not for mistakes."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import run_block

SCENARIO = """
name: expectations
seeds: {first: 0, count: 5}
sweep:
  product:
    partition: [iid, {kind: pathological, classes_per_client: 2}]
    attack: [none, {kind: gaussian_noise, sigma: 0.5, scope: 0.2}]
    algorithm: [fedavg, geometric_median, agreement_only, autoflip, autoflip_plus, random_weights]
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # five minutes alone on two slow cores
def test_digits_behave_as_measured_before(tmp_path: Path) -> None:
    path = tmp_path / "expectations.yaml"
    path.write_text(textwrap.dedent(SCENARIO))
    records = [record for block in plan(load(path)).blocks for record in run_block(block)]

    def accuracy(partition: str, attack: str, algorithm: str) -> float:
        chosen = [
            100 * r.final_accuracy
            for r in records
            if (r.config["partition"]["kind"], r.config["attack"]["kind"], r.algorithm)
            == (partition, attack, algorithm)
        ]
        assert len(chosen) == 5
        return float(np.mean(chosen))

    def gain(partition: str, attack: str, algorithm: str, over: str = "fedavg") -> float:
        return accuracy(partition, attack, algorithm) - accuracy(partition, attack, over)

    noise, two = "gaussian_noise", "pathological"
    # clean: agreement costs nothing, pruning little; guidance beats random weights where it matters
    assert accuracy("iid", "none", "fedavg") > 95
    assert abs(gain("iid", "none", "agreement_only")) < 0.5
    assert -1.5 < gain("iid", "none", "autoflip") < 0.5
    assert -1.0 < gain("iid", "none", "autoflip_plus") < 0.7
    assert accuracy(two, "none", "fedavg") > 86
    assert abs(gain(two, "none", "agreement_only")) < 1
    assert -3 < gain(two, "none", "autoflip") < 1
    assert gain(two, "none", "autoflip", over="random_weights") > 2
    assert gain(two, "none", "geometric_median") < -1  # a median discards classes
    # noise ruins FedAvg, more so with two classes a client, and nobody who scores
    assert accuracy("iid", noise, "fedavg") < 94
    assert accuracy(two, noise, "fedavg") < 78
    for algorithm in ("agreement_only", "autoflip", "autoflip_plus"):
        assert accuracy("iid", noise, algorithm) > 95
        assert gain(two, noise, algorithm) > 10
        found = [r.detection.auc for r in records if r.algorithm == algorithm and r.malicious_clients and r.detection]
        assert len(found) == 10
        assert min(a for a in found if a is not None) > 0.95
    # costs at T_p 0.3, exploration included: the bands of the two masks
    for algorithm, low, high in (("autoflip", 0.25, 0.48), ("autoflip_plus", 0.33, 0.52)):
        for r in (r for r in records if r.algorithm == algorithm):
            dense = next(f for f in records if f.algorithm == "fedavg" and f.seed == r.seed)
            assert low < r.costs.bytes.uplink_bitmask / dense.costs.bytes.uplink_values < high
            assert r.costs.model_flops.compacted is not None
            assert r.costs.model_flops.sparse < r.costs.model_flops.compacted < 0.75 * r.costs.model_flops.dense
