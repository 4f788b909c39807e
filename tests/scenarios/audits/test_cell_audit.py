"""Audits on real runs: the check holds for what is built, and fails loudly when a known bug is planted."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from audited_cells import BASE, DISTRIBUTED, SMALL, built
from planted_faults import FAULTS, planted
from sizes import sized
from torch import Tensor

from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.records.audit import AuditRecord, EmpiricalEpsilon
from autoflip_secure.scenarios.audits.cell_audit import audit
from autoflip_secure.scenarios.audits.claims import audited, claim
from autoflip_secure.scenarios.audits.client_canaries import Canaries, Rerun
from autoflip_secure.scenarios.audits.clients import _runs, bounds_of, client_epsilons
from autoflip_secure.scenarios.audits.samples import sample_epsilons
from autoflip_secure.scenarios.audits.view import Effort, Views, victim_of
from autoflip_secure.scenarios.running.privacy_planning import ledger
from autoflip_secure.training import Trainer


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
    found = client_epsilons(cell, replace(SMALL, client_runs=sized(12, 40)), 0.95)
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
        Rerun(
            **{f.name: getattr(cell, f.name) for f in fields(Cell)} | {"seed": 500 + i, "key": f"{i}"},
            original=cell, secret_cohorts=True,
        )
        for i in range(2)
    ]  # fmt: skip
    canaries = Canaries(torch.randn(60, cell.problem.layout.size), {run.seed: torch.ones(60) for run in runs})
    watch_cells(runs, canaries, Cohorts())
    assert len({tuple(sorted(came)) for came in seen}) > len(seen) // 2, "drawn anew"


def test_an_observer_of_models_reads_the_step_through_the_servers_momentum(tmp_path: Path) -> None:
    """Canaries train nothing, so the steps, and what the observer makes of them, are those of a run without it."""
    cell, _ = built(tmp_path, CENTRAL)
    heavy = cell.protocol.model_copy(update={"server_lr": 0.5, "server_momentum": 0.9})
    claimed = claim(audited(cell), "public")
    assert claimed is not None
    plain, fast = (
        _runs(replace(cell, protocol=protocol), claimed, "public", 6, "everything", (1, 0))[0]
        for protocol in (cell.protocol, heavy)
    )
    torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)


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


@pytest.mark.slow
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
