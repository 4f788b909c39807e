"""PruneFL and EFLPrune in a scenario: what is refused and with which way out, the ledger, and secure sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_blocks import running

from autoflip_secure.errors import InputError, UnsupportedModelError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import CellSpec, resolve
from autoflip_secure.scenarios.config.personal import not_audited
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.parties import party_pool
from autoflip_secure.scenarios.running.privacy_planning import ledger, planned

TINY = """
clients: 6
cohort: 3
rounds: 2
seeds: [4]
training: {epochs: 1, batch_size: 32}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8, 8]}
"""
PRIVATE = "privacy={kind: client_level, noise_multiplier: 1}"
SAMPLES = "privacy={kind: sample_level, noise_multiplier: 1}"
SECURE = "secure_sum={parties: 3, updates: true}"
OPEN = ("algorithm=prunefl", "algorithm.pruner.init=none", "algorithm.pruner.every=1")


def cells(*overrides: str) -> tuple[CellSpec, ...]:
    return resolve(Document.parse(TINY, "s.yaml"), overrides).cells


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((PRIVATE,), r"client_level: with the pruner prunefl one client trains alone .* noise; set .*init: none, or"),
        ((SAMPLES,), r"sample_level: with the pruner prunefl one client trains alone before round 1"),
        ((SECURE,), r"true: with the pruner prunefl one client .* mask, which no sum hides; set algorithm.pruner.init"),
        (("algorithm.pruner.time_constant=0",), r"time_constant"),
        (("algorithm.pruner.share=1",), r"share"),
        (("algorithm.pruner.importance=size",), r"importance"),
        (("algorithm.pruner.every=0",), r"every"),
    ],
)
def test_what_phase_0_does_not_go_with_is_refused_with_the_way_out(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cells("algorithm=prunefl", *overrides)
    assert cells("algorithm=prunefl", "secure_sum=none")


@pytest.mark.slow
def test_importances_need_a_bound_and_are_a_release_and_dp_sgd_has_none() -> None:
    def checked(*overrides: str) -> None:
        check(plan(resolve(Document.parse(TINY, "s.yaml"), (*OPEN, *overrides))).blocks)

    with pytest.raises(InputError, match=r"send importance beside .*without a bound, .*give algorithm.pruner.bound"):
        checked(PRIVATE)
    with pytest.raises(InputError, match=r"prunefl has clients sum up their gradients, and DP-SGD .*privacy: none"):
        checked(SAMPLES)
    with pytest.raises(InputError, match=r"DP-SGD covers updates alone"):
        checked(SAMPLES, "algorithm.pruner.importance=update")
    checked(PRIVATE, "algorithm.pruner.bound=1")
    (spec,) = cells(*OPEN, PRIVATE, "algorithm.pruner.bound=1")
    cell = CellBuilder().cell(spec, spec, torch.device("cpu"))
    first = planned(cell)[0]
    assert (first.name, first.steps) == ("updates, importance", 2)
    record = ledger(cell)
    assert record is not None
    assert any("importance beside their updates" in note for note in record.notes)


@pytest.mark.slow
def test_masks_of_eflprune_cost_nothing_and_go_with_any_privacy() -> None:
    for privacy in (PRIVATE, SAMPLES):
        overrides = ("algorithm=eflprune", privacy, "training.batch_size=8")
        check(plan(resolve(Document.parse(TINY, "s.yaml"), overrides)).blocks)
        (spec,) = cells(*overrides)
        found = planned(CellBuilder().cell(spec, spec, torch.device("cpu")))
        assert {one.name for one in found} <= {"updates", "training"}
        assert all("masks" in one.post_processing for one in found)


def test_an_audit_would_underestimate_a_client_that_begins_alone() -> None:
    (alone,), (plain,) = cells("algorithm=prunefl"), cells(*OPEN)
    reason = not_audited(alone.settings.algorithm.pruner)
    assert reason is not None
    assert "one client train alone before round 1" in reason
    assert "set algorithm.pruner.init: none, or audit another" in reason
    assert not_audited(plain.settings.algorithm.pruner) is None


NETS = """
import torch
from torch import nn

class Waves(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, classes)

    def forward(self, x):
        return self.last(torch.fft.fft(self.second(self.first(x.flatten(1)))).real)

def waves(num_classes, input_shape):
    return Waves(num_classes)
"""


@pytest.mark.slow
def test_a_time_model_needs_operations_that_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waving_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ("model=waving_nets:waves", *OPEN)
    with pytest.raises(UnsupportedModelError, match=r"'prunefl' counts the model's multiply-adds, .*time: uniform"):
        check(plan(resolve(Document.parse(TINY, "s.yaml"), own)).blocks)
    check(plan(resolve(Document.parse(TINY, "s.yaml"), (*own, "algorithm.pruner.time=uniform"))).blocks)


@pytest.mark.parametrize("algorithm", ["prunefl", "eflprune"])
def test_named_algorithms_run_with_an_attack(algorithm: str) -> None:
    quick = ("algorithm.pruner.init_passes=60",) if algorithm == "prunefl" else ()
    overrides = (f"algorithm={algorithm}", "attack={kind: gaussian_noise, sigma: 0.1, scope: 0.3}", *quick)
    (record,) = run_block(plan(resolve(Document.parse(TINY, "s.yaml"), overrides)).blocks[0])
    assert record.algorithm == algorithm
    assert len(record.rounds) == 2
    assert record.rounds[-1].density < 1


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["prunefl", "eflprune"])
def test_secure_sums_prune_alike(algorithm: str) -> None:
    more = OPEN if algorithm == "prunefl" else ("algorithm=eflprune",)
    text = TINY + "sweep: {product: {secure_sum: [none, {parties: 2, updates: true}]}}\n"
    work = plan(resolve(Document.parse(text, "s.yaml"), more), block_cells=4).blocks
    with party_pool(work) as pool, running(work, 1, lambda block, share: None, pool) as stream:
        plain, secure = (record for _, records in stream for record in records)
    assert secure.secure_sum is not None
    assert [one.density for one in secure.rounds] == pytest.approx([one.density for one in plain.rounds], abs=0.02)
    assert secure.final_loss == pytest.approx(plain.final_loss, abs=0.02)
    assert not any("beyond" in event for event in secure.events)
    assert secure.rounds[-1].density < 1
    names = secure.secure_sum.server_sees
    assert ("importance: their weighted sum" in names) == (algorithm == "prunefl")
