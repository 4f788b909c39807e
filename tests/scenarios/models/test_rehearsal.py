"""Users' models, tried before a sweep begins: what would die in the middle or not repeat is refused, the rest runs."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_sweeps import sweep_of
from sizes import every
from torch import nn

from autoflip_secure.defenses.privacy.opacus_training import fit
from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.plan import Plan
from autoflip_secure.scenarios.data.base import Dataset
from autoflip_secure.scenarios.models.chains import Cnn, Cnn6, Custom, FemnistCnn, McMahanCnn, Mlp, Model
from autoflip_secure.scenarios.models.rehearsal import rehearse_building, rehearse_evaluation, trial_rows
from autoflip_secure.scenarios.models.rehearsal_training import (
    Rehearsal,
    rehearse_passes,
    rehearse_sending,
    rehearse_training,
    rehearse_units,
)
from autoflip_secure.scenarios.models.trial import check_model
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check

pytestmark = pytest.mark.filterwarnings("ignore:.*(weight_norm|torch.jit.script|enable_nested):FutureWarning")

REFUSED = {
    "DropsInEvaluation": r"scores when it is evaluated twice, from its own forward on: .*training=self\.training",
    "noise_of_the_system": r"evaluated twice, from layer '2' \(Noise\) on",
    "CarriesItsState": r"evaluated twice, .* remembers something",
    "NoiseOfTheFile": r"trains to different weights from the same seed: .* draw from torch's global generator",
    "Remembers": r"when another client trained before: its 'steps' is remembered; .*register_buffer",
    "OwnGenerator": r"when another client trained before: its 'source' is remembered",
    "weights_of_the_file": r"'bias' of layer 'last' \(Linear\) differs when the model is built again",
    "Projection": r"its 'projection' depends on the seed but is neither a parameter nor a saved buffer",
    "Shuffle": r"its 'order' depends on the seed .*register_buffer with float values",
    "ListOfLayers": r"its 'more' takes part in its scores, but is not among its parameters .*nn\.ModuleList",
    "PlainTensor": r"its 'gain' takes part in its scores, .*nn\.Parameter",
    "Squeezes": r"outputs of shape \(10,\) for 1 sample, expected \(1, 10\): do not squeeze the batch dimension",
    "Detached": r"gives none of its parameters a gradient; .*no_grad",
    "Half": r"logits of dtype torch\.float16, expected torch\.float32; end its forward with \.float\(\)",
    "Pair": r"gives a tuple, expected one tensor of logits; let its forward return only the logits",
    "OnlyInEvaluation": r"failed on 1 sample .* while it trains, in layer 'last' \(Linear\): RuntimeError",
    "OpenFile": r"cannot be copied \(.*generator.*\); each client trains a copy",
    "NoWayBack": r"failed while gradients are made of 1 sample: RuntimeError: no way back",
    "scripted": r"is compiled by torch\.jit, .*; return the nn\.Module itself",
    "normed_by_hand": r"Normed gives NaN or infinity for a batch of one sample, and client 0 with 25 samples gets",
}
TAKEN = ["lazy", "weight_norm", "spectral_norm", "parametrised", "pruned_by_torch", "hooked", "PythonDraws", "Looks"]
TAKEN += ["batch_norm", "frozen_backbone", "SharesAWeight", "Checkpointed", "from_numpy", "Tied"]


@pytest.fixture(autouse=True)
def nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def work(name: str, batch: int = 5, **more: Any) -> Plan:
    return sweep_of(f"rehearsed_nets:{name}", batch=batch, **more)


@pytest.mark.parametrize(("name", "message"), REFUSED.items(), ids=REFUSED)
def test_what_would_fail_or_not_repeat_is_refused_before_anything_runs(name: str, message: str) -> None:
    batch = 8 if name == "normed_by_hand" else 5  # 25 samples: the last batch has one, or none has
    with pytest.raises(InputError, match=message) as refused:
        check(work(name, batch).blocks)
    assert "\n" not in str(refused.value)
    assert re.match(r"s\.yaml:\d+: ", str(refused.value))


@pytest.mark.parametrize("name", every(3, TAKEN))
def test_odd_models_that_repeat_are_taken_and_run_to_the_end(name: str) -> None:
    block = work(name).blocks[0]
    check([block])
    (record,) = run_block(block)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    (again,) = run_block(block)
    assert [r.test_loss for r in record.rounds] == [r.test_loss for r in again.rounds]
    assert all(np.isfinite(r.test_loss) for r in record.rounds)


def test_every_net_of_the_file_is_tried() -> None:
    import rehearsed_nets

    helpers = {"Two", "Noise", "Trains", "Backwards"}
    own = {name for name, value in vars(rehearsed_nets).items() if getattr(value, "__module__", "") == "rehearsed_nets"}
    assert own - helpers == {*REFUSED, *TAKEN}


def test_hooks_make_units_unknown_and_say_so() -> None:
    for name in ("hooked", "weight_norm"):
        block = work(name).blocks[0]
        (record,) = run_block(block)
        assert "has hooks" in record.costs.compaction


def test_lazy_layers_start_from_the_seed_whatever_ran_before() -> None:
    model, rows = Custom(factory="rehearsed_nets:lazy"), torch.rand(2, 1, 8, 8)
    first = model.build(rows, 10, 1)
    torch.rand(7)
    again, other = model.build(rows, 10, 1), model.build(rows, 10, 2)
    weights = [Layout.of(net).vector(net) for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def tokens(low: int = 0, high: int = 49) -> Dataset:
    source = torch.Generator().manual_seed(0)
    x = torch.randint(0, 50, (30, 7), generator=source).clamp(1, 48)
    test = x[:9].clone()
    test[4, 3], x[20, 0] = high, low
    y = torch.arange(30) % 3
    return Dataset("tokens", x, y, test, y[:9], 3, None, ("a", "b", "c"))


def test_models_are_tried_on_the_rows_that_hold_the_extremes() -> None:
    rows = trial_rows(tokens())
    assert rows.dtype == torch.int64
    assert (int(rows.min()), int(rows.max())) == (0, 49)
    bag = nn.Sequential(nn.Embedding(49, 4), nn.Flatten(), nn.Linear(28, 3))
    with pytest.raises(UnsupportedModelError, match=r"'0' \(Embedding\): IndexError.*from 0 to 49: .*than 49 ent"):
        check_model(bag, rows, 3)


@pytest.mark.parametrize("cls", every(2, [Mlp, McMahanCnn, Cnn, Cnn6, FemnistCnn]))
def test_models_of_the_package_pass_the_rehearsal_that_they_are_spared(cls: type[Model]) -> None:
    from autoflip_secure.interfaces import PrivateSteps, TrainingSchedule
    from autoflip_secure.training import choose_trainer

    source = torch.Generator().manual_seed(0)
    shape = (3, 8, 8) if cls.__name__ != "McMahanCnn" else (1, 8, 8)
    x, y = torch.randn(6, *shape, generator=source), torch.arange(6) % 3
    data = Dataset("made", x, y, x[:3], y[:3], 3, None, ("a", "b", "c"))
    model, rows = cls(), trial_rows(data)
    module = model.build(rows, 3, 1)
    play = Rehearsal(module, data, TrainingSchedule(), PrivateSteps(1.0, 0.0), fit)
    rehearse_evaluation(module, rows, 3)
    rehearse_passes(play)
    rehearse_sending(play)
    rehearse_building(lambda seed: model.build(rows, 3, seed), rows, 1)
    rehearse_training(play, choose_trainer(module, play.layout, x[:2], private=fit))
    rehearse_units(play)


@pytest.mark.parametrize("name", every(4, ["PythonDraws", "weight_norm", "frozen_backbone", "lazy"]))
def test_odd_models_train_privately_too(name: str) -> None:
    (block,) = work(name, privacy="{kind: sample_level, noise_multiplier: 1.0}").blocks
    check([block])
    first, again = (run_block(block)[0] for _ in range(2))
    assert [r.test_loss for r in first.rounds] == [r.test_loss for r in again.rounds]
