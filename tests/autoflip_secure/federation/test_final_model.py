"""What a record says of the model that a run ends with, against the model itself; and what damage does."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from digits_cells import AUTOFLIP, PLUS, PROBLEM, TEST, X, Y, cell, run
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.global_test import final_mask
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.final_model import MASK_PLACES, ClassAccuracies, FinalMask, mask_places
from autoflip_secure.records.run import RunRecord
from autoflip_secure.training import choose_trainer


class Last(Watcher):
    """Keeps the last model and mask."""

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        self.weights, self.mask = state.weights, state.mask


@pytest.mark.parametrize("algorithm", [{}, AUTOFLIP, PLUS], ids=["fedavg", "autoflip", "autoflip_plus"])
def test_classes_and_mask_are_those_of_the_final_model(algorithm: dict[str, Any]) -> None:
    last = Last()
    trainer = choose_trainer(PROBLEM.module, PROBLEM.layout, X[:1])
    (record,) = run_cells([cell(evaluate_every=4, **algorithm)], trainer, watch=last)
    PROBLEM.layout.load(PROBLEM.module, last.weights)
    with torch.no_grad():
        answers = PROBLEM.module(X[TEST]).argmax(1)
    assert record.classes is not None
    for label, (samples, share) in enumerate(zip(record.classes.samples, record.classes.accuracy, strict=True)):
        own = answers[Y[TEST] == label] == label
        assert (samples, share) == (len(own), own.sum().item() / len(own))
    assert record.classes.worst == min(share for share in record.classes.accuracy if share is not None)
    right = sum(n * (a or 0) for n, a in zip(record.classes.samples, record.classes.accuracy, strict=True))
    assert right / 300 == pytest.approx(record.final_accuracy)
    if not algorithm:
        assert record.mask is None
        return
    assert record.mask is not None
    assert record.mask.alive().tolist() == last.mask[PROBLEM.layout.prunable].tolist()
    assert not record.mask.alive().all()
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_a_record_of_before_is_read_and_written_as_it_was() -> None:
    (record,) = run(cell(rounds=1))
    old = {k: v for k, v in record.model_dump(mode="json").items() if k not in ("classes", "mask")}
    read = RunRecord.model_validate_json(json.dumps(old))
    assert (read.classes, read.mask) == (None, None)
    assert read.model_dump(mode="json") == old


def test_a_class_that_is_never_recognised_and_one_that_is_not_there() -> None:
    assert ClassAccuracies(samples=[5, 0, 4], accuracy=[0.8, None, 0.0]).worst == 0.0
    assert ClassAccuracies(samples=[0], accuracy=[None]).worst is None


@pytest.mark.parametrize("size", [1, 7, 8, 4099, MASK_PLACES, MASK_PLACES + 1, 3 * MASK_PLACES])
def test_a_mask_is_read_as_it_was_packed_and_stays_small(size: int) -> None:
    mask: Tensor = torch.rand(size, generator=torch.Generator().manual_seed(size)) < 0.5
    mask[0] = False
    record = final_mask(mask)
    assert record is not None
    places = mask_places(size)
    assert len(places) == len(set(places.tolist())) == min(size, MASK_PLACES)
    assert record.alive().tolist() == mask.numpy()[places].tolist()
    assert len(record.bits) < 12_000
    assert final_mask(torch.ones(size, dtype=torch.bool)) is None


@pytest.mark.parametrize(
    "bits",
    ["", "?", "AAAA", *(base64.b64encode(zlib.compress(bytes(n))).decode() for n in (0, 1, 3, 10_000_000))],
)
def test_damaged_bits_are_named(bits: str) -> None:
    with pytest.raises(ValueError, match="bits of a final mask"):
        FinalMask(prunable=16, bits=bits).alive()
    assert np.array_equal(FinalMask(prunable=16, bits="eJxjYAAAAAIAAQ==").alive(), np.zeros(16, bool))
