"""Text as whole numbers: they stay what they are, models with embeddings train on them, and others get numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check

NETS = """
import torch
from torch import nn

class Recurrent(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.words, self.cells = nn.Embedding(30, 8), nn.LSTM(8, 12, batch_first=True)
        self.last = nn.Linear(12, num_classes)

    def forward(self, x):
        assert x.dtype == torch.int64
        return self.last(self.cells(self.words(x))[0][:, -1])

class Transformer(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.words, self.places = nn.Embedding(30, 8), nn.Parameter(0.1 * torch.randn(6, 8))
        self.body = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.last = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.last(self.body(self.words(x) + self.places)[:, -1])

def table(num_classes):
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, num_classes))

class Few(Recurrent):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.words = nn.Embedding(29, 8)
"""
TEXT = """
clients: 4
rounds: 3
cohort: 4
training: {epochs: 4, lr: 0.05, optimizer: adam}
exploration: {epochs: 1}
data: {kind: npz, path: words.npz}
seeds: [3]
"""


@pytest.fixture(autouse=True)
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of six ids; the class is which third of the words the last one is from."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 30, (160, 6))
    x[0, 0], x[1, 0] = 0, 29
    y = x[:, -1] // 10
    np.savez(tmp_path / "words.npz", x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    (tmp_path / "token_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def work(model: str, *more: str) -> Plan:
    return plan(
        resolve(Document.parse(TEXT + f"model: {model}\n" + "".join(f"{line}\n" for line in more), "s.yaml"), ())
    )


@pytest.mark.parametrize("model", ["Recurrent", pytest.param("Transformer", marks=pytest.mark.slow)])
def test_text_models_learn_are_attacked_and_pruned(model: str) -> None:
    malicious = "{kind: gaussian_noise, scope: 0.5, sigma: 5}"
    axes = f"sweep: {{product: {{algorithm: [fedavg, autoflip], attack: [none, {malicious}]}}}}"
    (block,) = (planned := work(f"token_nets:{model}", axes)).blocks
    check(planned.blocks)
    found = {(r.algorithm, r.config["attack"]["kind"]): r for r in run_block(block)}
    clean, noisy = (found["fedavg", kind].rounds[-1].test_accuracy for kind in ("none", "gaussian_noise"))
    assert clean > 0.7  # chance is a third
    assert noisy < 0.5  # the attack works where nobody defends
    assert found["autoflip", "none"].rounds[-1].density < 1
    assert {r.trainer.kind for r in found.values()} == {"sequential"}  # what vmap has no rule for


def test_whole_numbers_stay_whole_for_whom_they_are_names_and_become_numbers_for_others() -> None:
    builder = CellBuilder()
    kept, counted, built_in = (
        builder.dataset(work(model).cells[0].settings).x_train
        for model in ("token_nets:Recurrent", "token_nets:table", "mlp")
    )
    assert kept.dtype == torch.int64
    assert (counted.dtype, built_in.dtype) == (torch.float32, torch.float32)
    assert torch.equal(kept.float(), counted)


def test_an_embedding_too_small_for_the_ids_is_told_so_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"'words' \(Embedding\): IndexError.* from 0 to 29: let its embedd"):
        check(work("token_nets:Few").blocks)


def test_pixels_stay_pixels(tmp_path: Path) -> None:
    with np.load("words.npz") as members:
        arrays = {name: members[name].astype(np.uint8 if name[0] == "x" else np.int64) for name in members}
    np.savez("words.npz", **arrays)
    x = CellBuilder().dataset(work("mlp").cells[0].settings).x_train
    assert x.dtype == torch.float32
    assert float(x.max()) == pytest.approx(29 / 255)


def test_ids_that_no_whole_number_of_64_bits_holds_are_refused() -> None:
    with np.load("words.npz") as members:
        arrays = dict(members)
    arrays["x_train"] = arrays["x_train"].astype(np.uint64)
    arrays["x_train"][3, 3] = 2**63
    np.savez("words.npz", **arrays)
    with pytest.raises(InputError, match="x_train holds 9223372036854775808, expected"):
        check(work("mlp").blocks)


TRIGGER = """
import torch
from autoflip_secure.interfaces import BackdoorAttack

class Word(BackdoorAttack):
    \"\"\"The first word of a share of the samples becomes word 29, and these are of class 2.\"\"\"

    beyond: bool = False

    @property
    def wanted(self):
        return 9 if self.beyond else 2

    def labels(self, labels, num_classes, generator):
        return labels.where(torch.rand(len(labels), generator=generator) < 0.5, 2)

    def inputs(self, view):
        poisoned = torch.rand(len(view.inputs), generator=view.generator) >= 0.5
        return self.triggered(view.inputs, view.largest).where(poisoned[:, None], view.inputs)

    def triggered(self, inputs, largest):
        stamped = inputs.clone()
        stamped[:, 0] = 29
        return stamped
"""


def test_a_backdoor_sets_no_tokens_and_one_from_outside_may(tmp_path: Path) -> None:
    (tmp_path / "token_triggers.py").write_text(TRIGGER)
    with pytest.raises(InputError, match=r"s\.yaml.*attack\.kind = backdoor: sets numbers of a sample.*InputAttack"):
        check(work("token_nets:Recurrent", "attack: backdoor").blocks)
    check(work("mlp", "attack: {kind: backdoor, size: 2}").blocks)  # whole numbers that are counted with
    with pytest.raises(InputError, match="wanted is 9; the data has classes 0 to 2"):
        check(work("token_nets:Recurrent", 'attack: {kind: "token_triggers:Word", beyond: true}').blocks)
    (block,) = (found := work("token_nets:Recurrent", 'attack: {kind: "token_triggers:Word", scope: 0.5}')).blocks
    check(found.blocks)
    (record,) = run_block(block)
    assert record.backdoor is not None
    assert record.backdoor.target == 2
    assert record.rounds[-1].attack_success > 0.9  # the model has no other use for the first word
