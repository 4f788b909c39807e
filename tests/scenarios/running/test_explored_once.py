"""What explorers came to in one block is taken in the next one: nobody explores twice, and the numbers are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.federation.explored_before import ExploredBefore
from autoflip_secure.interfaces import ClientJob, Trained
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.training import Trainer
from autoflip_secure.training.base import LocalTrainer

SMALL: dict[str, Any] = {
    "data": {"kind": "digits", "train_samples": 120, "test_samples": 40}, "model": {"kind": "mlp", "hidden": [4]},
    "clients": 6, "cohort": 3, "rounds": 2, "training": {"epochs": 1}, "exploration": {"epochs": 2}, "seeds": [1],
    "sweep": {"product": {"algorithm": ["autoflip", "autoflip_plus", "budget_only"]}},
}  # fmt: skip
FLIPPED = {"kind": "label_flip", "share": 1.0, "clients": [0, 2]}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The addresses of explorers that any trainer trains, as they are trained."""
    seen: list[tuple[int, ...]] = []

    def watched(train: Callable[..., Trained]) -> Callable[..., Trained]:
        def told(
            self: Trainer, module: nn.Module, layout: Layout, x: Tensor, jobs: Sequence[ClientJob], how: Any
        ) -> Trained:
            seen.extend(job.address for job in jobs if job.address[0] == 0)
            return train(self, module, layout, x, jobs, how)

        return told

    monkeypatch.setattr(LocalTrainer, "train", watched(LocalTrainer.train))
    return seen


def run(changes: dict[str, Any], *, together: bool) -> list[RunRecord]:
    """All cells, each in a block of its own; ``together``: with one builder, as one process of a sweep has."""
    blocks = plan(resolve(Document.parse(json.dumps(SMALL | changes), "test")), 1).blocks
    one = CellBuilder()
    return [record for block in blocks for record in run_block(block, builder=one if together else CellBuilder())]


OF_ATTACKS = {"algorithm": "autoflip", "sweep": {"product": {"attack": ["none", FLIPPED]}}}
OF_RATES = {"algorithm": "autoflip", "sweep": {"product": {"training.lr": [0.1, 0.2]}}}
OF_MODELS = {"algorithm": "autoflip", "sweep": {"product": {"model.hidden": [[4], [5]]}}}
BACKDOOR = {"kind": "backdoor", "clients": [0, 2]}
PRIVATE = {"kind": "sample_level", "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 1 / 3),
        ({"trainer": "sequential"}, 1 / 3),
        ({"exploration": {"epochs": 4, "patience": 1}}, 1 / 3),
        (OF_ATTACKS, (6 + 2) / 12),  # the flippers' labels are others
        ({"attack": BACKDOOR}, 1),
        ({"privacy": PRIVATE}, 1),
        (OF_RATES, 1),
        (OF_MODELS, 1),
    ],
    ids=["algorithms", "one at a time", "patience", "flipped labels", "changed inputs", "DP-SGD", "rates", "models"],
)
def test_who_explored_in_an_earlier_block_does_not_again(
    changes: dict[str, Any], share: float, trained: list[tuple[int, ...]]
) -> None:
    run(changes, together=False)  # tries the models, once a process
    trained.clear()
    each = run(changes, together=False)
    alone = len(trained)
    assert alone >= 6 * len(each)
    trained.clear()
    once = run(changes, together=True)
    assert len(trained) == pytest.approx(share * alone)
    assert [record.numbers() for record in once] == [record.numbers() for record in each]


def test_no_more_is_kept_than_there_is_room_for() -> None:
    before, row = ExploredBefore(room=100), torch.zeros(10)  # 40 bytes
    before.put("a", row, (1.0,))
    before.put("b", row, (2.0,))
    assert before.get("a") == (row, (1.0,))
    before.put("c", row, (3.0,))
    assert before.get("b") is None  # "a" was asked for since
    assert before.get("a") is not None
    assert before.get("c") is not None
    before.put("d", torch.zeros(26), ())
    assert before.get("d") is None
