"""What cannot be done is refused before anybody trains, with its place in the scenario."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep

NETS = """
import torch
from torch import nn

class Raw(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Parameter(torch.randn(64, 6) / 8)
        self.last = nn.Linear(6, classes)

    def forward(self, x):
        return self.last(torch.tanh(x.flatten(1) @ self.first))

def raw(num_classes, input_shape):
    return Raw(num_classes)
"""
SCENARIO = """name: early
data: {kind: digits, train_samples: 80, test_samples: 40}
model: early_nets:raw
clients: 4
cohort: 2
rounds: 1
seeds: [3]
"""


def work(text: str) -> Plan:
    return plan(resolve(Document.parse(SCENARIO + text, "early.yaml")))


@pytest.fixture
def _nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "early_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("_nets")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("algorithm: autoflip_plus\n", "early.yaml:8: algorithm.pruner.kind = 'budget' removes whole units"),
        (
            "sweep:\n  product:\n    algorithm:\n      - fedavg\n      - random_units\n",
            "early.yaml:12: algorithm.pruner.kind = 'random_units' removes whole units, and those of this model are "
            "not known: ",
        ),
    ],
)
def test_a_pruner_of_units_is_not_given_a_model_without_them(tmp_path: Path, text: str, said: str) -> None:
    def quiet(*_: object) -> None:
        """Nobody listens."""

    with pytest.raises(UnsupportedModelError) as refused:
        run_sweep(work(text), tmp_path / "out", None, Listener(quiet, quiet))
    assert str(refused.value).startswith(said)
    assert "; use pruner kind 'threshold'" in str(refused.value)
    assert not [*(tmp_path / "out").rglob("*.json")], "the folder is nobody's yet"
    check(work("algorithm: autoflip\n").blocks)
