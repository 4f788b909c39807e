"""BatchNorm and batches of one sample: refused before training exactly where training would stop."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from sizes import sized
from torch import nn

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.models.batchnorm_check import needs_company
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check

NETS = """
from torch import nn

def normed(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes))
"""
TEXT = """
clients: 8
cohort: 2
rounds: 2
training: {{epochs: 1, batch_size: {batch}}}
exploration: {{epochs: 1, explorers: 2}}
partition: {{kind: dirichlet, alpha: 0.3}}
data: {{kind: digits, train_samples: 200, test_samples: 50}}
model: "{model}"
seeds: [{seed}]
sweep: {{product: {{algorithm: [{algorithm}]}}}}
"""


def one(batch: int, seed: int, algorithm: str, model: str = "lone_nets:normed") -> Plan:
    text = TEXT.format(batch=batch, seed=seed, algorithm=algorithm, model=model)
    return plan(resolve(Document.parse(text, "s.yaml"), ()))


def said(act: Callable[[], object]) -> str:
    """What an action is refused with; nothing where it is not."""
    try:
        act()
    except InputError as error:
        return str(error)
    return ""


def test_refused_before_training_exactly_where_training_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lone_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    outcomes = []
    for batch in (4, 7):
        for seed in range(31, 31 + sized(2, 6)):
            for algorithm in ("fedavg", "autoflip"):
                work = one(batch, seed, algorithm)
                trained, refused = said(partial(run_block, work.blocks[0])), said(partial(check, work.blocks))
                stopped = "BatchNorm cannot train on one sample" in trained
                assert bool(trained) == stopped == bool(refused), (batch, seed, algorithm, trained, refused)
                outcomes.append(stopped)
                if refused and "no batch size helps" not in refused:
                    fits = int(refused.partition("training.batch_size = ")[2].split()[0])
                    check(one(fits, seed, algorithm).blocks)
    assert {True, False} == set(outcomes)


def test_only_models_that_need_company_are_asked(tmp_path: Path) -> None:
    row = torch.zeros(1, 1, 8, 8)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))
    assert needs_company(flat, row)
    assert flat.training
    assert flat[2].num_batches_tracked == 0  # tried on a copy
    assert not needs_company(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), row)  # 36 values per channel
    assert not needs_company(nn.Sequential(nn.Flatten(), nn.GroupNorm(2, 64)), row)
