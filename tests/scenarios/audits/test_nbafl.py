"""NbAFL: its formulas, that nothing calls its epsilon a guarantee, and an audit that shows more than it claims."""

from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from audited_cells import SMALL, built
from torch import Tensor

from autoflip_secure.defenses.privacy.nbafl import NbAFL
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import NoisePlan, PrivacyView
from autoflip_secure.reports.study.privacy import protection, proven_sentences
from autoflip_secure.reports.wording.audit import sentences
from autoflip_secure.scenarios.audits.cell_audit import audit
from autoflip_secure.scenarios.audits.clients import client_epsilons
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.scenarios.running.privacy_planning import ledger, refuse_unproven

BASE = """
name: claimed
data: {kind: digits, train_samples: 1200}
model: {kind: mlp, hidden: [4]}
partition: iid
clients: 4
cohort: 4
training: {optimizer: sgd, lr: 0.3, batch_size: 16, epochs: 1}
seeds: [21]
"""
CLAIM = "algorithm: nbafl\nrounds: 2\nprivacy: {kind: nbafl, claimed_epsilon: 4, delta: 0.01, allow_unproven: true}\n"


def test_the_noise_of_the_formulas() -> None:
    ours = NbAFL(claimed_epsilon=50, delta=0.01, clip=1.0)
    every_round = NoisePlan(samples=(300, 400), cohort=2, rounds=25, uploads=25)
    c = sqrt(2 * log(1.25 / 0.01))
    assert ours.uplink_noise(every_round) == pytest.approx(c * 25 * (2 * 1.0 / 300) / 50)
    assert ours.uplink_noise(every_round) == pytest.approx(0.0104, abs=5e-5)
    assert ours.uplink_noise(every_round) / 2 == pytest.approx(0.005, abs=3e-4)
    assert ours.downlink_noise(every_round) == 0  # T <= L sqrt(N)
    seldom = NbAFL(claimed_epsilon=50, delta=0.01, clip=1.5, exposures=3)
    by_hand = 2 * c * 1.5 * sqrt(25**2 - 3**2 * 2) / (300 * 2 * 50)
    assert seldom.downlink_noise(every_round) == pytest.approx(by_hand)
    some = NoisePlan(samples=(300, 400, 300), cohort=2, rounds=25, uploads=25)
    assert seldom.downlink_noise(some) == 0
    assert "2 of 3 take part" in seldom.remarks(some)[0]


def test_what_a_client_sends() -> None:
    torch.manual_seed(3)
    weights, updates = torch.randn(7), torch.randn(3, 7)
    live = torch.tensor([True, True, False, True, True, True, False])
    weights, updates = weights * live, updates * live
    ours, plan = NbAFL(clip=0.5, claimed_epsilon=9), NoisePlan((10, 20, 30), 3, 4, 4)
    honest = torch.tensor([True, False, True])

    def draws() -> list[np.random.Generator]:
        return [np.random.default_rng(k) for k in range(3)]

    view = PrivacyView(
        1, honest, live, 3.0, ours.own_noise(plan), draws(), np.random.default_rng(9), weights=weights, plan=plan
    )
    found = ours.send(ours.start(), updates, view)
    for k, source in enumerate(draws()):
        if not honest[k]:
            assert torch.equal(found[k], updates[k])
            continue
        own = [float(weights[j] + updates[k, j]) for j in range(7) if live[j]]
        norm = sqrt(sum(value**2 for value in own))
        noise, place = source.standard_normal(7), 0
        for j in range(7):
            if not live[j]:
                assert found[k, j] == 0
                continue
            wanted = own[place] / max(1.0, norm / 0.5) + ours.uplink_noise(plan) * noise[j] - float(weights[j])
            assert float(found[k, j]) == pytest.approx(wanted, abs=2e-6)
            place += 1
    quiet = NbAFL(clip=0.5, claimed_epsilon=9, exposures=1)
    step, _ = quiet.publish(quiet.start(), torch.zeros(7), updates, replace(view, plan=NoisePlan((10, 20), 2, 4, 4)))
    assert bool((step[~live] == 0).all())
    assert bool((step[live] != 0).all())


