"""What an audit of a cell leaves out, says and needs before it gives a verdict."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from audited_cells import BASE, DISTRIBUTED, SMALL, built
from torch import nn

from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.records.audit import EmpiricalEpsilon, verdict_of
from autoflip_secure.scenarios.audits.cell_audit import _or_noted, audit, span
from autoflip_secure.scenarios.audits.claims import audited, claim, quieter, scaled
from autoflip_secure.scenarios.audits.membership import _known, _lira_of_each
from autoflip_secure.scenarios.audits.metrics import auc_with_interval, mean_with_interval, membership, rate_at
from autoflip_secure.scenarios.audits.sweep_audit import audit_scenario
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.ledgers import under_conditions


def test_cells_are_audited_under_the_conditions_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their private draws are those of a run under the same conditions, and no others; where nothing is private there
    are no conditions."""
    path = tmp_path / "two.yaml"
    path.write_text(
        f"{BASE}rounds: 1\nsweep:\n  product:\n"
        "    privacy: [none, {kind: sample_level, clip: 1, noise_multiplier: 2}]\n"
    )
    work, seen, read = plan(load(str(path))), list[Cell](), list[dict[str, str]]()

    def only_looks(cell: Cell, *_: object) -> SimpleNamespace:
        def keep(update: dict[str, dict[str, str]]) -> SimpleNamespace:
            read.append(update["inputs"])
            return SimpleNamespace(model_dump_json=lambda indent: "{}")

        seen.append(cell)
        return SimpleNamespace(model_copy=keep)

    monkeypatch.setattr("autoflip_secure.scenarios.audits.sweep_audit.audit", only_looks)
    audit_scenario(work, tmp_path / "out", lambda _: None)
    inputs = input_digests(spec.settings for spec in work.cells)
    expected = [spec.conditions for block in under_conditions(work.blocks, inputs) for spec in block.cells]
    assert [cell.conditions for cell in seen] == expected
    assert expected[0] == "" != expected[1]
    assert read == [inputs, inputs]  # what it read is kept, private or not


@pytest.mark.slow
def test_noise_protects_labels_at_client_level(tmp_path: Path) -> None:
    cell, trainer = built(tmp_path, DISTRIBUTED)
    few = replace(SMALL, shadows=4, runs=40, gradient_runs=4, client_runs=8)  # of what is not looked at
    looks = {look.view: look for look in audit(cell, trainer, "audited", few).labels}
    assert looks["plain"].accuracy.value > 0.9
    assert looks["as sent"].accuracy.value < 0.6


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


@pytest.mark.slow
def test_attacks_that_the_model_refuses_are_left_out_and_named(tmp_path: Path) -> None:
    """BatchNorm takes no batch of one sample, which the coins of some attacks leave."""
    base = BASE.replace("model: {kind: mlp, hidden: [16]}", f"model: {{kind: custom, factory: '{__name__}:bn'}}")
    base = base.replace("partition: {kind: pathological, classes_per_client: 2}", "partition: iid")
    module = ModuleType("audited_models")
    module.bn = with_batch_norm  # type: ignore[attr-defined]
    sys.modules["audited_models"] = module
    cell, trainer = built(tmp_path, "algorithm: fedavg\n", base.replace(__name__, "audited_models"))
    found = audit(cell, trainer, "audited", SMALL)
    notes = [note for note in found.notes if "was not run: BatchNorm" in note]
    assert notes
    assert [look.attack for look in found.membership][:3] == ["loss threshold", "LiRA", "LiRA on gradients"]


