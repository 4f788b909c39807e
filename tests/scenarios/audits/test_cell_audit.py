"""Audits on real runs: the check holds for what is built, and fails loudly when a known bug is planted."""

import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from planted_faults import FAULTS, planted
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.server import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.audit import AuditRecord, EmpiricalEpsilon, verdict_of
from autoflip_secure.scenarios.audits.cell_audit import _or_noted, audit, span
from autoflip_secure.scenarios.audits.claims import audited, claim, quieter, scaled
from autoflip_secure.scenarios.audits.clients import _Canaries, _Rerun, _runs, bounds_of, client_epsilons
from autoflip_secure.scenarios.audits.membership import _known, _lira_of_each
from autoflip_secure.scenarios.audits.metrics import auc_with_interval, mean_with_interval, membership, rate_at
from autoflip_secure.scenarios.audits.samples import sample_epsilons
from autoflip_secure.scenarios.audits.sweep_audit import audit_scenario
from autoflip_secure.scenarios.audits.view import Effort, Views, victim_of
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.scenarios.store.fingerprints import input_digests
from autoflip_secure.scenarios.store.ledgers import under_conditions
from autoflip_secure.training import Trainer

BASE = """
name: audited
data: digits
model: {kind: mlp, hidden: [16]}
partition: {kind: pathological, classes_per_client: 2}
clients: 10
cohort: 5
training: {optimizer: sgd, lr: 0.3, batch_size: 16, epochs: 2}
exploration: {epochs: 1}
seeds: [21]
"""
SMALL = Effort(
    targets=3, shadows=8, rounds=2, models=2, federations=4, runs=120, samples=60, gradient_runs=40, client_runs=40,
    most=100,
)  # fmt: skip


def built(folder: Path, more: str, base: str = BASE) -> tuple[Cell, Trainer]:
    path = folder / "audited.yaml"
    path.write_text(base + more + ("" if "rounds:" in more else "rounds: 4\n"))
    block = plan(load(str(path))).blocks[0]
    builder = CellBuilder()
    trainer = builder.trainer(block.cells[0])
    return builder.cell(block.cells[0], block.cells[0], torch.device(trainer.device)), trainer


def attacked_samples(cell: Cell, trainer: Trainer) -> list[EmpiricalEpsilon]:
    views = Views()
    watch_cells([cell], trainer, views)
    return sample_epsilons(cell, trainer, views, victim_of(cell, views), SMALL, 0.95)


PRIVATE = "algorithm: autoflip\nprivacy: {kind: sample_level, clip: 1.0, target_epsilon: 1}\n"


@pytest.mark.slow
def test_dp_sgd_holds(tmp_path: Path) -> None:
    cell, trainer = built(tmp_path, PRIVATE)
    found = attacked_samples(cell, trainer)
    assert [(bound.part, bound.runs > 1) for bound in found] == [("everything", False), ("one training", True)]
    assert all(bound.proven is not None and bound.lower <= bound.proven and not bound.violated for bound in found)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["no noise", "clip after noise"])
def test_planted_bugs_of_dp_sgd_are_found_on_the_scenarios_own_model(tmp_path: Path, fault: str) -> None:
    with planted(fault) as spoil:
        found = attacked_samples(*spoil(*built(tmp_path, PRIVATE)))
    assert any(bound.violated for bound in found), [(b.lower, b.proven) for b in found]


CENTRAL = "algorithm: fedavg\nsampling: poisson\nprivacy: {kind: client_level, clip: 1.0, target_epsilon: 1}\n"
FIXED = "algorithm: fedavg\nprivacy: {kind: client_level, clip: 1.0, noise_multiplier: 3}\n"
DISTRIBUTED = "algorithm: autoflip\nprivacy: {kind: client_level, clip: 1.0, noise: distributed, noise_multiplier: 4}\n"
ADAPTIVE = "algorithm: fedavg\nprivacy: {kind: client_level, clip: {start: 0.5}, noise_multiplier: 1}\n"


SUMMED = DISTRIBUTED.replace("autoflip", "fedavg") + "secure_sum: {parties: 3, updates: true}\n"


@pytest.mark.parametrize(
    "mode",
    [
        CENTRAL,
        pytest.param(DISTRIBUTED, marks=pytest.mark.slow),
        pytest.param(FIXED, marks=pytest.mark.slow),
        pytest.param(SUMMED, marks=pytest.mark.slow),
        pytest.param(ADAPTIVE, marks=pytest.mark.slow),
    ],
)
def test_client_level_holds(tmp_path: Path, mode: str) -> None:
    cell, _ = built(tmp_path, mode)
    found = client_epsilons(cell, replace(SMALL, client_runs=sized(20, 40)), 0.95)
    assert found, "something is proven, so something is audited"
    assert len(found) == bounds_of(cell)
    made = ledger(cell)
    assert made is not None
    for bound in found:
        assert bound.proven is not None
        assert not bound.violated
        assert 0 <= bound.lower < bound.proven
        if bound.noise == "as run":
            assert bound.proven == made.epsilon(bound.observer)
    assert {bound.delta for bound in found} == {e.delta for g in made.guarantees for e in g.clients}


