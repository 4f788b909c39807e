"""Trained masks in a scenario: what does not go with them is refused before anything runs, with the way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import FrozenStart, Role, SeedView, TrainedMask, straight_through
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout, Segment
from autoflip_secure.pruning.spafl import SpaFL
from autoflip_secure.scenarios.config import tables
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import CellSpec, resolve
from autoflip_secure.scenarios.config.personal import not_audited
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.data.datasets import Digits
from autoflip_secure.scenarios.models.chains import Mlp
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.plugin_trial import Stage, try_out

TINY = """
clients: 6
cohort: 3
rounds: 2
seeds: [4]
training: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
partition: {kind: pathological, classes_per_client: 2}
"""
PM, MASK = "algorithm=fedpm", ("algorithm=fedmask", "evaluation=personal")
SPAFL = ("algorithm=spafl", "evaluation=personal")


def cells(*overrides: str) -> tuple[CellSpec, ...]:
    return resolve(Document.parse(TINY, "s.yaml"), overrides).cells


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((PM, "privacy={kind: sample_level, noise_multiplier: 1}"), r"privacy\.kind.*sample by sample.*privacy: none"),
        ((PM, "privacy={kind: client_level, noise_multiplier: 1}"), r"privacy\.kind.*bits.*randomised response"),
        ((*MASK, "privacy={kind: client_level, noise_multiplier: 1}"), r"privacy\.kind.*bits"),
        (
            ("algorithm={name: mine, pruner: fedpm, aggregator: agreement}",),
            r"agreement: has clients explore the weights first.*use an aggregator without guidance",
        ),
        (("algorithm={name: mine, pruner: fedpm, aggregator: fltrust}",), r"fltrust: has the server train the weights"),
        (
            ("algorithm={name: mine, pruner: fedpm, aggregator: mean, local_rule: fedlex}",),
            r"local_rule.*fedlex: is about weights.*use none, proximal or one_shot",
        ),
        (
            ("algorithm={name: mine, pruner: fedmask, aggregator: mean, local_rule: regrow}", "evaluation=personal"),
            r"regrow: is about weights",
        ),
        (
            ("algorithm={name: mine, pruner: own_erk, aggregator: mean, local_rule: one_shot}",),
            r"one_shot: is about scores",
        ),
        (
            ("algorithm={name: mine, pruner: fedpm, aggregator: mean, local_rule: one_shot}",),
            r"one_shot: moves each client's mask.*with masks of their own, or one that collects them: fedmask$",
        ),
        ((PM, "measures=[stability]"), r"measures = stability.*clients send bits; leave it out"),
        ((PM, "privacy={kind: nbafl, allow_unproven: true}"), r"nbafl: does not protect what the pruner fedpm does"),
        (("algorithm=fedmask",), r"evaluation = global.*: with the pruner fedmask.*set evaluation: personal"),
        ((*MASK, "secure_sum={parties: 3, updates: true}"), r"single client holds is that client's value"),
        ((*MASK, "algorithm.aggregator={kind: median}"), r"median: works with whole rows"),
        (("algorithm=spafl",), r"evaluation = global.*: with the pruner spafl.*set evaluation: personal"),
        ((*SPAFL, "privacy={kind: sample_level, noise_multiplier: 1}"), r"privacy\.kind.*sample by sample"),
        ((*SPAFL, "privacy={kind: client_level, noise_multiplier: 1}"), r"models are the clients' own.*without noise"),
        ((*SPAFL, "measures=[stability]"), r"measures = stability.*clients send thresholds; leave it out"),
        (
            ("algorithm={name: mine, pruner: spafl, aggregator: mean, local_rule: one_shot}", "evaluation=personal"),
            r"one_shot: is about scores, and with the pruner spafl.*use none, proximal or sparse_units",
        ),
        (
            ("algorithm={name: mine, pruner: fedpm, aggregator: mean, local_rule: sparse_units}",),
            r"sparse_units: is about thresholds, and with the pruner fedpm clients train scores.*or one_shot",
        ),
        (
            ("algorithm={name: mine, pruner: none, aggregator: mean, local_rule: sparse_units}",),
            r"sparse_units: is about thresholds of masks.*trains none; use the pruner spafl",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cells(*overrides)


@pytest.mark.parametrize("kind", sorted(tables.AGGREGATORS))
def test_every_aggregator_works_on_bits_or_is_refused_with_the_reason(kind: str) -> None:
    cls = tables.AGGREGATORS[kind]
    overrides = (f"algorithm={{name: mine, pruner: fedpm, aggregator: {kind}}}",)
    if cls.needs_guidance or cls.needs_clean_data:
        with pytest.raises(InputError, match="with the pruner fedpm nobody trains weights"):
            cells(*overrides)
    else:
        assert cells(*overrides)


@pytest.mark.parametrize("kind", ["fedpm", "fedmask", "spafl"])
def test_no_audit_looks_for_updates_in_bits(kind: str) -> None:
    assert re.search(
        f"its pruner {kind} has clients train masks.*audit another", str(not_audited(tables.PRUNERS[kind]()))
    )


def test_a_model_without_hidden_weights_has_nothing_to_mask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "linear_models.py").write_text(
        "from torch import nn\n\ndef linear():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = resolve(Document.parse(TINY, "s.yaml"), (*MASK, "model='linear_models:linear'"))
    builder = CellBuilder()
    with pytest.raises(InputError, match=r"fedmask: no tensor of the model would have a mask.*hidden layer"):
        builder.cell(loaded.cells[0], loaded.cells[0], builder.trainer(loaded.cells[0]).device)
    (tmp_path / "bare_models.py").write_text(
        "from torch import nn\n\ndef bare():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))\n"
    )
    loaded = resolve(Document.parse(TINY, "s.yaml"), (*SPAFL, "model='bare_models:bare'"))
    with pytest.raises(InputError, match=r"spafl: no layer of the model has a weight and a bias.*with biases"):
        builder.cell(loaded.cells[0], loaded.cells[0], builder.trainer(loaded.cells[0]).device)


@pytest.mark.parametrize("algorithm", [(PM,), MASK, SPAFL], ids=["fedpm", "fedmask", "spafl"])
def test_a_scenario_runs_as_it_is_named(algorithm: tuple[str, ...]) -> None:
    loaded = resolve(Document.parse(TINY, "s.yaml"), algorithm)
    (block,) = plan(loaded).blocks
    (record,) = run_block(block)
    assert record.algorithm == algorithm[0].removeprefix("algorithm=")
    assert record.config["algorithm"]["aggregator"]["weighting"] == "equal"


class Majority(TrainedMask):
    """Positive scores live; the server holds how many clients want each weight. Biases are averaged as numbers."""

    def role(self, segment: Segment) -> Role:
        return "scored" if segment.kind == "weight" else "shared"

    def begin(self, view: SeedView) -> FrozenStart:
        weights = view.layout.where(*(one for one in view.layout if one.kind == "weight"))
        return FrozenStart(view.initial, torch.where(weights, 0.5, view.initial))

    def mask_of(self, scores: Tensor, uniform: Tensor | None) -> Tensor:
        return straight_through((scores >= 0).to(scores), scores.sigmoid())

    def scores(self, held: Tensor) -> Tensor:
        return held.clamp(0.02, 0.98).logit()

    def live(self, held: Tensor, uniform: Tensor) -> Tensor:
        return held >= 0.5


class Hinted(Majority):
    def role(self, segment: Segment) -> Role:
        return "masked"  # type: ignore[return-value]


class Forgetful(Majority):
    def role(self, segment: Segment) -> Role:
        return "scored" if segment.hidden else "personal"


class Unsure(Majority):
    def begin(self, view: SeedView) -> FrozenStart:
        return FrozenStart(view.initial, 2 + view.initial.abs())


class Smooth(Majority):
    def mask_of(self, scores: Tensor, uniform: Tensor | None) -> Tensor:
        return scores.sigmoid()


class Together(Majority):
    def mask_of(self, scores: Tensor, uniform: Tensor | None) -> Tensor:
        return straight_through((scores >= scores.mean()).to(scores), scores.sigmoid())


class Endless(Majority):
    def scores(self, held: Tensor) -> Tensor:
        return held.logit()


class Names(Majority):
    own: ClassVar[bool] = True


class Soft(SpaFL):
    def unit_mask(self, excess: Tensor) -> Tensor:
        return excess.sigmoid()


@pytest.fixture(scope="module")
def stage() -> Stage:
    data = Digits(train_samples=120, test_samples=50).load()
    module = Mlp(hidden=(8,)).build(data.x_train[:2], 10, 0)
    layout = Layout.of(module)
    return Stage(data, layout, Chain.of(module, data.x_train[:1]), layout.vector(module), 6, 4, 5)


@pytest.mark.parametrize(
    ("pruner", "message"),
    [
        (Hinted, r"role of dense1\.weight is 'masked'; give one of scored, shared, personal, fixed"),
        (Forgetful, r"role gives 'personal', and clients remember nothing; set `own"),
        (Unsure, r"held should be probabilities in \[0, 1\]"),
        (Smooth, r"mask_of should give 0 and 1: straight_through"),
        (Together, r"another mask when other scores stand beside it"),
        (Endless, r"scores of probabilities 0 or 1 are not finite"),
        (Soft, r"unit_mask should give 0 and 1"),
        (Names, r"kept = '' is no row of client_rows"),
    ],
)
def test_a_pruner_from_outside_that_cannot_run_is_refused(
    stage: Stage, pruner: type[TrainedMask], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        try_out("algorithm.pruner", pruner(), stage)
    try_out("algorithm.pruner", Majority(), stage)
    try_out("algorithm.pruner", SpaFL(), stage)


def test_a_pruner_from_outside_has_every_hook_of_those_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    algorithm = f"algorithm={{name: mine, pruner: '{Path(__file__).stem}:Majority', aggregator: mean}}"
    loaded = resolve(Document.parse(TINY, "s.yaml"), (algorithm,))
    (block,) = plan(loaded).blocks
    (record,) = run_block(block)
    scores, biases = 64 * 8 + 8 * 10, 8 + 10
    assert record.rounds[0].bytes.uplink_values == 3 * (13 + scores // 8 + 4 * biases)
    assert record.rounds[1].bytes.downlink_values == 3 * (13 + 4 * (scores + biases))