def test_a_training_that_diverged_tells_nothing_and_stops_nothing() -> None:
    source = torch.Generator().manual_seed(1)
    included = torch.rand(12, 40, generator=source) < 0.5
    phi = 3.0 * included + torch.randn(12, 40, generator=source)
    whole = _lira_of_each(phi[:2], phi[2:], included[2:])
    broken = phi.clone()
    broken[1], broken[5] = torch.nan, torch.inf
    found = _lira_of_each(broken[:2], broken[2:], included[2:])
    kept = [2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert found.isfinite().all()
    assert torch.equal(found[0], _lira_of_each(phi[:1], phi[kept], included[kept])[0])
    assert not torch.equal(found[0], whole[0])
    assert len(set(found[1].tolist())) == 1
    assert _known(torch.full((2, 3), torch.nan)).tolist() == [[0.0] * 3] * 2


def test_an_attack_without_samples_is_named() -> None:
    notes: list[str] = []
    assert _or_noted(notes, "updates", []) == []
    assert notes == ["membership inference against updates was not run: too few samples"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (9000, "2.5 h")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_no_honest_client_is_a_clear_error(tmp_path: Path) -> None:
    cell, trainer = built(tmp_path, "attack: {kind: label_flip, share: 1.0, scope: 1.0}\n")
    with pytest.raises(InputError, match="no honest client with at least 8 samples"):
        audit(cell, trainer, "audited", SMALL)


def bound_of(lower: float, ceiling: float, proven: float | None) -> EmpiricalEpsilon:
    return EmpiricalEpsilon(
        unit="sample", observer="server", what="x", part="everything", noise="as run", factor=1.0, relation=None,
        runs=1, canaries=10, guesses=10, right=5, delta=1e-3, confidence=0.95, lower=lower, ceiling=ceiling,
        proven=proven, violated=proven is not None and lower >= proven,
    )  # fmt: skip


def test_a_verdict_needs_an_attack_that_could_have_failed() -> None:
    """All noise gone at target 8, and the best that could be shown is 4.4: that is no pass."""
    blind, sound, broken, bare = (
        bound_of(*numbers) for numbers in ((2.6, 4.4, 6.6), (0.4, 9.0, 0.9), (1.1, 9.0, 0.9), (3.0, 4.4, None))
    )
    assert verdict_of([]) == verdict_of([bare]) == "no guarantee"
    assert verdict_of([blind, bare]) == "cannot tell"
    assert verdict_of([blind, sound]) == "holds"
    assert verdict_of([blind, sound, broken]) == "violated"


def test_calibrated_noise_changes_noise_alone(tmp_path: Path) -> None:
    clip = "{start: 0.5, noise_multiplier: 3}, exploration_noise_multiplier: 5, noise_multiplier: 4"
    cell, _ = built(tmp_path, f"algorithm: fedavg\nprivacy: {{kind: client_level, clip: {clip}}}\n")
    louder = scaled(cell, 2.0)
    assert louder.noise_multipliers == tuple(2 * noise for noise in cell.noise_multipliers)
    before, after = (one.protocol.model_dump() for one in (cell, louder))
    for settings in (before["privacy"], before["privacy"]["clip"]):
        name = "noise_multiplier" if "start" in settings else "exploration_noise_multiplier"
        settings[name] *= 2
    assert before == after
    quiet, loud = (claim(audited(one), "public") for one in (cell, louder))
    assert quiet is not None
    assert loud is not None
    assert quiet.count
    assert loud.count == quieter(quiet.count, 2.0)


def test_judge_by_hand() -> None:
    truth = np.array([True] * 4 + [False] * 100)
    scores = np.r_[[9.0, 8.0, 0.5, -1.0], np.linspace(-0.99, 0.99, 100)]
    assert rate_at(truth, scores, 0.01).value == 0.5
    assert rate_at(truth, scores, 0.0).value == 0.5
    assert rate_at(truth, scores, 1.0).value == 1.0
    rng = np.random.default_rng(0)
    by_pairs = np.mean([[(a > b) + 0.5 * (a == b) for b in scores[4:]] for a in scores[:4]])
    area = auc_with_interval(truth, scores, rng)
    assert area.value == pytest.approx(by_pairs)
    assert area.low <= area.value <= area.high
    result = membership("loss threshold", "model", truth, scores, rng)
    assert (result.members, result.others) == (4, 100)
    assert result.roc[0] == (0.0, 0.0)
    assert result.roc[-1] == (1.0, 1.0)
    assert mean_with_interval([0.2, 0.4, 0.6]).value == pytest.approx(0.4)
    assert mean_with_interval([0.4]).low == 0.0


def test_coverage_of_the_area() -> None:
    """Two normal populations: the area is known, and the interval covers it about as often as it says."""
    from scipy.stats import norm

    rng, truth = np.random.default_rng(5), np.arange(120) < 60
    known, hits = norm.cdf(1 / 2**0.5), 0
    for _ in range(60):
        area = auc_with_interval(truth, rng.normal(truth.astype(float)), rng)
        hits += area.low <= known <= area.high
    assert hits >= 51, "95 % of 60 is 57; fewer than 51 has a chance below 1 %"