def test_the_observer_of_secret_cohorts_does_not_know_who_came(tmp_path: Path) -> None:
    """Where all come who are there, the cohort itself would tell who is not: attackers must look at everybody alike."""
    cell, _ = built(tmp_path, CENTRAL, BASE.replace("cohort: 5", "cohort: 10"))
    claimed = claim(audited(cell), "public")
    assert claimed is not None
    scores, thrown = _runs(cell, claimed, "public", 40, "everything", (1, 0))
    assert 0 < thrown.float().mean() < 1
    assert (scores != 0).all()


def test_cohorts_drawn_anew_have_as_many_honest_clients(tmp_path: Path) -> None:
    """Where clients bring the noise, the proof is given how many came."""
    crowd = BASE.replace("clients: 10", "clients: 60").replace("cohort: 5", "cohort: 4")
    attack = "attack: {kind: gaussian_noise, scope: 0.4}\n"
    cell, _ = built(tmp_path, DISTRIBUTED.replace("autoflip", "fedavg") + attack, crowd)
    claimed = claim(audited(cell), "public")
    assert claimed is not None
    assert claimed.relation == "replace one client"
    seen: list[set[int]] = []

    class Cohorts(Watcher):
        def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
            came = set(clients[~cell.malicious_clients[clients]].tolist())
            assert len(came) == int((~cell.malicious_clients[original.cohort(after.round)]).sum())
            seen.append(came)

    original = cell
    runs = [
        _Rerun(
            **{f.name: getattr(cell, f.name) for f in fields(Cell)} | {"seed": 500 + i, "key": f"{i}"},
            original=cell, secret_cohorts=True,
        )
        for i in range(2)
    ]  # fmt: skip
    canaries = _Canaries(torch.randn(60, cell.problem.layout.size), {run.seed: torch.ones(60) for run in runs})
    watch_cells(runs, canaries, Cohorts())
    assert len({tuple(sorted(came)) for came in seen}) > len(seen) // 2, "drawn anew"


def at_target(mode: str, epsilon: float) -> str:
    return re.sub(r"(noise_multiplier: \d+|target_epsilon: \d+)\}", f"target_epsilon: {epsilon}}}", mode)


FOUND = {
    "central": (CENTRAL, FAULTS[1:-1]),
    "distributed": (DISTRIBUTED, FAULTS[1:]),
}
QUICK = ()  # a quick one is test_rounds_that_nobody_counted_are_found


@pytest.mark.parametrize(
    ("mode", "fault", "epsilon"),
    [
        pytest.param(mode, fault, epsilon, marks=[] if (mode, fault, epsilon) in QUICK else pytest.mark.slow)
        for mode, (_, faults) in FOUND.items()
        for fault in faults
        for epsilon in (1, 2, 4, 8)
    ],
)
def test_every_planted_fault_is_found_at_client_level(tmp_path: Path, mode: str, fault: str, epsilon: int) -> None:
    with planted(fault) as spoil:
        cell, _ = spoil(*built(tmp_path, at_target(FOUND[mode][0], epsilon) + "rounds: 8\n"))
        found = client_epsilons(cell, Effort(client_runs=sized(60, 128)), 0.98)
    assert any(bound.violated for bound in found), [(b.lower, b.proven) for b in found]


def test_rounds_that_nobody_counted_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger forgets all rounds but the first."""
    cell, _ = built(tmp_path, CENTRAL + "rounds: 8\n")

    def forgetful(cell: Cell) -> Any:
        whole = schedule_of(cell)
        return replace(whole, rounds=whole.rounds[:1])

    monkeypatch.setattr("autoflip_secure.scenarios.audits.claims.schedule_of", forgetful)
    assert any(bound.violated for bound in client_epsilons(cell, replace(SMALL, client_runs=20), 0.95))


@pytest.mark.slow
def test_whole_audit_without_privacy(tmp_path: Path) -> None:
    cell, trainer = built(tmp_path, "algorithm: autoflip\n")
    told: list[str] = []
    found = audit(cell, trainer, "audited", SMALL, told.append)
    assert found.privacy is None
    assert found.verdict == "no guarantee"
    assert not any(bound.violated or bound.can_fail for bound in found.empirical)
    assert all(bound.proven is None for bound in found.empirical)
    views = {look.view: look for look in found.labels}
    assert views["plain"].accuracy.low > 0.9 > views["plain"].chance, "the leak is there when nothing protects"
    assert views["securely summed"].accuracy.low < views["securely summed"].chance + 0.05
    against = [(look.view.split()[0], look.attack) for look in found.membership]
    attacks = ["loss threshold", "LiRA", "LiRA on gradients"]
    assert against == [("updates", name) for name in attacks] + [("final", name) for name in attacks[:2]]
    assert found.membership[2].auc.low > 0.5, "updates without noise tell who is in"
    assert {bound.confidence for bound in found.empirical} == {0.975}, "two bounds share one error of 5 %"
    assert len(told) >= 4
    assert AuditRecord.model_validate_json(found.model_dump_json()) == found
    again = audit(cell, trainer, "audited", SMALL)
    assert again.model_dump_json() == found.model_dump_json(), "an audit repeats bit for bit"


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
