"""The rows of Table III of the paper: data, models and settings, and that their small forms run where the data is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.sources import presets
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check, check_inputs

SHARED = Path(__file__).parents[4] / "shared" / "data"
ROWS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {  # row -> data, model, what is needed of the data, --set
    "mnist": ("mnist", "cnn6", "MNIST", ()),
    "cifar10": ("cifar10", "efficientnet_b3", "CIFAR10_subset", ("data.npz=CIFAR10_subset/cifar10_10k_2k.npz",)),
    "cifar100": ("cifar100", "resnet18", "CIFAR100_subset", ("data.npz=CIFAR100_subset/cifar100_5k_1k.npz",)),
    "tinyimagenet": ("tiny_imagenet", "mobilenet_v2", "tiny-imagenet-200", ()),
    "femnist": ("leaf", "femnist_cnn", "QMNIST", ()),
    "shakespeare": ("leaf", "lstm", "tinyshakespeare", ()),
}


def test_there_is_a_preset_for_every_row() -> None:
    assert {name.removeprefix("table3_") for name in presets() if name.startswith("table3_")} == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_full_form_has_what_is_known_of_the_authors(row: str) -> None:
    scenario = load(f"table3_{row}")
    assert scenario.header.name == f"table3_{row}"
    assert not set(scenario.header.seeds) & set(range(10)), "seeds 0-9 are for tuning"
    algorithms = {cell.settings.algorithm.name for cell in scenario.cells}
    assert {"fedavg", "autoflip"} <= algorithms
    assert "prunefl" in algorithms
    assert {"taylor", "eflprune"} <= algorithms or row == "shakespeare"  # an LSTM has no units
    for cell in scenario.cells:
        said: Any = cell.settings
        assert (said.data.kind, said.model.kind) == ROWS[row][:2]
        training = said.training
        assert (training.optimizer, training.lr, training.lr_decay) == ("adam", 3e-4, 0.99)
        assert (training.batch_size, training.epochs, said.rounds, said.server_momentum) == (350, 5, 200, 0.9)
        assert (said.exploration.epochs, said.exploration.patience) == (150, 40)
        if row in ("cifar10", "cifar100", "tinyimagenet"):
            assert (training.augment.flip, training.augment.jitter) == (0.5, 0.5)
        if row in ("cifar10", "cifar100"):
            assert said.data.image_size == 24
        if said.algorithm.pruner.kind == "threshold":
            assert said.algorithm.pruner.threshold == 0.3


@pytest.mark.parametrize(("row", "samples"), [("mnist", 60_000), ("cifar10", 50_000), ("tinyimagenet", 100_000)])
def test_prunefl_reconfigures_as_often_as_its_authors_in_local_steps(row: str, samples: int) -> None:
    """Theirs: 50 rounds of 5 steps, and a half-life of 10,000 rounds; here a client has its share of the data."""
    (own, *_) = [c.settings for c in load(f"table3_{row}").cells if c.settings.algorithm.name == "prunefl"]
    said: Any = own
    steps = said.training.epochs * -(-samples // said.clients // said.training.batch_size)
    pruner = said.algorithm.pruner
    assert pruner.init == "client"
    assert pruner.every * steps == pytest.approx(250, rel=0.15)
    assert pruner.half_life * steps == pytest.approx(50_000, rel=0.03)


@pytest.mark.parametrize("row", ROWS)
def test_what_the_data_is_missing_from_is_said(row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOFLIP_DATA", str(tmp_path))
    for small in (False, True):
        blocks = plan(load(f"table3_{row}", ["seeds=[10]", "sweep.algorithm=[fedavg]"], small=small)).blocks
        with pytest.raises(InputError, match=r"(?s)table3_.*\.yaml:\d+: .*(AUTOFLIP_DATA|data\.root|preprocess)"):
            check_inputs(blocks, CellBuilder())


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_the_small_form_runs(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of every algorithm, with the models and the data of the small form."""
    *_, folder, overrides = ROWS[row]
    if not (SHARED / folder).exists():
        pytest.skip(f"real data not there: {SHARED / folder}")
    monkeypatch.setenv("AUTOFLIP_DATA", str(SHARED))
    short = [
        "rounds=2",
        "seeds=[10]",
        "evaluate_every=2",
        "data.train_samples=400",
        "data.test_samples=100",
        "cohort=2",
    ]
    blocks = plan(load(f"table3_{row}", [*short, *overrides], small=True)).blocks
    check(blocks)
    records = [record for block in blocks for record in run_block(block)]
    assert {"fedavg", "autoflip"} <= {record.algorithm for record in records}
    for record in records:
        assert record.costs.model_flops.dense is not None
        assert record.final_loss is not None
        assert record.final_loss < 12
