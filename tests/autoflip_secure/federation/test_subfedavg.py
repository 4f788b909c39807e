"""Sub-FedAvg as written down, by plain loops, against the engine: masks, weights, bytes and operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from digits_cells import PROBLEM, X, cell
from seen_rounds import watched
from slow_clients import HELD, HIDDEN, LAYOUT, SlowClient, coverage_mean, density, prunable
from torch import Tensor

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import TrainingSchedule
from autoflip_secure.models.costs import CostModel
from autoflip_secure.pruning.subfedavg import SubFedAvg

RULE = SubFedAvg(percentile=0.2, accuracy=0.4, distance=0.03, target=0.15)
SCHEDULE = TrainingSchedule(epochs=3, lr=0.3, batch_size=8)


def cell_of(**protocol: Any) -> Cell:
    settings = {"pruner": RULE, "aggregator": Mean(weighting="equal"), "evaluation": "personal", "training": SCHEDULE}
    return replace(cell("subfedavg", 0, **(settings | {"rounds": 5, "cohort": 5} | protocol)), problem=HELD)


def percentile_mask(weights: Tensor, mask: Tensor) -> Tensor:
    """numpy's percentile of the live sizes of each tensor, as in the authors' code."""
    smaller = mask.clone()
    for segment in HIDDEN:
        live = [j for j in range(segment.start, segment.stop) if mask[j]]
        cut = np.percentile([abs(float(weights[j])) for j in live], 100 * RULE.percentile)
        for j in live:
            smaller[j] = bool(abs(float(weights[j])) >= cut)
    return smaller


def test_the_engine_is_subfedavg_as_written_down() -> None:
    one = cell_of()
    record, seen = watched(one)
    client, weights = SlowClient(one), PROBLEM.initial.clone()
    masks = {k: torch.ones(LAYOUT.size, dtype=torch.bool) for k in range(10)}
    costs = CostModel(PROBLEM.module, LAYOUT, PROBLEM.units, "ok", X[:1], SCHEDULE.batch_size)
    refused = {"accuracy": 0, "distance": 0, "target": 0, "cut": 0}
    for number, entry in enumerate(record.rounds, start=1):
        sent, up, down, operations = {}, 0, 0, 0
        for k in one.cohort(number).tolist():
            (first, _), *_, (last, _) = client.epochs(weights, masks[k], number, k)
            before, rows = masks[k], HELD.clients[k]
            early, late = percentile_mask(first, before), percentile_mask(last, before)
            differ = int((early != late).sum()) / prunable()
            why = (
                "accuracy" if client.accuracy(last, rows) < RULE.accuracy
                else "target" if 1 - density(before) >= RULE.target
                else "distance" if differ <= RULE.distance else "cut"
            )  # fmt: skip
            refused[why] += 1
            masks[k] = late if why == "cut" else before
            sent[k] = torch.where(masks[k], last, 0.0), masks[k]
            down += 14 + 4 * int(before.sum())
            up += 14 + 4 * int(masks[k].sum()) + (-(-prunable() // 8) if why == "cut" else 0)
            training, forward = costs.training(before, len(rows) * SCHEDULE.epochs).sparse, costs.forward(before).sparse
            operations += training + len(rows) * forward  # type: ignore[operator]
        weights = coverage_mean(weights, sent, dict.fromkeys(sent, 1.0))
        torch.testing.assert_close(seen.weights[number], weights, rtol=0, atol=2e-5)
        assert entry.density == pytest.approx(np.mean([density(masks[k]) for k in sent]))
        assert (entry.bytes.uplink_values, entry.bytes.downlink_values) == (up, down)
        assert entry.flops.sparse == pytest.approx(operations)
    assert min(refused.values()) > 0, refused


@pytest.mark.slow
def test_one_at_a_time_and_beside_others_the_numbers_are_the_same() -> None:
    attacked = {"attack": GaussianNoise(sigma=0.1, clients=(1, 4)), "rounds": 3}
    stacked, alone = watched(cell_of(**attacked))[0], watched(cell_of(**attacked), kind="sequential")[0]
    assert [r.density for r in stacked.rounds] == [r.density for r in alone.rounds]
    assert [r.bytes for r in stacked.rounds] == [r.bytes for r in alone.rounds]
    assert stacked.final_accuracy == pytest.approx(alone.final_accuracy, abs=0.02)