class _Weights(Watcher):
    """Norms of the models that clients send."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.norms += (before.weights + sent).norm(dim=1).tolist()


def test_a_run_sends_clipped_weights_and_claims_nothing(tmp_path: Path) -> None:
    cell, trainer = built(tmp_path, CLAIM, BASE)
    assert min(cell.noise_plan.samples) == 300
    watch = _Weights()
    watch_cells([cell], trainer, watch)
    noise = sqrt(2 * log(1.25 / 0.01)) * 2 * (2 / 300) / 4 * sqrt(cell.problem.layout.size)
    assert len(watch.norms) == 8
    assert max(watch.norms) < 1 + 1.3 * noise
    record = ledger(cell)
    assert record is not None
    assert all(not one.proven and not one.clients and "not proven" in one.reason for one in record.guarantees)
    assert record.epsilon("public") is None
    assert record.claimed is not None
    assert (record.claimed.epsilon, record.claimed.delta, record.claimed.proven) == (4, 0.01, False)
    assert "not proven" in record.claimed.reason
    assert "T <= L sqrt(N)" in record.notes[0]
    (said,) = proven_sentences(record)
    assert "no guarantee: epsilon 4.00 at delta 0.01 is claimed for one sample and not proven" in said
    assert protection(cell.config["privacy"], "no guarantee") == "NbAFL, no guarantee, ε 4 claimed, not proven"


def test_it_runs_only_where_that_is_allowed(tmp_path: Path) -> None:
    cell, _ = built(tmp_path, CLAIM, BASE)
    assert cell.protocol.mechanism is not None
    bare = cell.protocol.model_copy(update={"privacy": NbAFL(claimed_epsilon=4)})
    with pytest.raises(InputError, match=r"claimed for one sample and not proven.*set privacy\.allow_unproven: true"):
        refuse_unproven(replace(cell, protocol=bare))
    path = tmp_path / "s.yaml"
    path.write_text(f"{BASE}algorithm: nbafl\n")
    with pytest.raises(InputError, match=r"algorithm = nbafl: .*set privacy: \{kind: nbafl, allow_unproven: true\}"):
        load(str(path))


def test_an_audit_shows_more_than_is_claimed(tmp_path: Path) -> None:
    """At the noise of the example in the specification: 0.005 of what two clipped models differ by."""
    cell, _ = built(tmp_path, CLAIM, BASE)
    (found,) = client_epsilons(cell, replace(SMALL, client_runs=16), 0.95)
    assert (found.proven, found.violated, found.claimed) == (None, False, 4)
    assert found.lower > 4
    assert found.refutes
    loud = CLAIM.replace("claimed_epsilon: 4", "claimed_epsilon: 0.004")
    (quiet,) = client_epsilons(built(tmp_path, loud, BASE)[0], replace(SMALL, client_runs=16), 0.95)
    assert quiet.lower < 4, "an attack that shows everything of everybody would show nothing"


@pytest.mark.slow
def test_the_audit_of_a_scenario_says_so(tmp_path: Path) -> None:
    cell, trainer = built(tmp_path, CLAIM, BASE)
    record = audit(cell, trainer, "claimed", replace(SMALL, client_runs=16))
    assert record.verdict == "no guarantee"
    said = " ".join(sentences([record]))
    assert "Refuted: ε 4.00 was claimed and not proven" in said
    assert "claimed and not proven: ε 4.00 at δ 0.01 for one sample" in said
    summed = CLAIM + "secure_sum: {parties: 3, updates: true}\n"
    assert client_epsilons(built(tmp_path, summed, BASE)[0], replace(SMALL, client_runs=16), 0.95)[0].lower > 4
